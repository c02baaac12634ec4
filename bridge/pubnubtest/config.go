package pubnubtest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"time"
)

// Config is what a [Server] is made from. The zero value is a server on a free
// loopback port with the keys "demo" and PubNub's own limits.
type Config struct {
	// Listen is the host:port to bind; "" is 127.0.0.1:0.
	Listen string

	// SubscribeKey and PublishKey are the only keys that are accepted; "" is "demo".
	SubscribeKey, PublishKey string

	// PollTimeout is how long a subscribe without messages is held; 0 is 280 s.
	PollTimeout time.Duration

	// RoundTrip is how far away the server is: half of it passes before a request
	// is carried out, half before it is answered, whether well or with a fault.
	// 0 is next door.
	RoundTrip time.Duration

	// QueueSize is the length of a subscriber's live queue, counted over all it
	// is subscribed to; 0 is 100.
	QueueSize int

	// QueueAge is the age at which a message leaves the live queue; 0 is 20 min.
	QueueAge time.Duration

	// PageSize is the most messages in one subscribe reply; 0 is 100.
	PageSize int

	// Region is t.r of every reply and p.r of every message that says nothing
	// else, 1 to 127; 0 is 1.
	Region int

	// CursorSkew returns by how much the next message's cursor is older than its
	// timetoken. It is called under a lock, once per message. Nil is uniformly
	// 120 to 200 µs. Whatever it returns, cursors rise.
	CursorSkew func() time.Duration

	// Now is the clock; nil is time.Now. It is called under a lock.
	Now func() time.Time

	// HistoryLimit is how many stored messages a channel keeps; 0 is 10,000.
	// Beyond it a channel's oldest are forgotten.
	HistoryLimit int

	// HistoryAge is how long history keeps a message that has no time to live of
	// its own; 0 is for ever.
	HistoryAge time.Duration

	// HistoryDelay is how long after its arrival history and message counts show
	// a message; 0 is at once.
	HistoryDelay time.Duration

	// NoHistory is a key without Message Persistence: nothing is stored, and
	// history and message counts answer 403.
	NoHistory bool

	// MaxMessages and MaxBytes bound what is kept over all channels, live and
	// stored; 0 is 200,000 (or QueueSize, if that is more) and 256 MiB. Beyond
	// either the oldest messages of all are forgotten.
	MaxMessages int
	MaxBytes    int64

	// JournalSize is how many requests the journal keeps, of at most 4 MiB
	// together; 0 is 1,000.
	JournalSize int

	// RequirePAM makes every request that touches a channel or a group show a
	// token that [Server.SetToken] or a grant has put into the table.
	RequirePAM bool

	// OneCopy delivers a message once to a subscriber that matches it several
	// times, by name, wildcard and group. False is one copy for each match.
	OneCopy bool

	// OmitFields is the probability with which each optional envelope field
	// (i, s, b, e, u, cmt) of a message is left out; 0 is never.
	OmitFields float64

	// Seed is the seed of all that is left to chance here; 0 is 1.
	Seed uint64
}

// withDefaults returns c with every zero replaced, or what is wrong with c.
func (c Config) withDefaults() (Config, error) {
	for name, n := range map[string]int64{
		"PollTimeout":  int64(c.PollTimeout),
		"RoundTrip":    int64(c.RoundTrip),
		"QueueSize":    int64(c.QueueSize),
		"QueueAge":     int64(c.QueueAge),
		"PageSize":     int64(c.PageSize),
		"Region":       int64(c.Region),
		"HistoryLimit": int64(c.HistoryLimit),
		"HistoryAge":   int64(c.HistoryAge),
		"HistoryDelay": int64(c.HistoryDelay),
		"MaxMessages":  int64(c.MaxMessages),
		"MaxBytes":     c.MaxBytes,
		"JournalSize":  int64(c.JournalSize),
	} {
		if n < 0 {
			return c, fmt.Errorf("pubnubtest: config: %s is negative: %d", name, n)
		}
	}
	if c.Region > 127 {
		return c, fmt.Errorf("pubnubtest: config: Region %d is above 127", c.Region)
	}
	if c.OmitFields < 0 || c.OmitFields > 1 {
		return c, fmt.Errorf("pubnubtest: config: OmitFields %v is no probability", c.OmitFields)
	}
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:0")
	c.SubscribeKey = cmp.Or(c.SubscribeKey, "demo")
	c.PublishKey = cmp.Or(c.PublishKey, "demo")
	c.PollTimeout = cmp.Or(c.PollTimeout, 280*time.Second)
	c.QueueSize = cmp.Or(c.QueueSize, 100)
	c.QueueAge = cmp.Or(c.QueueAge, 20*time.Minute)
	c.PageSize = cmp.Or(c.PageSize, 100)
	c.Region = cmp.Or(c.Region, 1)
	c.HistoryLimit = cmp.Or(c.HistoryLimit, 10_000)
	c.MaxMessages = cmp.Or(c.MaxMessages, max(200_000, c.QueueSize))
	c.MaxBytes = cmp.Or(c.MaxBytes, 256<<20)
	c.JournalSize = cmp.Or(c.JournalSize, 1000)
	c.Seed = cmp.Or(c.Seed, 1)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.CursorSkew == nil {
		chance := rand.New(rand.NewPCG(c.Seed, 1))
		c.CursorSkew = func() time.Duration {
			return 120*time.Microsecond + time.Duration(chance.Int64N(int64(80*time.Microsecond)))
		}
	}
	return c, nil
}
