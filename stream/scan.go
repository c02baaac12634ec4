package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A read over a long stretch of the log is costly for the server, however few
// events it finds: each block of the stretch is looked through, and loaded before
// if it is cold. A Direct Get does that in one go, and nothing is appended meanwhile,
// for seconds. Such reads are far. They are made by consumers, which the server
// serves record by record: a few with one each for their user, and where many wait,
// the stretch is scanned once, in order and unfiltered, for all of them.
const (
	// farSpan is how many records a far read lies over at least.
	farSpan = 1 << 14
	// nearAtOnce is how many near reads run at a time, and loneAtOnce how many scans
	// for one user. Those would slow one for many down: none is begun beside it.
	nearAtOnce, loneAtOnce = 16, 1
	// A scan for one user asks for loneBatch records at a time, and for ever more
	// where they lie close together. Where one takes longer than loneQuick, it rests
	// for loneRest times as long as the batch took: while the server goes through
	// blocks it stores nothing.
	loneBatch, loneQuick, loneRest = 8, 500 * time.Microsecond, 3
	// manyReads is how many far reads must wait for one scan for all of them. It begins
	// when for gatherFor no other has come, after gatherMost at the latest.
	manyReads, gatherFor, gatherMost = 4, time.Second, 5 * time.Second
	// scanBytes bounds what a scan has read and nobody has taken, aheadBytes what one
	// for one user has.
	scanBytes, aheadBytes = 64 << 20, 4 << 20
	// scanPatience is how long a read waits at most for what a scan has of it, and a
	// scan for the next read of a device.
	scanPatience = 3 * time.Second
	// sweepEvery is after how many records a scan looks at all its reads.
	sweepEvery = 1000
)

// farRead is a read that is to be made.
type farRead struct {
	user  string
	after Position
	from  uint64 // where it begins
	upTo  Position
	last  uint64 // the last sequence that can have an event of it

	done  chan struct{} // closed when what follows is there
	chunk Chunk
	err   error
}

// scans makes the far reads of one shard.
type scans struct {
	// static after construction
	logger *slog.Logger
	// read calls take for each record from a sequence on, of user or "" of all, until
	// take says that it wants no more.
	read func(first uint64, user string, take func(*Record) (more bool)) error

	// guarded by mu
	mu      sync.Mutex
	waiting []*farRead // oldest first
	open    []*scan
	lone    int  // scans under way for one user
	many    bool // one for many is gathering, or under way
}

// do makes r.
func (q *scans) do(ctx context.Context, r *farRead) (Chunk, error) {
	r.done = make(chan struct{})
	q.mu.Lock()
	if !slices.ContainsFunc(q.open, func(sc *scan) bool { return sc.join(r) }) {
		q.waiting = append(q.waiting, r)
		q.dispatch()
	}
	q.mu.Unlock()
	select {
	case <-r.done:
		return r.chunk, r.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.DeleteFunc(q.waiting, func(w *farRead) bool { return w == r })
	for _, sc := range q.open {
		for _, p := range slices.Clone(sc.users[r.user]) {
			if p.read == r {
				sc.drop(p)
			}
		}
	}
	return Chunk{}, ctx.Err()
}

// dispatch begins scans for the reads that wait. Called with mu held.
func (q *scans) dispatch() {
	if q.many {
		return
	}
	if len(q.waiting) >= manyReads {
		q.many = true
		q.begin("", q.waiting)
		q.waiting = nil
		return
	}
	for q.lone < loneAtOnce && len(q.waiting) > 0 {
		q.lone++
		q.begin(q.waiting[0].user, q.waiting[:1])
		q.waiting = q.waiting[1:]
	}
}

// begin begins a scan for reads, of user or "" of many. Called with mu held.
func (q *scans) begin(user string, reads []*farRead) {
	sc := &scan{user: user, users: make(map[string][]*part)}
	for _, r := range reads {
		sc.join(r)
	}
	q.open = append(q.open, sc)
	go q.run(sc)
}

// run makes a scan, and keeps what it has for the reads to come.
func (q *scans) run(sc *scan) {
	if sc.user == "" {
		q.gather(sc)
	}
	q.mu.Lock()
	first := uint64(math.MaxUint64)
	for _, parts := range sc.users {
		for _, p := range parts {
			first = min(first, p.from)
		}
	}
	users := len(sc.users)
	sc.at.Seq = first - 1
	q.mu.Unlock()
	var err error
	if users > 0 {
		n, began := 0, time.Now()
		err = q.read(first, sc.user, func(r *Record) bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			sc.take(r)
			if n++; n%sweepEvery == 0 || sc.at.Seq >= sc.end || sc.user != "" {
				sc.sweep(time.Now())
			}
			return sc.at.Seq < sc.end && len(sc.users) > 0
		})
		if sc.user == "" {
			q.logger.Info("the log was scanned for users who were away for long", "users", users, "from", first, "records", n, "took", time.Since(began), "err", err)
		}
	}
	q.mu.Lock()
	if sc.user == "" {
		q.many = false
	} else {
		q.lone--
	}
	q.dispatch()
	sc.ended = true
	sc.fail(cmp.Or(err, errHole)) // nobody waits if all went well
	for len(sc.users) > 0 {
		q.mu.Unlock()
		time.Sleep(scanPatience / 10)
		q.mu.Lock()
		sc.sweep(time.Now())
	}
	q.open = slices.DeleteFunc(q.open, func(o *scan) bool { return o == sc })
	q.mu.Unlock()
}

