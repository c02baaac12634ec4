package e2e

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"time"
)

// The rules of the log's streams, beside those of [Judge].
const (
	Falling  Rule = "falling"  // a shard's stamps do not rise
	Deposed  Rule = "deposed"  // a writer has written behind its successor
	Misfiled Rule = "misfiled" // an event is in another shard than its user's
)

// A Record is one record of a shard's stream, as a NATS client reads it.
type Record struct {
	Shard int
	// User is whose event it is; "" is a marker.
	User string
	// ID, Hlc and Writer are the headers: the id of an event, the stamp, and the
	// epoch of the lease under which it was written.
	ID, Hlc string
	Writer  uint64
	// Gap says that it is a marker that notes a gap.
	Gap bool
	// Frame is the body.
	Frame string
	// Stored is when the server stored it, in Unix nanoseconds.
	Stored int64
}

// JudgeShards holds what n shards' streams hold, each in its order, against the
// log's invariants: rising stamps, markers included; no record of a writer behind
// one of its successor; ids and users where they belong. It is a pure function.
func JudgeShards(n int, records []Record) (found []Violation) {
	report := func(r *Record, rule Rule, format string, args ...any) {
		found = append(found, Violation{rule, fmt.Sprint("shard ", r.Shard), fmt.Sprintf(format, args...)})
	}
	last := make(map[int]*Record)
	ids := make(map[string]bool)
	for i := range records {
		r := &records[i]
		before := last[r.Shard]
		last[r.Shard] = r
		if len(r.Hlc) != len(noStamp) {
			report(r, Falling, "the stamp %q is none", r.Hlc)
		}
		if before != nil && r.Hlc <= before.Hlc {
			report(r, Falling, "%s comes behind %s", r.Hlc, before.Hlc)
		}
		if before != nil && r.Writer < before.Writer {
			report(r, Deposed, "%s is writer %d's, and comes behind writer %d's", r.Hlc, r.Writer, before.Writer)
		}
		if r.User == "" {
			continue
		}
		if ShardOf(r.User, n) != r.Shard {
			report(r, Misfiled, "%s is of user %s", r.Hlc, r.User)
		}
		if f, err := parseFrame(r.Frame); err != nil || f.Hlc != r.Hlc {
			report(r, Altered, "the record of %s holds %s", r.Hlc, r.Frame)
		}
		if ids[r.ID] {
			report(r, Doubled, "the id %s is there twice", r.ID)
		}
		ids[r.ID] = true
	}
	return found
}

// ShardOf is the protocol's: FNV-1a, 32 bits.
func ShardOf(user string, shards int) int {
	h := fnv.New32a()
	io.WriteString(h, user)
	return int(h.Sum32() % uint32(shards))
}

// LogsOf is the events among records, by their users.
func LogsOf(records []Record) map[string][]Entry {
	logs := make(map[string][]Entry)
	for _, r := range records {
		if r.User != "" {
			logs[r.User] = append(logs[r.User], Entry{Hlc: r.Hlc, Frame: r.Frame})
		}
	}
	return logs
}

// A Death is the end of a process that perhaps wrote shards.
type Death struct {
	Process string
	At      int64 // Unix ns
}

// A Tenure is a writer's: the shard and the epoch of its lease.
type Tenure struct {
	Shard  int
	Writer uint64
}

// takeOvers is how long each shard that a process wrote when it died was without
// a new event. holders says whose each tenure was. A shard that gets no event
// any more does not count. It is a pure function.
func takeOvers(records []Record, deaths []Death, holders map[Tenure]string) (took []time.Duration) {
	byShard := make(map[int][]Record)
	for _, r := range records {
		byShard[r.Shard] = append(byShard[r.Shard], r)
	}
	for _, d := range deaths {
		for shard, of := range byShard {
			next, _ := slices.BinarySearchFunc(of, d.At, func(r Record, at int64) int { return cmp.Compare(r.Stored, at) })
			if next == 0 || holders[Tenure{shard, of[next-1].Writer}] != d.Process {
				continue
			}
			if first := slices.IndexFunc(of[next:], func(r Record) bool { return r.User != "" && r.Writer > of[next-1].Writer }); first >= 0 {
				took = append(took, time.Duration(of[next+first].Stored-d.At))
			}
		}
	}
	slices.Sort(took)
	return took
}
