package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"reprise/e2e"
)

// unaware is how long after a restore, while nothing else is wrong, an edge may still
// serve what was there before.
const unaware = 12 * time.Second

// judge holds what was recorded against the protocol.
func (r *Run) judge(ctx context.Context, report *Report) error {
	records, connections, err := r.snapshot(ctx)
	if err != nil {
		return err
	}
	for _, v := range e2e.JudgeShards(shards, records) {
		r.wrong("%s", v)
	}
	restored := make(map[int]bool)
	for _, e := range r.eras {
		restored[e.shard] = true
	}
	for _, rec := range records {
		if rec.Gap && !restored[rec.Shard] {
			r.wrong("a gap is noted in shard %d, and PubNub's history has everything", rec.Shard)
		}
	}
	logs := e2e.LogsOf(records)
	h := e2e.History{Logs: make(map[string][]e2e.Entry)}
	special := make(map[string][]e2e.Connection) // of users whose log was replaced
	for i, d := range r.devices {
		conns := connections[i]
		for _, c := range conns {
			if c.Since != "earliest" && len(c.Frames) > 0 {
				report.Resumes++
			}
		}
		if restored[e2e.ShardOf(d.user, shards)] {
			special[d.user] = append(special[d.user], conns...)
		} else {
			h.Connections = append(h.Connections, conns...)
		}
	}
	publishes := make(map[string][]e2e.Publish)
	r.mu.Lock()
	for _, p := range r.publishes {
		one := *p
		if r.replaced(p) {
			one.Timetoken = "" // the backup need not have it
		}
		publishes[p.User] = append(publishes[p.User], one)
	}
	r.mu.Unlock()
	for u := range r.load.Users {
		user := userNo(u)
		h.Logs[user] = logs[user]
		if special[user] != nil {
			now := era{logs: logs, gap: lastGap(records, e2e.ShardOf(user, shards)), until: time.Now().Add(time.Hour).UnixNano()}
			r.judgeEras(user, special[user], publishes[user], now)
			delete(h.Logs, user)
		} else {
			h.Publishes = append(h.Publishes, publishes[user]...)
		}
	}
	for _, v := range e2e.Judge(h) {
		r.wrong("%s", v)
	}
	r.judgeStates(ctx, logs)
	return nil
}

// snapshot is what the log has, and what the devices have recorded, at one moment: read
// while nothing was appended, and everybody had everything. Where that does not come
// to be, it is the last attempt's, and for the rules to judge.
func (r *Run) snapshot(ctx context.Context) (records []e2e.Record, connections [][]e2e.Connection, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for shard := range shards {
		r.cluster.read[shard].forget()
	}
	read := func() (records []e2e.Record, err error) {
		err = r.insist(ctx, "reading the log", func(ctx context.Context) (err error) {
			records, err = r.cluster.records(ctx)
			return err
		})
		return records, err
	}
	for began := time.Now(); ; {
		if records, err = read(); err != nil {
			return nil, nil, err
		}
		before := r.behindOn(records)
		connections = nil
		for _, d := range r.devices {
			connections = append(connections, d.connections())
		}
		after := r.behindOn(records)
		again, err := read()
		if err != nil {
			return nil, nil, err
		}
		still := before == nil && after == nil && len(again) == len(records)
		if still || time.Since(began) > patience/2 || !sleep(ctx, 250*time.Millisecond) {
			if !still {
				r.wrong("no moment without anything under way within %v: %v", patience/2, after)
			}
			return records, connections, nil
		}
	}
}

