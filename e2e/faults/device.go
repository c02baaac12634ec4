package faults

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"reprise/e2e"
	"reprise/edge/client"
)

// How a device behaves. A dead link is noticed after pingEvery and pingPatience; the
// wait before a new connection is at most maxBackoff.
const (
	minBackoff   = 250 * time.Millisecond
	maxBackoff   = 2 * time.Second
	pingEvery    = 2 * time.Second
	pingPatience = 3 * time.Second
	dialPatience = 5 * time.Second
	meanStay     = 12 * time.Second // before it goes by its own will
	meanAway     = 2 * time.Second
	meanQuiet    = 5 * time.Second // between its updates
)

// A device is an app with the client of [reprise/edge/client]: that keeps its cursor,
// comes back by itself, and sends again what was not accepted. What it is sent is
// recorded before the client has looked at it.
type device struct {
	// static after construction
	run      *Run
	user, id string
	echo     bool
	edge     string // that it connects to; "" is any

	// guarded by mu
	mu      sync.Mutex
	kept    client.Kept       // from one client to the next
	conns   []*e2e.Connection // with Stayed for the one that is open
	have    map[string]bool   // events that it was ever sent, with a blank stamp
	pending *update           // sent, and not yet accepted; nil is none
	updates int
	current bool // the connection that is open has been caught up
}

// update is what a device sends.
type update struct {
	client.Update
	record *e2e.Publish
}

func newDevice(r *Run, user, id string) *device {
	return &device{run: r, user: user, id: id, have: make(map[string]bool)}
}

// live is the app: it is opened, again and again, until ctx ends.
func (d *device) live(ctx context.Context) {
	for ctx.Err() == nil {
		d.open(ctx)
		sleep(ctx, min(about(meanAway), maxBackoff))
	}
}

// open is the app from its start to its end.
func (d *device) open(ctx context.Context) {
	var c *client.Client
	c, err := client.New(client.Config{
		URL: "ws://edge/ws", User: d.user, Device: d.id, Echo: d.echo, Since: "earliest", Store: d,
		MinBackoff: minBackoff, MaxBackoff: maxBackoff, PingInterval: pingEvery, PingTimeout: pingPatience, DialTimeout: dialPatience,
		Dial:  d.run.dialEdge(d.edge),
		OnRaw: func(raw []byte) { d.hear(string(raw), c.Since()) },
		OnDisconnect: func(err error, _ time.Duration) {
			d.over(true)
			if refused := (*client.RefusedError)(nil); errors.As(err, &refused) && refused.Status != http.StatusServiceUnavailable && refused.Status != http.StatusTooManyRequests {
				d.run.wrong("device %s: %v", d.id, err)
			}
		},
		OnError: func(err error) { d.run.wrong("device %s: %v", d.id, err) },
	})
	if err != nil {
		d.run.wrong("device %s: %v", d.id, err)
		return
	}
	living, end := context.WithCancel(ctx)
	var both sync.WaitGroup
	both.Go(func() { d.send(living, c) })
	both.Go(func() {
		for sleep(living, about(meanStay)) {
			if !d.run.lively.Load() {
				continue
			}
			if rand.IntN(2) == 0 {
				c.Cut()
			}
			end()
		}
	})
	if err := c.Run(living); err != nil { // not to come back is asked of none
		d.run.wrong("device %s: %v", d.id, err)
	}
	end()
	both.Wait()
	d.over(ctx.Err() == nil) // when the run is over the connection stayed
}

// dialEdge returns what dials an edge over its link; "" is any, another one each time.
func (r *Run) dialEdge(edge string) func(ctx context.Context, network, _ string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		to := cmp.Or(edge, r.cluster.Edges[rand.IntN(edges)].Name)
		return new(net.Dialer).DialContext(ctx, network, r.cluster.links[theDevices+">"+to].Addr())
	}
}

// over notes the end of a connection, if there is one.
func (d *device) over(cut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.conns); n > 0 && cut {
		d.conns[n-1].Stayed, d.conns[n-1].Cut = false, true
	}
	d.current = false
}

// Load and Save make d its own [client.Store].
func (d *device) Load() (client.Kept, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept, nil
}

func (d *device) Save(k client.Kept) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = k
	return nil
}

// facts is what is looked at in a frame.
type facts struct {
	Type      string `json:"type"`
	Hlc       string `json:"hlc"`
	ID        string `json:"id"`
	Code      string `json:"code"`
	Temporary bool   `json:"temporary"`
	Resume    struct {
		Complete bool `json:"complete"`
	} `json:"resume"`
}

