package faults

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A Kind is a fault.
type Kind string

// The faults. A pause is SIGSTOP and, later, SIGCONT; a kill is SIGKILL and, later, a
// start; a cut is silent or, by chance, refuses.
const (
	KillNode           Kind = "kill nats"
	PauseNode          Kind = "pause nats"
	KillBridge         Kind = "kill bridge"
	PauseBridge        Kind = "pause bridge"
	KillEdge           Kind = "kill edge"
	PauseEdge          Kind = "pause edge"
	HitStreamLeader    Kind = "hit the stream's leader"   // killed or paused
	HitMetaLeader      Kind = "hit the meta leader"       // the same
	HitConsumerLeader  Kind = "hit the consumer's leader" // the same
	CutNodes           Kind = "cut nats from nats"
	CutNode            Kind = "cut nats from all"
	CutBridge          Kind = "cut bridge from nats"
	CutEdge            Kind = "cut edge from nats"
	CutPubNub          Kind = "cut bridge from pubnub"
	CutDevices         Kind = "cut devices from edge"
	Latency            Kind = "latency"
	NarrowLink         Kind = "narrow link"
	FullDisk           Kind = "full disk"
	WrongClock         Kind = "wrong clock"
	RollingRestart     Kind = "rolling restart"
	DeleteConsumer     Kind = "delete a consumer"
	DeleteAllConsumers Kind = "delete all consumers"
	RestoreBackup      Kind = "restore a backup"
	PubNubDown         Kind = "pubnub down"
)

// Kinds are all faults.
var Kinds = []Kind{
	KillNode, PauseNode, KillBridge, PauseBridge, KillEdge, PauseEdge, HitStreamLeader, HitMetaLeader, HitConsumerLeader,
	CutNodes, CutNode, CutBridge, CutEdge, CutPubNub, CutDevices, Latency, NarrowLink, FullDisk, WrongClock, RollingRestart,
	DeleteConsumer, DeleteAllConsumers, RestoreBackup, PubNubDown,
}

// An Act is one fault: what happens to whom, and when.
type Act struct {
	Kind Kind
	// At is when it begins, For how long it lasts before it is healed. What heals
	// by itself has no For.
	At, For time.Duration
	// A and B choose among those that the fault may befall, from 0.
	A, B int
	// Hard is the other way: a pause where a leader is hit, a cut that refuses.
	Hard bool
	// Amount is the wrong clock's offset, or the latency.
	Amount time.Duration
}

func (a Act) String() string {
	return fmt.Sprintf("%6.1fs %-26s for %4.1fs  a=%d b=%d hard=%v amount=%v", a.At.Seconds(), a.Kind, a.For.Seconds(), a.A, a.B, a.Hard, a.Amount)
}

// perAct is how far apart the acts of a schedule begin, on average.
const perAct = 2500 * time.Millisecond

// A Schedule is what happens to a cluster.
type Schedule struct {
	Seed uint64
	// ShortQueue lets PubNub's queue be as long as the real one's: what falls out
	// of it comes from history, and later than what was published after it.
	ShortQueue bool
	// Lost is the NATS server that is killed at the end and never comes back, from 1;
	// 0 is none.
	Lost int
	Acts []Act // by At
}

func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, PubNub's queue is short: %v, NATS server %d (0 is none) is lost for good at the end\n", s.Seed, s.ShortQueue, s.Lost)
	for _, a := range s.Acts {
		fmt.Fprintln(&b, a)
	}
	return b.String()
}

// Length is when the last act has been healed.
func (s Schedule) Length() (d time.Duration) {
	for _, a := range s.Acts {
		d = max(d, a.At+a.For)
	}
	return d
}

// Plan makes up n faults, each kind once before any comes again. It is a pure function
// of its arguments; only kinds, if any are given, are used.
func Plan(seed uint64, n int, kinds ...Kind) Schedule {
	span := time.Duration(n) * perAct
	chance := rand.New(rand.NewPCG(seed, 0x5eed))
	between := func(from, to time.Duration) time.Duration { return from + time.Duration(chance.Int64N(int64(to-from))) }
	if len(kinds) == 0 {
		kinds = Kinds
	}
	s := Schedule{Seed: seed, Lost: max(0, chance.IntN(2*nodes)-nodes+1)} // one in two times
	var deck []Kind
	for range n {
		if len(deck) == 0 {
			deck = slices.Clone(kinds)
			chance.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		a := Act{Kind: deck[0], At: between(0, span), For: between(200*time.Millisecond, 8*time.Second),
			A: chance.IntN(60), B: chance.IntN(60), Hard: chance.IntN(2) == 0}
		deck = deck[1:]
		switch a.Kind {
		case Latency:
			a.Amount = between(5*time.Millisecond, 300*time.Millisecond)
		case WrongClock:
			a.Amount = between(-30*time.Second, 30*time.Second)
		case RollingRestart, DeleteConsumer, DeleteAllConsumers, RestoreBackup:
			a.For = 0
		case PubNubDown:
			a.For, s.ShortQueue = between(3*time.Second, 10*time.Second), true // longer than its queue lasts
		}
		s.Acts = append(s.Acts, a)
	}
	slices.SortStableFunc(s.Acts, func(a, b Act) int { return cmp.Compare(a.At, b.At) })
	return s
}