// judgeEras judges the connections of a user whose log was replaced, each by the log
// that it can have seen: one that began before the replacement, or soon after it at an
// edge that did not know yet, by the older one; any other by the newer one.
func (r *Run) judgeEras(user string, conns []e2e.Connection, publishes []e2e.Publish, now era) {
	var eras []era
	for _, e := range r.eras {
		if e.shard == e2e.ShardOf(user, shards) {
			eras = append(eras, e)
		}
	}
	eras = append(eras, now)
	// A cursor from before the mark that notes the loss meets it, and one that is the
	// newest of the older log is of that.
	excuses := func(c e2e.Connection, n int) []string {
		if n == 0 && c.Frames[len(c.Frames)-1].At < eras[0].from || n > 0 && c.Since > eras[n-1].newest && c.Since >= eras[n].gap && c.Since != "earliest" {
			return nil
		}
		return []string{"store_reset", "future_cursor", "upstream_gap"}
	}
	last := excuses(e2e.Connection{Since: "earliest"}, len(eras)-1)
	for _, v := range e2e.Judge(e2e.History{Publishes: publishes, Logs: map[string][]e2e.Entry{user: now.logs[user]}, Excuses: last}) {
		// What the backup did not have comes again where PubNub still has it.
		if v.Rule != e2e.Swapped {
			r.wrong("%s", v)
		}
	}
	for i := range conns {
		if len(conns[i].Frames) == 0 {
			continue
		}
		var found []e2e.Violation
		began, ended := conns[i].Frames[0].At, conns[i].Frames[len(conns[i].Frames)-1].At
		for n, e := range eras {
			if n > 0 && ended < eras[n-1].from || n < len(eras)-1 && (max(began, ended) > e.until+int64(unaware) || conns[i].Stayed) {
				continue
			}
			some := e2e.Judge(e2e.History{Publishes: unconfirmed(publishes), Logs: map[string][]e2e.Entry{user: e.logs[user]},
				Connections: conns[i : i+1], Excuses: excuses(conns[i], n)})
			some = slices.DeleteFunc(some, func(v e2e.Violation) bool { return strings.HasPrefix(v.Where, "log of ") })
			if n > 0 {
				some = append(some, claimsLost(conns[i], eras[n-1])...)
			}
			if n < len(eras)-1 && len(some) > 0 && ended >= e.from {
				some = mixed(conns[i], publishes, user, e, eras[n+1])
			}
			if len(some) == 0 {
				found = nil
				break
			}
			found = some
		}
		for _, v := range found {
			r.wrong("%s (connection %d of the user, whose log was replaced)", v, i+1)
		}
	}
}

// mixed judges a connection of the time of a restore, at an edge that did not know yet:
// it may have read the newer log and gone on with what the edge held of the older one.
// What it missed by that it learns when it resumes, and claimsLost looks after that; what
// it got must still be of its user, in order and once.
func mixed(c e2e.Connection, publishes []e2e.Publish, user string, older, newer era) []e2e.Violation {
	both := slices.Concat(older.logs[user], newer.logs[user])
	slices.SortFunc(both, func(a, b e2e.Entry) int { return strings.Compare(a.Hlc, b.Hlc) })
	both = slices.CompactFunc(both, func(a, b e2e.Entry) bool { return a.Hlc == b.Hlc })
	found := e2e.Judge(e2e.History{Publishes: unconfirmed(publishes), Logs: map[string][]e2e.Entry{user: both}, Connections: []e2e.Connection{c}})
	return slices.DeleteFunc(found, func(v e2e.Violation) bool {
		return strings.HasPrefix(v.Where, "log of ") || v.Rule == e2e.Lost || v.Rule == e2e.FalseComplete || v.Rule == e2e.Needless
	})
}

// lastGap is the stamp of the last gap that was noted in a shard; "" is none.
func lastGap(records []e2e.Record, shard int) (last string) {
	for _, rec := range records {
		if rec.Shard == shard && rec.Gap {
			last = rec.Hlc
		}
	}
	return last
}

// claimsLost says whether a connection was told that it is complete, although it came
// with a cursor from between the backup and its restore.
func claimsLost(c e2e.Connection, old era) []e2e.Violation {
	if c.Since > old.last && c.Since <= old.newest && strings.Contains(c.Frames[0].Text, `"complete":true`) {
		return []e2e.Violation{{Rule: e2e.FalseComplete, Where: "device " + c.Device,
			What: fmt.Sprintf("%s, and the log was cut from %s to %s", c.Frames[0].Text, old.newest, old.last)}}
	}
	return nil
}

// unconfirmed is publishes of which nobody says that they must be in the log.
func unconfirmed(publishes []e2e.Publish) []e2e.Publish {
	all := slices.Clone(publishes)
	for i := range all {
		all[i].Timetoken = ""
	}
	return all
}
