package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/bridge/pubnubtest"
)

// How many of each there are where faults happen.
const (
	nodes   = 3
	bridges = 2
	edges   = 3
	shards  = 4
)

// A Shape is what a cluster is made of, beside the three NATS servers.
type Shape struct {
	Shards, Bridges, Edges int
	// Forgetful edges remember next to nothing: what a device missed is read from the log.
	Forgetful bool
	// Straight is without links and without disks of their own, to measure.
	Straight bool
}

// Whole is the shape that the faults are for.
var Whole = Shape{Shards: shards, Bridges: bridges, Edges: edges}

// diskSize is what each NATS server has.
const diskSize = "256m"

// A Cluster is a relay as it runs in production, all of it on this machine: three
// NATS servers, two bridges and three edges, each a process, with a Link between
// any two that talk to each other, and PubNub's emulator in this process.
type Cluster struct {
	Dir     string // of everything; kept by who made it
	Shape   Shape
	Nodes   []*Process
	Bridges []*Process
	Edges   []*Process
	PubNub  *pubnubtest.Server

	prefix string           // of the addresses, 127.x.y.
	links  map[string]*Link // by "a>b", a dials
	disks  *exec.Cmd        // holds the mounts of the NATS servers' disks
	nc     *nats.Conn       // by no link
	js     jetstream.JetStream
	read   []readShard
}

// theDevices is what the devices are called where links are named.
const theDevices = "devices"

// Start starts a cluster in dir, and returns when all of it is ready. Config is
// PubNub's. The cluster must be closed, also where there is an error.
func Start(ctx context.Context, programs Programs, dir string, shape Shape, config pubnubtest.Config) (*Cluster, error) {
	c := &Cluster{Dir: dir, Shape: shape, links: make(map[string]*Link), read: make([]readShard, shape.Shards)}
	return c, c.start(ctx, programs, config)
}

func (c *Cluster) start(ctx context.Context, programs Programs, config pubnubtest.Config) (err error) {
	if c.prefix, err = freePrefix(); err != nil {
		return err
	}
	config.HistoryLimit, config.MaxMessages = 1<<20, 1<<20
	if c.PubNub, err = pubnubtest.Start(config); err != nil {
		return err
	}
	if err := c.mountDisks(); err != nil {
		return err
	}
	if err := c.startNodes(ctx, programs); err != nil {
		return err
	}
	for i := range c.Shape.Bridges {
		name := "bridge-" + strconv.Itoa(i+1)
		urls, err := c.natsFor(name)
		if err != nil {
			return err
		}
		pubnub, err := c.pubnubFor(name)
		if err != nil {
			return err
		}
		admin := c.prefix + strconv.Itoa(21+i) + ":9090"
		p := c.process(name, "http://"+admin+"/readyz", programs.Reprise, "bridge", "--node", name, "--nats-url", urls,
			"--stream-shards", strconv.Itoa(c.Shape.Shards), "--stream-replicas", "3", "--admin-listen", admin, "--log-format", "json",
			"--pubnub-origin", pubnub, "--pubnub-tls=false", "--pubnub-subscribe-key", "demo", "--pubnub-publish-key", "demo",
			"--pubnub-history-rate", "200/s", "--drain", "2s")
		p.env = []string{"WRONG_CLOCK=" + c.clockFile(i), "GORACE=halt_on_error=1"}
		c.Bridges = append(c.Bridges, p)
	}
	for i := range c.Shape.Edges {
		name := "edge-" + strconv.Itoa(i+1)
		urls, err := c.natsFor(name)
		if err != nil {
			return err
		}
		host := c.prefix + strconv.Itoa(31+i)
		if _, err := c.link(theDevices, name, host+":8080"); err != nil {
			return err
		}
		p := c.process(name, "http://"+host+":9090/readyz", programs.Reprise, "edge", "--node", name, "--nats-url", urls,
			"--stream-shards", strconv.Itoa(c.Shape.Shards), "--stream-replicas", "3", "--listen", host+":8080", "--admin-listen", host+":9090",
			"--auth", "none", "--log-format", "json", "--pubnub-publish-key", "demo",
			"--ping-interval", "2s", "--idle-timeout", "5s", "--drain", "1s")
		if c.Shape.Forgetful {
			p.args = append(p.args, "--tail-per-user", "4", "--tail-linger", "2s")
		}
		p.env = []string{"GORACE=halt_on_error=1"}
		c.Edges = append(c.Edges, p)
	}
	// The first makes the streams.
	for i, p := range append(append([]*Process(nil), c.Bridges...), c.Edges...) {
		if err := p.start(); err != nil {
			return err
		}
		if i == 0 {
			if err := p.awaitReady(ctx); err != nil {
				return err
			}
		}
	}
	for _, p := range c.all() {
		if err := p.awaitReady(ctx); err != nil {
			return err
		}
	}
	return c.PubNub.WaitPolls(ctx, c.Shape.Bridges)
}

