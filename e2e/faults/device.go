package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"reprise/e2e"
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

// A client is a device as a real one: it keeps its cursor, comes back by itself,
// and sends again what was not accepted.
type client struct {
	// static after construction
	run      *Run
	user, id string
	echo     bool
	edge     string // that it connects to; "" is any

	// owned by live's goroutine
	cursor   string // "" is nothing yet
	attempts int    // since it was caught up last
	updates  int

	// guarded by mu
	mu      sync.Mutex
	conns   []*e2e.Connection // with Stayed for the one that is open
	have    map[string]bool   // events that it was ever sent, with a blank stamp
	pending *update           // sent, and not yet accepted; nil is none
	current bool              // the connection that is open has been caught up
}

// update is what a device sends.
type update struct {
	id, text string
	record   *e2e.Publish
}

// live connects, again and again, until ctx ends.
func (d *client) live(ctx context.Context) {
	for ctx.Err() == nil {
		wait, ok := d.connect(ctx)
		if !ok {
			d.attempts++
			wait = max(wait, rand.N(min(maxBackoff, minBackoff<<min(d.attempts, 10))))
		}
		sleep(ctx, min(wait, maxBackoff))
	}
}

// connect lives through one connection. ok says that it ended by the device's own
// will, and the device comes back after wait; else wait is what the edge asked for.
func (d *client) connect(ctx context.Context) (wait time.Duration, ok bool) {
	edge := d.edge
	if edge == "" {
		edge = d.run.cluster.Edges[rand.IntN(edges)].Name
	}
	link := d.run.cluster.links[theDevices+">"+edge]
	since := d.cursor
	if since == "" {
		since = "earliest"
	}
	echo := ""
	if d.echo {
		echo = "&echo=1"
	}
	dialing, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	ws, resp, err := websocket.Dial(dialing, fmt.Sprintf("ws://%s/ws?user_id=%s&device_id=%s&since=%s%s", link.Addr(), d.user, d.id, since, echo),
		&websocket.DialOptions{HTTPClient: d.run.http})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusTooManyRequests {
			d.run.wrong("device %s was refused with %d: %v", d.id, resp.StatusCode, err)
		}
		return 0, false
	}
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)
	record := &e2e.Connection{User: d.user, Device: d.id, Since: since, Echo: d.echo, Stayed: true}
	d.mu.Lock()
	d.conns, d.current = append(d.conns, record), false
	d.mu.Unlock()

	living, end := context.WithCancel(ctx)
	var both sync.WaitGroup
	both.Go(func() { d.ping(living, ws) })
	both.Go(func() { d.send(living, ws) })
	left := false // by its own will
	both.Go(func() {
		defer ws.CloseNow()
		for sleep(living, about(meanStay)) {
			if d.run.lively.Load() {
				d.mu.Lock()
				left = true
				d.mu.Unlock()
				return
			}
		}
	})
	wait = d.read(ws, record)
	end()
	both.Wait()
	if ctx.Err() != nil {
		return 0, true // the run is over: the connection stayed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	record.Stayed, record.Cut = false, true
	if left {
		return about(meanAway), true
	}
	return wait, false
}

// facts is what a device looks at in a frame.
type facts struct {
	Type      string `json:"type"`
	Hlc       string `json:"hlc"`
	ID        string `json:"id"`
	Code      string `json:"code"`
	Temporary bool   `json:"temporary"`
	AfterMs   int64  `json:"after_ms"`
	Resume    struct {
		Since    string `json:"since"`
		Complete bool   `json:"complete"`
	} `json:"resume"`
}