// gather waits for the reads that come together.
func (q *scans) gather(sc *scan) {
	joined := 0
	for began := time.Now(); time.Since(began) < gatherMost; time.Sleep(gatherFor) {
		q.mu.Lock()
		more := sc.joined > joined
		joined = sc.joined
		q.mu.Unlock()
		if !more {
			return
		}
	}
}

// scan is a shard's log being read in order, for many users. The owner's mutex
// guards it.
type scan struct {
	user  string   // whose events are read; "" is everybody's
	at    Position // read up to here
	end   uint64   // there is nothing for anybody after it
	users map[string][]*part
	bytes int // of all parts

	joined int  // how often a read has
	ended  bool // nothing more is read
}

// part is what a scan has for one read, and for the next one of the same device:
// while a device is given one chunk, the next is gathered.
type part struct {
	user    string
	after   Position
	from    uint64
	read    *farRead  // who waits for it; nil is nobody right now
	since   time.Time // that is so
	records []Record
	bytes   int
}

// join lets a read take part. It reports false when what it wants lies behind.
func (sc *scan) join(r *farRead) bool {
	var p *part
	if i := slices.IndexFunc(sc.users[r.user], func(p *part) bool { return p.read == nil && p.after == r.after }); i >= 0 {
		p = sc.users[r.user][i]
	} else if sc.at.Seq < r.from && !sc.ended && (sc.user == "" || sc.user == r.user) {
		p = &part{user: r.user, after: r.after, from: r.from}
		sc.users[r.user] = append(sc.users[r.user], p)
	} else {
		return false
	}
	sc.joined++
	p.read, p.since = r, time.Now()
	sc.end = max(sc.end, r.last)
	switch {
	case sc.at.Seq >= r.last, sc.ended && len(p.records) > 0:
		sc.hand(p)
	case sc.ended:
		sc.drop(p)
		return false
	}
	return true
}

// take takes the next record.
func (sc *scan) take(r *Record) {
	sc.at = Position{Seq: r.Seq, Hlc: max(sc.at.Hlc, r.Hlc)}
	if r.Kind != KindEvent {
		return
	}
	parts := sc.users[r.User]
	for i := len(parts) - 1; i >= 0; i-- { // those that are done go
		p := parts[i]
		if r.Seq >= p.from && r.Hlc > p.after.Hlc {
			p.records = append(p.records, *r)
			p.bytes += len(r.Frame)
			sc.bytes += len(r.Frame)
		}
		full := len(p.records) >= readBatch || p.bytes >= readBytes
		switch {
		case p.read != nil && (full || sc.at.Seq >= p.read.last):
			sc.hand(p)
		case full && (sc.user == "" || p.bytes > aheadBytes):
			sc.drop(p) // its device is slower than the scan
		}
	}
}

// sweep hands over what has waited for long enough, and drops what nobody fetches.
func (sc *scan) sweep(now time.Time) {
	full := sc.bytes > scanBytes
	for _, parts := range sc.users {
		for _, p := range slices.Clone(parts) {
			late := now.Sub(p.since) > scanPatience
			switch {
			case p.read == nil && (late || full && len(p.records) > 0):
				sc.drop(p)
			case p.read != nil && (sc.at.Seq >= p.read.last || sc.at.Seq >= p.from && late || full && len(p.records) > 0):
				sc.hand(p)
			}
		}
	}
}

