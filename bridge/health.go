package bridge

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// silentAfter is the age of the last good poll at which PubNub counts as
	// silent: it ends an idle poll by itself after 280 s.
	silentAfter = 320 * time.Second
	// failingAfter is for how long polls must have failed without one good one
	// in between: the third or fourth attempt is over by then.
	failingAfter = 10 * time.Second
	// gapFresh is for how long a gap is worth a warning.
	gapFresh = 24 * time.Hour
)

// Health is how a bridge is at one moment.
type Health struct {
	// Active says that this bridge writes a shard. False: a standby, or not running.
	Active bool
	// Shards is how many it writes.
	Shards int
	// PollAge is the time since the last good reply from PubNub, or since this
	// bridge became active if there was none yet; 0 on a standby.
	PollAge time.Duration
	// Silent says that nothing good has come from PubNub for 320 s, or that
	// polls have done nothing but fail for 10 s. It is the warning
	// pubnub_silent; false on a standby.
	Silent bool
	// Filling says that history is being compared with the log, because PubNub's
	// queue may have dropped something.
	Filling bool
	// Gap says that within a day something was found to be missing that PubNub
	// could not supply. It is the warning upstream_gap.
	Gap bool
}

// Stats counts since the bridge was made.
type Stats struct {
	Stored        uint64 // events appended to the log
	Duplicates    uint64 // events that were in the log already
	Dead          uint64 // messages that broke a rule, each time they were received
	Announcements uint64
	Heartbeats    uint64
	Polls         uint64 // polls that ended
	FailedPolls   uint64 // of those, the ones that did not end well
	FullPages     uint64 // replies of 100 messages or more
	Filled        uint64 // events that were appended from PubNub's history
	Gaps          uint64 // gap markers written
	Published     uint64 // updates of devices that PubNub has taken
	Expired       uint64 // updates that expired in the outbox
}

// Health tells how the bridge is. The zero Health is a standby's.
func (b *Bridge) Health() Health {
	b.mu.Lock()
	shards := len(b.shards)
	b.mu.Unlock()
	h := Health{Active: shards > 0, Shards: shards, Filling: b.filling.Load() > 0, Gap: time.Since(time.UnixMilli(b.gapAt.Load())) < gapFresh}
	if h.Active {
		h.PollAge, h.Silent = b.polls.at(time.Now())
	}
	return h
}

// Stats tells what the bridge has done.
func (b *Bridge) Stats() Stats {
	c := &b.inst.count
	return Stats{
		Stored: c.stored.Load(), Duplicates: c.duplicates.Load(), Dead: c.dead.Load(),
		Announcements: c.announcements.Load(), Heartbeats: c.heartbeats.Load(),
		Polls: c.polls.Load(), FailedPolls: c.failures.Load(), FullPages: c.fullPages.Load(),
		Filled: c.filled.Load(), Gaps: c.gaps.Load(), Published: c.published.Load(), Expired: c.expired.Load(),
	}
}

// pulse knows when PubNub was last heard.
type pulse struct {
	// Static after construction.
	inst   *instruments
	logger *slog.Logger

	mu      sync.Mutex
	heard   time.Time // last good reply, or the term's begin
	failing time.Time // first failure since; zero when there was none
	said    string    // what the log has been told of this run of failures
}

// begin starts a term.
func (p *pulse) begin(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.failing, p.said = now, time.Time{}, ""
}

// good notes a good reply.
func (p *pulse) good(now time.Time) {
	p.mu.Lock()
	failed := p.failing
	p.heard, p.failing = now, time.Time{}
	p.mu.Unlock()
	if !failed.IsZero() {
		p.logger.Info("polls succeed again", "after", now.Sub(failed))
	}
}

// failed notes that no good reply came.
func (p *pulse) failed(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing.IsZero() {
		p.failing = now
	}
}

// at tells the age of the last good reply, and whether PubNub is silent.
func (p *pulse) at(now time.Time) (age time.Duration, silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	age = now.Sub(p.heard)
	return age, age > silentAfter || !p.failing.IsZero() && now.Sub(p.failing) > failingAfter
}

// count counts a poll that has ended. The log is told of a failure when it is
// another one than the last that it was told of.
func (p *pulse) count(result pollResult, class string) {
	p.inst.polled(context.Background(), result)
	what := string(result) + ": " + class
	p.mu.Lock()
	told := p.said == what
	if result == pollOK {
		p.said = ""
	} else if result != pollSuperseded {
		p.said = what
	}
	p.mu.Unlock()
	if result != pollOK && result != pollSuperseded && !told {
		p.logger.Warn("poll failed, trying again", "result", string(result), "err", class)
	}
}