func (c *Cluster) startNodes(ctx context.Context, programs Programs) error {
	for i := range nodes {
		name := "nats-" + strconv.Itoa(i+1)
		host := c.prefix + strconv.Itoa(i+1)
		var routes []string
		for j := range nodes {
			if i != j {
				l, err := c.link(name, "nats-"+strconv.Itoa(j+1), c.prefix+strconv.Itoa(j+1)+":6222")
				if err != nil {
					return err
				}
				routes = append(routes, fmt.Sprintf("%q", "nats://"+l.Addr()))
			}
		}
		// Servers tell each other where the others are: what they say here leads
		// nowhere, so that every connection goes over a link.
		conf := fmt.Sprintf(`
server_name: %s
listen: "%s:4222"
http: "%s:8222"
ping_interval: "1s"
ping_max: 3
write_deadline: "5s"
jetstream { store_dir: %q, max_mem: 256MB, max_file: 8GB }
cluster {
  name: reprise
  listen: "%s:6222"
  advertise: "127.0.0.1:9"
  no_advertise: true
  routes: [%s]
  ping_interval: "1s"
  ping_max: 3
}
`, name, host, host, filepath.Join(c.Dir, "disks", name), host, strings.Join(routes, ", "))
		file := filepath.Join(c.Dir, name+".conf")
		if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
			return err
		}
		enter := append(c.enterDisks(), programs.Nats, "-c", file)
		p := c.process(name, "http://"+host+":8222/healthz"+jsEnabledOnly, enter...)
		c.Nodes = append(c.Nodes, p)
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, p := range c.Nodes {
		if err := p.awaitReady(ctx); err != nil {
			return err
		}
	}
	for _, err := c.metaLeader(ctx); err != nil; _, err = c.metaLeader(ctx) {
		if !sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("no meta leader: %w", err)
		}
	}
	var urls []string
	for i := range nodes {
		urls = append(urls, "nats://"+c.prefix+strconv.Itoa(i+1)+":4222")
	}
	var err error
	if c.nc, err = nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(3), nats.Name("harness")); err != nil {
		return err
	}
	c.js, err = jetstream.New(c.nc)
	return err
}

// process is a program with its log in the cluster's directory.
func (c *Cluster) process(name, ready string, args ...string) *Process {
	return &Process{Name: name, log: filepath.Join(c.Dir, name+".log"), args: args, ready: ready}
}

func (c *Cluster) all() []*Process {
	return append(append(append([]*Process(nil), c.Nodes...), c.Bridges...), c.Edges...)
}

// link makes the way on which from dials to, which listens at target.
func (c *Cluster) link(from, to, target string) (*Link, error) {
	if c.Shape.Straight {
		return &Link{Name: from + ">" + to, target: target}, nil
	}
	l, err := newLink(from+">"+to, c.prefix+"1", target)
	if err == nil {
		c.links[l.Name] = l
	}
	return l, err
}

// natsFor is where a process finds the NATS servers.
func (c *Cluster) natsFor(name string) (string, error) {
	var urls []string
	for i := range nodes {
		l, err := c.link(name, "nats-"+strconv.Itoa(i+1), c.prefix+strconv.Itoa(i+1)+":4222")
		if err != nil {
			return "", err
		}
		urls = append(urls, "nats://"+l.Addr())
	}
	return strings.Join(urls, ","), nil
}

