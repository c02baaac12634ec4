package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patience is for what a harness asks of a cluster that is well.
const patience = 60 * time.Second

// befall lets a act happen to the cluster, and heals it. It returns when that is
// done.
func (r *Run) befall(ctx context.Context, a Act) error {
	if a.Kind == RestoreBackup { // nothing else may be wrong meanwhile
		r.others.Lock()
		defer r.others.Unlock()
		return r.restore(ctx, a.A%shards)
	}
	r.others.RLock()
	defer r.others.RUnlock()
	c := r.cluster
	node, bridge, edge := c.Nodes[a.A%nodes], c.Bridges[a.A%bridges], c.Edges[a.A%edges]
	hit := kill
	if a.Hard {
		hit = pause
	}
	switch a.Kind {
	case KillNode:
		return kill(ctx, node, a.For)
	case PauseNode:
		return pause(ctx, node, a.For)
	case KillBridge:
		return kill(ctx, bridge, a.For)
	case PauseBridge:
		return pause(ctx, bridge, a.For)
	case KillEdge:
		return kill(ctx, edge, a.For)
	case PauseEdge:
		return pause(ctx, edge, a.For)
	case HitStreamLeader:
		return hit(ctx, c.leader(ctx, a, func(ctx context.Context) (string, error) { return c.streamLeader(ctx, a.B%shards) }), a.For)
	case HitMetaLeader:
		return hit(ctx, c.leader(ctx, a, c.metaLeader), a.For)
	case HitConsumerLeader:
		return hit(ctx, c.leader(ctx, a, func(ctx context.Context) (string, error) { return c.consumerLeader(ctx, a.B%shards, edge.Name) }), a.For)
	case CutNodes:
		return r.cut(ctx, a, c.between(node.Name, c.Nodes[(a.A+1+a.B%2)%nodes].Name))
	case CutNode:
		return r.cut(ctx, a, c.between(node.Name, ""))
	case CutBridge:
		return r.cut(ctx, a, c.toNats(bridge.Name, a.B))
	case CutEdge:
		return r.cut(ctx, a, c.toNats(edge.Name, a.B))
	case CutPubNub:
		return r.cut(ctx, a, c.between(bridge.Name, "pubnub"))
	case PubNubDown:
		return r.cut(ctx, a, c.between("pubnub", ""))
	case CutDevices:
		return r.cut(ctx, a, c.between(theDevices, edge.Name))
	case Latency:
		return r.slow(ctx, a, c.between(c.anybody(a.A), ""), a.Amount, 0)
	case NarrowLink:
		return r.slow(ctx, a, c.between(c.anybody(a.A), ""), 0, 16<<10+a.B<<12)
	case WrongClock:
		return r.wrongClock(ctx, a)
	case FullDisk:
		return r.fullDisk(ctx, a)
	case RollingRestart:
		return r.rollingRestart(ctx)
	case DeleteConsumer:
		return c.deleteConsumer(ctx, a.B%shards, edge.Name)
	case DeleteAllConsumers:
		return c.deleteAllConsumers(ctx)
	}
	return fmt.Errorf("no fault %q", a.Kind)
}

// kill kills p and starts it again after a time.
func kill(ctx context.Context, p *Process, back time.Duration) error {
	p.busy.Lock()
	defer p.busy.Unlock()
	if err := p.stop(syscall.SIGKILL); err != nil {
		return err
	}
	sleep(ctx, back)
	return p.start()
}

// pause stops p and lets it go on after a time.
func pause(ctx context.Context, p *Process, back time.Duration) error {
	p.busy.Lock()
	defer p.busy.Unlock()
	p.Signal(syscall.SIGSTOP)
	sleep(ctx, back)
	p.Signal(syscall.SIGCONT)
	return nil
}

// cut cuts links for a time. Two cuts of one link heal with the later one.
func (r *Run) cut(ctx context.Context, a Act, links []*Link) error {
	for _, l := range links {
		if a.Hard {
			r.strain(l, (*Link).Refuse)
		} else {
			r.strain(l, (*Link).Silence)
		}
	}
	sleep(ctx, a.For)
	for _, l := range links {
		r.relieve(l)
	}
	return nil
}

func (r *Run) slow(ctx context.Context, a Act, links []*Link, latency time.Duration, rate int) error {
	for _, l := range links {
		r.strain(l, func(l *Link) { l.Slow(latency, rate) })
	}
	sleep(ctx, a.For)
	for _, l := range links {
		r.relieve(l)
	}
	return nil
}

// strain does something to a link, relieve heals it once nobody strains it.
func (r *Run) strain(l *Link, do func(*Link)) {
	r.strainMu.Lock()
	defer r.strainMu.Unlock()
	r.strains[l]++
	do(l)
}

func (r *Run) relieve(l *Link) {
	r.strainMu.Lock()
	defer r.strainMu.Unlock()
	if r.strains[l]--; r.strains[l] == 0 {
		l.Heal()
	}
}

// anybody is one of all who have links.
func (c *Cluster) anybody(n int) string {
	all := c.all()
	if n %= len(all) + 1; n < len(all) {
		return all[n].Name
	}
	return theDevices
}

