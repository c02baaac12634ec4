package bridge

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fullReply is a reply of a full page.
func fullReply(timetoken string) string {
	var m []string
	for i := range fullPage {
		m = append(m, fmt.Sprintf(`{"c":"user.x.sync","p":{"t":"%d","r":1},"d":{}}`, 17954373395000000+i))
	}
	return fmt.Sprintf(`{"t":{"t":%q,"r":1},"m":[%s]}`, timetoken, strings.Join(m, ","))
}

// TestAskAhead stores full pages, which takes as long as a poll does: the next
// poll is under way meanwhile. A page that could not be stored is asked for
// again, a change that moves the cursor back is heeded, and what was asked ahead
// ends with the session.
func TestAskAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const roundTrip = 20 * time.Millisecond
		var polls, open atomic.Int32
		g := newGuarded(t, cursor{tt1, 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			polls.Add(1)
			open.Add(1)
			defer open.Add(-1)
			select {
			case <-time.After(roundTrip):
			case <-r.Context().Done():
			}
			io.WriteString(w, fullReply(nextTimetoken(r.URL.Query().Get("tt"))))
		}))
		take := g.store
		g.store = func(p *page) error {
			time.Sleep(roundTrip)
			return take(p)
		}
		began := time.Now()
		at := g.at
		ask := func() {
			t.Helper()
			if _, err := g.ask(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			at = g.at
		}
		const pages = 10
		for range pages {
			ask()
		}
		if took := time.Since(began); took != (pages+1)*roundTrip || len(g.stored) != pages {
			t.Errorf("%d pages are stored after %v, want %d after %v", len(g.stored), took, pages, (pages+1)*roundTrip)
		}
		for i, p := range g.stored[1:] {
			if p.prev != g.stored[i].next || p.lapse != 0 {
				t.Errorf("page %d begins at %v with a lapse of %v, want %v and none", i+1, p.prev, p.lapse, g.stored[i].next)
			}
		}

		before := g.at
		g.refuse = errors.New("not now")
		ask()
		g.refuse = nil
		if g.at != before {
			t.Errorf("the cursor is %v after a page that was not stored, want %v", g.at, before)
		}
		ask()
		if last := g.stored[len(g.stored)-1]; last.prev != before {
			t.Errorf("the next page begins at %v, want %v again", last.prev, before)
		}

		back := g.stored[0].next
		if err := g.change(t.Context(), func() { g.guard.at = back }); err != nil {
			t.Fatal(err)
		}
		at = g.at
		ask()
		if last := g.stored[len(g.stored)-1]; last.prev != back {
			t.Errorf("after a change the next page begins at %v, want %v", last.prev, back)
		}

		g.unask()
		synctest.Wait()
		if n := open.Load(); n != 0 {
			t.Errorf("%d polls are under way after the end", n)
		}
	})
}