// pubnubFor is where a process finds PubNub. The SDK takes the digits of a status
// in an error's text, which has the port, for the status.
func (c *Cluster) pubnubFor(name string) (string, error) {
	for {
		l, err := c.link(name, "pubnub", c.PubNub.Addr())
		if err != nil {
			return "", err
		}
		_, port, _ := net.SplitHostPort(l.Addr())
		if c.Shape.Straight || !strings.Contains(port, "400") && !strings.Contains(port, "403") && !strings.Contains(port, "530") {
			return l.Addr(), nil
		}
		l.close()
	}
}

// between is the links of a with b, whoever dials; b "" is with anybody.
func (c *Cluster) between(a, b string) (found []*Link) {
	for _, l := range c.links {
		from, to, _ := strings.Cut(l.Name, ">")
		if from == a && (b == "" || to == b) || to == a && (b == "" || from == b) {
			found = append(found, l)
		}
	}
	return found
}

// clockFile is where bridge i reads by how many nanoseconds its clock is wrong.
func (c *Cluster) clockFile(i int) string {
	return filepath.Join(c.Dir, "clock-"+strconv.Itoa(i+1))
}

// setClock sets the clock of bridge i.
func (c *Cluster) setClock(i int, off time.Duration) error {
	next := c.clockFile(i) + ".next"
	if err := os.WriteFile(next, []byte(strconv.FormatInt(int64(off), 10)), 0o644); err != nil {
		return err
	}
	return os.Rename(next, c.clockFile(i))
}

// freePrefix finds a network of loopback addresses that nobody uses.
func freePrefix() (string, error) {
	for range 100 {
		prefix := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(256))
		ln, err := net.Listen("tcp", prefix+"1:4222")
		if err == nil {
			ln.Close()
			return prefix, nil
		}
	}
	return "", errors.New("no free loopback network")
}

// mountDisks makes a small disk for each NATS server, in a mount namespace that
// lives as long as the cluster.
func (c *Cluster) mountDisks() error {
	var script strings.Builder
	for i := range nodes {
		dir := filepath.Join(c.Dir, "disks", "nats-"+strconv.Itoa(i+1))
		if err := os.MkdirAll(dir, 0o755); err != nil || c.Shape.Straight {
			return err
		}
		fmt.Fprintf(&script, "mount -t tmpfs -o size=%s tmpfs '%s' && ", diskSize, dir)
	}
	args := []string{"-m"}
	if os.Geteuid() != 0 {
		args = []string{"-rm"}
	}
	c.disks = exec.Command("unshare", append(args, "sh", "-c", script.String()+"echo mounted && exec sleep infinity")...)
	c.disks.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.disks.Stderr = os.Stderr
	out, err := c.disks.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.disks.Start(); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "mounted\n" {
		return fmt.Errorf("mount namespace: %q, %w", line, err)
	}
	return nil
}

// enterDisks is the command that starts a program where the disks are mounted.
func (c *Cluster) enterDisks() []string {
	if c.Shape.Straight {
		return nil
	}
	args := []string{"nsenter", "--target", strconv.Itoa(c.disks.Process.Pid), "--mount"}
	if os.Geteuid() != 0 {
		args = append(args, "--user", "--preserve-credentials")
	}
	return args
}

// disk is the disk of node i, as this process sees it.
func (c *Cluster) disk(i int) string {
	return filepath.Join("/proc", strconv.Itoa(c.disks.Process.Pid), "root", c.Dir, "disks", "nats-"+strconv.Itoa(i+1))
}

// Close ends everything at once.
func (c *Cluster) Close() {
	for _, p := range c.all() {
		p.stop(syscall.SIGKILL)
	}
	if c.nc != nil {
		c.nc.Close()
	}
	for _, l := range c.links {
		l.close()
	}
	if c.PubNub != nil {
		c.PubNub.Close()
	}
	if c.disks != nil && c.disks.Process != nil {
		c.disks.Process.Kill()
		c.disks.Wait()
	}
}
