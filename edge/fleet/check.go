package fleet

import "reprise/hlc"

// check follows the events of one device, whose numbers are to be 1, 2, 3, … and
// whose stamps are to rise. The zero check has seen nothing.
type check struct {
	next    int              // the number after the greatest so far, less 1
	missing map[int]struct{} // numbers below that did not come
	stamp   hlc.Timestamp
	verdict Verdict
}

// Verdict counts what went wrong.
type Verdict struct {
	Events     int // that came
	Lost       int // that did not come
	Doubled    int // that came again
	Misordered int // whose stamp had not risen
	Late       int // that came after a greater number: what PubNub's queue drops is appended later
}

// take judges the next event.
func (c *check) take(n int, stamp hlc.Timestamp) {
	c.verdict.Events++
	if stamp <= c.stamp {
		c.verdict.Misordered++
	}
	c.stamp = max(c.stamp, stamp)
	switch _, missed := c.missing[n]; {
	case n > c.next:
		for m := c.next + 1; m < n; m++ {
			if c.missing == nil {
				c.missing = make(map[int]struct{})
			}
			c.missing[m] = struct{}{}
		}
		c.next = n
	case missed:
		delete(c.missing, n)
		c.verdict.Late++
	default:
		c.verdict.Doubled++
	}
}

// end is the verdict when n events were published.
func (c *check) end(n int) Verdict {
	v := c.verdict
	v.Lost = len(c.missing) + max(0, n-c.next)
	return v
}

func (v *Verdict) add(o Verdict) {
	v.Events += o.Events
	v.Lost += o.Lost
	v.Doubled += o.Doubled
	v.Misordered += o.Misordered
	v.Late += o.Late
}

// Bad reports whether anything was lost, doubled or out of order.
func (v Verdict) Bad() bool { return v.Lost+v.Doubled+v.Misordered > 0 }