// hand gives a chunk of what there is to who waits for it.
func (sc *scan) hand(p *part) {
	r := p.read
	defer close(r.done)
	p.read, p.since = nil, time.Now()
	n, bytes := 0, 0
	for n < len(p.records) && n < readBatch && bytes < readBytes && p.records[n].Seq <= r.upTo.Seq {
		bytes += len(p.records[n].Frame)
		n++
	}
	r.chunk = Chunk{Records: p.records[:n:n], Next: r.upTo}
	switch more := n < len(p.records) && p.records[n].Seq <= r.upTo.Seq; {
	case more:
		r.chunk.Next = p.records[n-1].Position
	case sc.at.Seq >= r.last:
		sc.drop(p)
		return
	default:
		r.chunk.Next = Position{Seq: sc.at.Seq, Hlc: max(sc.at.Hlc, r.after.Hlc)}
	}
	p.after = r.chunk.Next
	p.records = slices.Clone(p.records[n:])
	p.bytes -= bytes
	sc.bytes -= bytes
}

// fail ends all reads that wait: with how far the scan has come, if it has come to
// them, so that scans that are cut again and again come to an end together.
func (sc *scan) fail(err error) {
	for _, parts := range sc.users {
		for _, p := range slices.Clone(parts) {
			switch {
			case p.read == nil:
			case sc.at.Seq >= p.from:
				sc.hand(p)
			default:
				p.read.err = err
				close(p.read.done)
				sc.drop(p)
			}
		}
	}
}

// drop lets p take part no more.
func (sc *scan) drop(p *part) {
	sc.bytes -= p.bytes
	parts := slices.DeleteFunc(sc.users[p.user], func(x *part) bool { return x == p })
	if sc.users[p.user] = parts; len(parts) == 0 {
		delete(sc.users, p.user)
	}
}

// scan calls take for each record of s from first on, in order, of user or "" of
// all, until take says that it wants no more or there is none. Each delivery has a
// number: one that is not the next was swallowed by a cut connection, and is an
// error. What was deleted, or what retention has taken, is passed over.
func (l *Log) scan(ctx context.Context, s *shard, first uint64, user string, take func(*Record) bool) (err error) {
	defer func() { err = wrap("scan "+s.stream, err) }()
	l.inst.scans.Add(ctx, 1)
	ctx, release := l.untilReconnected(ctx)
	defer release()
	cfg := jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       first,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: time.Minute,
	}
	if user != "" {
		cfg.FilterSubject = subjectOf(s.n, user)
	}
	c, err := l.js.CreateConsumer(ctx, s.stream, cfg)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
		defer cancel()
		_ = l.js.DeleteConsumer(ctx, s.stream, c.CachedInfo().Name) // else it goes after a minute
	}()
	n, pending := uint64(0), c.CachedInfo().NumPending
	more := pending > 0
	handle := func(m jetstream.Msg) error {
		d, err := deliveryOf(m.Reply())
		if err != nil {
			return err
		}
		if n++; d.number != n {
			return fmt.Errorf("delivery %d came after %d: %w", d.number, n-1, errHole)
		}
		pending = d.pending
		r := Record{Position: Position{Seq: d.seq}, Stored: d.stored}
		if parseRecord(&r, m.Subject(), m.Headers(), m.Data()) != nil {
			r.Kind = KindMarker // Follow passes it over as well
		}
		more = take(&r) && pending > 0
		return nil
	}
	// A consumer that was made a moment ago may not be known yet to the server of a
	// cluster that this process is connected to.
	tries := 0
	unknown := func(err error) bool {
		tries++
		return n == 0 && tries < 100 && errors.Is(err, nats.ErrNoResponders) && retry(ctx, 0)
	}
	for size := uint64(loneBatch); more && ctx.Err() == nil; {
		if user == "" && n > 0 { // the server knows the consumer
			return cmp.Or(pull(ctx, c, func() bool { return more }, handle), context.Cause(ctx))
		}
		began := time.Now()
		batch, err := c.Fetch(int(min(size, pending)), jetstream.FetchContext(ctx))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			if err := handle(m); err != nil || !more {
				return err
			}
		}
		if err := batch.Error(); unknown(err) {
			continue
		} else if err != nil {
			return err
		}
		if user == "" {
			continue
		}
		took := time.Since(began)
		if took < loneQuick*time.Duration(size) {
			size = min(2*size, readBatch)
			continue
		}
		size = loneBatch
		select {
		case <-time.After(loneRest * took):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// pull calls handle for each message of a consumer while there are more.
func pull(ctx context.Context, c jetstream.Consumer, more func() bool, handle func(jetstream.Msg) error) error {
	if !more() {
		return nil
	}
	it, err := c.Messages(jetstream.PullMaxMessages(pullBatch), jetstream.PullThresholdMessages(pullBatch/2),
		jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return err
	}
	defer it.Stop()
	for more() {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err == nil {
			err = handle(m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