// hear records a frame. asked is where the client, which has not seen it yet, goes on.
func (d *device) hear(text, asked string) {
	var f facts
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		d.run.wrong("device %s was sent %s: %v", d.id, text, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.Type == "welcome" {
		d.conns = append(d.conns, &e2e.Connection{User: d.user, Device: d.id, Since: asked, Echo: d.echo, Stayed: true})
		d.current = false
	}
	if len(d.conns) == 0 {
		d.run.wrong("device %s was sent %s before a welcome", d.id, text)
		return
	}
	record := d.conns[len(d.conns)-1]
	record.Frames = append(record.Frames, e2e.Frame{At: time.Now().UnixNano(), Text: text})
	switch f.Type {
	case "welcome":
		if !f.Resume.Complete {
			d.run.incomplete.Add(1)
		}
	case "caught_up":
		d.current = true
	case "accepted", "error":
		d.answered(f)
	default:
		if f.Hlc != "" {
			d.have[e2e.Blank(text)] = true
		}
	}
}

// send makes an update now and then, when the one before was accepted.
func (d *device) send(ctx context.Context, c *client.Client) {
	d.mu.Lock()
	u, kept := d.pending, len(d.kept.Updates) > 0
	d.mu.Unlock()
	if u != nil && !kept { // the client before had ended when it was given u
		_ = c.Submit(ctx, u.Update)
	}
	for sleep(ctx, about(meanQuiet)) {
		d.mu.Lock()
		idle := d.pending == nil
		d.mu.Unlock()
		if idle && d.run.lively.Load() {
			_ = c.Submit(ctx, d.next().Update) // its answer is heard as a frame, perhaps by the client after this
		}
	}
}

// next makes an update.
func (d *device) next() *update {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.updates++
	n := d.updates
	position, stamp := uint32(n), strconv.Itoa(1_795_437_339_530+n)
	d.pending = &update{
		Update: client.Update{Type: "progress_update", ID: fmt.Sprintf("eeeeeeee-eeee-4eee-8eee-%s%04x", d.id[28:], n), ContentID: content, PositionSeconds: &position, Timestamp: stamp},
		record: &e2e.Publish{User: d.user, Publisher: d.run.publisher(d.id), Channel: "from " + d.id, Fate: e2e.Event, Sent: time.Now().UnixNano(),
			Frame: fmt.Sprintf(`{"type":"progress_update","hlc":"%s","content_id":"%s","position":%d,"device_id":"%s","timestamp":"%s"}`, noStamp, content, n, d.id, stamp)},
	}
	d.run.record(d.pending.record)
	return d.pending
}

// answered takes the answer to an update. The caller holds mu.
func (d *device) answered(f facts) {
	u := d.pending
	switch {
	case u == nil || u.ID != f.ID: // of one that was sent twice
	case f.Type == "accepted":
		d.pending = nil
		d.run.confirm(u.record, "accepted")
	case !f.Temporary:
		d.run.wrong("device %s: an update was refused: %s", d.id, f.Code)
	}
}

// about is a time by chance whose mean is d.
func about(d time.Duration) time.Duration { return time.Duration(rand.ExpFloat64() * float64(d)) }

// connections is what was recorded so far.
func (d *device) connections() (all []e2e.Connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		one := *c
		one.Frames = one.Frames[:len(one.Frames):len(one.Frames)]
		all = append(all, one)
	}
	return all
}

// lacks counts what of a user's log the device was never sent, with what it sent and
// nobody has accepted, and says whether it is connected and caught up.
func (d *device) lacks(log []e2e.Entry) (n int, connected bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range log {
		var f struct {
			Device string `json:"device_id"`
		}
		if json.Unmarshal([]byte(e.Frame), &f) == nil && f.Device == d.id && !d.echo {
			continue
		}
		if !d.have[e2e.Blank(e.Frame)] {
			n++
		}
	}
	if d.pending != nil {
		n++
	}
	return n, d.current && d.conns[len(d.conns)-1].Stayed
}

const (
	content = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"
	noStamp = "0000000000000000"
)

func userNo(n int) string   { return fmt.Sprintf("aaaaaaaa-aaaa-4aaa-8aaa-%012x", n) }
func deviceNo(n int) string { return fmt.Sprintf("dddddddd-dddd-4ddd-8ddd-%012x", n) }