// toNats is a process's links to one NATS server, or to all.
func (c *Cluster) toNats(name string, n int) (found []*Link) {
	for i, node := range c.Nodes {
		if n %= nodes + 1; n == nodes || n == i {
			found = append(found, c.between(name, node.Name)...)
		}
	}
	return found
}

// wrongClock sets a bridge's clock, and changes it again and again.
func (r *Run) wrongClock(ctx context.Context, a Act) error {
	i := a.A % bridges
	r.clocks[i].Lock()
	defer r.clocks[i].Unlock()
	steps := []time.Duration{a.Amount}
	if a.Hard { // it jumps
		steps = []time.Duration{a.Amount, -a.Amount, a.Amount / 2}
	}
	for _, off := range steps {
		if err := r.cluster.setClock(i, off); err != nil {
			return err
		}
		sleep(ctx, a.For/time.Duration(len(steps)))
	}
	return r.cluster.setClock(i, 0)
}

// fullDisk leaves nothing of a NATS server's disk. With room, a server that does not
// come to itself is started anew, as its operator would.
func (r *Run) fullDisk(ctx context.Context, a Act) error {
	i := a.A % nodes
	p := r.cluster.Nodes[i]
	p.busy.Lock()
	defer p.busy.Unlock()
	ballast := filepath.Join(r.cluster.disk(i), "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return err
	}
	defer os.Remove(ballast)
	defer f.Close()
	piece := make([]byte, 1<<20)
	for until := time.Now().Add(a.For); ; {
		if _, err := f.Write(piece); errors.Is(err, syscall.ENOSPC) {
			if len(piece) > 1 {
				piece = piece[:len(piece)/2]
				continue
			}
			if !sleep(ctx, 50*time.Millisecond) || time.Now().After(until) { // what is freed is taken
				break
			}
		} else if err != nil {
			return err
		}
	}
	f.Close()
	if err := os.Remove(ballast); err != nil {
		return err
	}
	sleep(ctx, time.Second)
	if status(ctx, p.ready) == http.StatusOK {
		return nil
	}
	r.note("%s had met its full disk and is started anew", p.Name)
	if err := p.stop(syscall.SIGTERM); err != nil {
		return err
	}
	return p.start()
}

// rollingRestart restarts everything in good order, one after the other.
func (r *Run) rollingRestart(ctx context.Context) error {
	for _, p := range r.cluster.all() {
		if err := r.restart(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) restart(ctx context.Context, p *Process) error {
	p.busy.Lock()
	defer p.busy.Unlock()
	if err := p.stop(syscall.SIGTERM); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	// Something else may be wrong that keeps it from being ready.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := p.awaitReady(ctx); p.endedEarly() != nil {
		return err
	}
	return nil
}

func eventsStream(shard int) string { return "REPRISE_EVENTS_" + strconv.Itoa(shard) }

func consumerOf(edge string) string { return "edge-" + edge }

func (c *Cluster) deleteConsumer(ctx context.Context, shard int, edge string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c.js.DeleteConsumer(ctx, eventsStream(shard), consumerOf(edge)) // other faults may be in its way
	return nil
}

func (c *Cluster) deleteAllConsumers(ctx context.Context) error {
	var all sync.WaitGroup
	for shard := range shards {
		for _, e := range c.Edges {
			all.Go(func() { c.deleteConsumer(ctx, shard, e.Name) })
		}
	}
	all.Wait()
	return nil
}

// leader is the node that ask names, or one by chance where nobody knows.
func (c *Cluster) leader(ctx context.Context, a Act, ask func(context.Context) (string, error)) *Process {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	name, err := ask(ctx)
	if err == nil {
		for _, p := range c.Nodes {
			if p.Name == name {
				return p
			}
		}
	}
	return c.Nodes[a.A%nodes]
}

func (c *Cluster) streamLeader(ctx context.Context, shard int) (string, error) {
	s, err := c.js.Stream(ctx, eventsStream(shard))
	if err != nil {
		return "", err
	}
	return leaderIn(s.CachedInfo().Cluster)
}

func (c *Cluster) consumerLeader(ctx context.Context, shard int, edge string) (string, error) {
	consumer, err := c.js.Consumer(ctx, eventsStream(shard), consumerOf(edge))
	if err != nil {
		return "", err
	}
	return leaderIn(consumer.CachedInfo().Cluster)
}

func leaderIn(i *jetstream.ClusterInfo) (string, error) {
	if i == nil || i.Leader == "" {
		return "", errors.New("no leader")
	}
	return i.Leader, nil
}

// metaLeader asks the servers by their monitoring pages.
func (c *Cluster) metaLeader(ctx context.Context) (string, error) {
	for i := range c.Nodes {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.prefix+strconv.Itoa(i+1)+":8222/jsz", nil)
		if err != nil {
			return "", err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		var page struct {
			Meta struct {
				Leader string `json:"leader"`
			} `json:"meta_cluster"`
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err == nil && page.Meta.Leader != "" {
			return page.Meta.Leader, nil
		}
	}
	return "", nats.ErrNoServers
}