// read records every frame until the connection ends, and returns how long the edge
// asked to wait.
func (d *client) read(ws *websocket.Conn, record *e2e.Connection) (wait time.Duration) {
	for {
		_, text, err := ws.Read(context.Background())
		if err != nil {
			return wait
		}
		d.mu.Lock()
		record.Frames = append(record.Frames, e2e.Frame{At: time.Now().UnixNano(), Text: string(text)})
		d.mu.Unlock()
		var f facts
		if err := json.Unmarshal(text, &f); err != nil {
			d.run.wrong("device %s was sent %s: %v", d.id, text, err)
			continue
		}
		switch f.Type {
		case "welcome":
			if d.cursor = f.Resume.Since; !f.Resume.Complete {
				d.run.incomplete.Add(1)
			}
		case "caught_up":
			d.attempts = 0
			d.cursor = max(d.cursor, f.Hlc)
			d.mu.Lock()
			d.current = true
			d.mu.Unlock()
		case "reconnect":
			wait = time.Duration(f.AfterMs) * time.Millisecond
		case "accepted", "error":
			d.answered(f)
		default:
			if f.Hlc != "" {
				d.cursor = max(d.cursor, f.Hlc)
				d.mu.Lock()
				d.have[e2e.Blank(string(text))] = true
				d.mu.Unlock()
			}
		}
	}
}

// ping cuts the connection when nothing comes back.
func (d *client) ping(ctx context.Context, ws *websocket.Conn) {
	for sleep(ctx, pingEvery) {
		asked, cancel := context.WithTimeout(ctx, pingPatience)
		err := ws.Ping(asked)
		cancel()
		if err != nil {
			ws.CloseNow()
			return
		}
	}
}

// send sends what is not yet accepted, and now and then something new, one after
// the other.
func (d *client) send(ctx context.Context, ws *websocket.Conn) {
	for {
		d.mu.Lock()
		u := d.pending
		d.mu.Unlock()
		if u == nil {
			if !sleep(ctx, about(meanQuiet)) {
				return
			}
			if !d.run.lively.Load() {
				continue
			}
			u = d.next()
		}
		sending, cancel := context.WithTimeout(ctx, pingPatience)
		err := ws.Write(sending, websocket.MessageText, []byte(u.text))
		cancel()
		if err != nil {
			return
		}
		// Once a second it asks whether it was accepted, or sends it again.
		for range 5 {
			if !sleep(ctx, time.Second) {
				return
			}
			d.mu.Lock()
			done := d.pending != u
			d.mu.Unlock()
			if done {
				break
			}
		}
	}
}

// next makes an update.
func (d *client) next() *update {
	d.updates++
	n := d.updates
	id := fmt.Sprintf("eeeeeeee-eeee-4eee-8eee-%s%04x", d.id[28:], n)
	u := &update{id: id,
		text: fmt.Sprintf(`{"type":"progress_update","id":"%s","content_id":"%s","position_seconds":%d,"timestamp":"%d"}`, id, content, n, 1_795_437_339_530+n),
		record: &e2e.Publish{User: d.user, Publisher: d.run.publisher(d.id), Channel: "from " + d.id, Fate: e2e.Event, Sent: time.Now().UnixNano(),
			Frame: fmt.Sprintf(`{"type":"progress_update","hlc":"%s","content_id":"%s","position":%d,"device_id":"%s","timestamp":"%d"}`, noStamp, content, n, d.id, 1_795_437_339_530+n)},
	}
	d.run.record(u.record)
	d.mu.Lock()
	d.pending = u
	d.mu.Unlock()
	return u
}

// answered takes the answer to an update.
func (d *client) answered(f facts) {
	d.mu.Lock()
	u := d.pending
	if u == nil || u.id != f.ID { // of one that was sent twice
		d.mu.Unlock()
		return
	}
	if f.Type == "accepted" {
		d.pending = nil
	}
	d.mu.Unlock()
	switch {
	case f.Type == "accepted":
		d.run.confirm(u.record, "accepted")
	case !f.Temporary:
		d.run.wrong("device %s: an update was refused: %s", d.id, f.Code)
	}
}

// about is a time by chance whose mean is d.
func about(d time.Duration) time.Duration { return time.Duration(rand.ExpFloat64() * float64(d)) }

// connections is what was recorded so far.
func (d *client) connections() (all []e2e.Connection) {
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
func (d *client) lacks(log []e2e.Entry) (n int, connected bool) {
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
