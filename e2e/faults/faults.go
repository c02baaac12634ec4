package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patience is for what a harness asks of a cluster that is well.
const patience = 60 * time.Second

// errMissed says that a fault met nothing: who leads was not to be found out, say.
var errMissed = errors.New("the fault met nothing")

// befall lets an act happen to the cluster, and heals it. It returns when that is
// done, and errMissed where nothing happened.
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
		return c.hit(ctx, a, func(ctx context.Context) (string, error) { return c.streamLeader(ctx, a.B%shards) })
	case HitMetaLeader:
		return c.hit(ctx, a, c.metaLeader)
	case HitConsumerLeader:
		return c.hit(ctx, a, func(ctx context.Context) (string, error) { return c.consumerLeader(ctx, a.B%shards, edge.Name) })
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
		return r.slow(ctx, a, c.between(c.anybody(a.A), ""), func(l *Link) { l.Delay(a.Amount) })
	case NarrowLink:
		return r.slow(ctx, a, c.between(c.anybody(a.A), ""), func(l *Link) { l.Narrow(16<<10 + a.B<<12) })
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
	if a.Hard {
		return r.slow(ctx, a, links, (*Link).Refuse)
	}
	return r.slow(ctx, a, links, (*Link).Silence)
}

// slow does something to links for a time.
func (r *Run) slow(ctx context.Context, a Act, links []*Link, do func(*Link)) error {
	used := false
	for _, l := range links {
		used = used || l.InUse()
		r.strain(l, do)
	}
	sleep(ctx, a.For)
	for _, l := range links {
		r.relieve(l)
	}
	if !used {
		return errMissed
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

// toNats is a process's links to the NATS servers that it is connected to, or to all.
func (c *Cluster) toNats(name string, n int) (found []*Link) {
	for _, node := range c.Nodes {
		for _, l := range c.between(name, node.Name) {
			if n%2 == 0 || l.InUse() {
				found = append(found, l)
			}
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

// fullDisk leaves nothing of a NATS server's disk. With room, the server is started
// anew, as its operator would (README, "On a cluster"): one that looks well may have
// failed to write, and tell of it at the next write only.
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
	r.note("%s had met its full disk and is started anew", p.Name)
	r.mended.Add(1)
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
	ready := p.awaitReady
	if slices.Contains(r.cluster.Nodes, p) {
		ready = p.awaitWhole
	}
	if err := ready(ctx); p.endedEarly() != nil {
		return err
	}
	return nil
}

func eventsStream(shard int) string { return "REPRISE_EVENTS_" + strconv.Itoa(shard) }

func consumerOf(edge string) string { return "edge-" + edge }

func (c *Cluster) deleteConsumer(ctx context.Context, shard int, edge string) error {
	return c.deleteOne(ctx, eventsStream(shard), consumerOf(edge))
}

// deleteOne deletes a consumer, as far as other faults let it.
func (c *Cluster) deleteOne(ctx context.Context, stream, consumer string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		ask, done := context.WithTimeout(ctx, time.Second)
		err := c.js.DeleteConsumer(ask, stream, consumer)
		done()
		if err == nil {
			return nil
		}
		sleep(ctx, 200*time.Millisecond)
	}
	return errMissed
}

// deleteAllConsumers deletes those of the edges and of the bridges.
func (c *Cluster) deleteAllConsumers(ctx context.Context) error {
	var all sync.WaitGroup
	var deleted atomic.Int64
	del := func(stream, consumer string) {
		if c.deleteOne(ctx, stream, consumer) == nil {
			deleted.Add(1)
		}
	}
	for shard := range shards {
		for _, e := range c.Edges {
			all.Go(func() { del(eventsStream(shard), consumerOf(e.Name)) })
		}
		all.Go(func() { del("REPRISE_OUTBOX", "bridge-"+strconv.Itoa(shard)) })
	}
	all.Wait()
	if deleted.Load() == 0 {
		return errMissed
	}
	return nil
}

// hit kills or pauses the node that ask names.
func (c *Cluster) hit(ctx context.Context, a Act, ask func(context.Context) (string, error)) error {
	asking, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for asking.Err() == nil {
		once, done := context.WithTimeout(asking, time.Second)
		name, err := ask(once)
		done()
		for _, p := range c.Nodes {
			if err == nil && p.Name == name {
				if a.Hard {
					return pause(ctx, p, a.For)
				}
				return kill(ctx, p, a.For)
			}
		}
		sleep(asking, 200*time.Millisecond)
	}
	return errMissed
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
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
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
