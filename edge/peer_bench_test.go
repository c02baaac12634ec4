package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"reprise/stream"
)

// peerDrain is the variable that makes this test binary a device that reads
// everything and says nothing, at that address, instead of running tests: its CPU
// time must not count.
const peerDrain = "REPRISE_DRAIN"

// drain reads from what listens at addr until that ends. With paths behind it, one
// a line, it shakes hands for each of them, on connections of their own.
func drain(at string) error {
	addr, paths, _ := strings.Cut(at, "\n")
	var all errgroup.Group
	for path := range strings.SplitSeq(paths, "\n") {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		if path != "" {
			fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path)
		}
		all.Go(func() error { _, err := io.Copy(io.Discard, nc); return err })
	}
	return all.Wait()
}

// drainer is a connection whose other end is read by another process.
func drainer(b *testing.B) net.Conn {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	device := exec.Command(os.Args[0])
	device.Env = append(os.Environ(), peerDrain+"="+ln.Addr().String())
	if err := device.Start(); err != nil {
		b.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close(); device.Wait() })
	return nc
}

// counted counts the writes of a connection.
type counted struct {
	net.Conn
	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

// BenchmarkWriteAgainstGorilla is the write path alone, from a frame's payload to
// the system call, for bursts of frames of 300 bytes: ours against
// gorilla/websocket's WriteMessage and WritePreparedMessage, prepared once, with a
// pool of write buffers, in alternating rounds. It reports microseconds of the
// writing process's CPU time for each frame as medians, how many times as many
// frames ours writes in the same time, and its system calls for each frame.
//
//	go test ./edge -run '^$' -bench '^BenchmarkWriteAgainstGorilla$' -benchtime 1x
func BenchmarkWriteAgainstGorilla(b *testing.B) {
	const rounds, frames = 9, 20_000
	payload := []byte(strings.Repeat("x", 300))
	for _, burst := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("burst=%d", burst), func(b *testing.B) {
			socket := &counted{Conn: drainer(b)}
			w := testWire(socket)
			theirs := gorilla(b, drainer(b))
			prepared, err := websocket.NewPreparedMessage(websocket.TextMessage, payload)
			if err != nil {
				b.Fatal(err)
			}
			ways := []func() error{
				func() error {
					out := takeOutbox()
					defer out.give()
					for range burst {
						out.bytes = appendFrame(out.bytes, opText, payload)
					}
					return w.send(out.bytes)
				},
				func() error {
					for range burst {
						theirs.SetWriteDeadline(time.Now().Add(30 * time.Second))
						if err := theirs.WriteMessage(websocket.TextMessage, payload); err != nil {
							return err
						}
					}
					return nil
				},
				func() error {
					for range burst {
						theirs.SetWriteDeadline(time.Now().Add(30 * time.Second))
						if err := theirs.WritePreparedMessage(prepared); err != nil {
							return err
						}
					}
					return nil
				},
			}
			var took [3][]float64
			for b.Loop() {
				for range rounds {
					for i, way := range ways {
						before := processCPU(b)
						for n := 0; n < frames; n += burst {
							if err := way(); err != nil {
								b.Fatal(err)
							}
						}
						took[i] = append(took[i], float64((processCPU(b)-before).Nanoseconds())/1e3/frames)
					}
				}
			}
			for i := range took {
				slices.Sort(took[i])
			}
			mid := func(i int) float64 { return took[i][len(took[i])/2] }
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(mid(0), "µs/frame")
			b.ReportMetric(mid(1), "gorilla-µs/frame")
			b.ReportMetric(mid(2), "prepared-µs/frame")
			b.ReportMetric(mid(1)/mid(0), "times-gorilla")
			b.ReportMetric(float64(socket.writes)/float64(frames*rounds*b.N), "writes/frame")
		})
	}
}

// processCPU is the CPU time of this process.
func processCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// gorilla is a server's end over nc, set up as its users tune it.
func gorilla(b *testing.B, nc net.Conn) *websocket.Conn {
	b.Helper()
	r, err := http.NewRequest(http.MethodGet, "/ws", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
	up := websocket.Upgrader{ReadBufferSize: 256, WriteBufferSize: 4096, WriteBufferPool: new(sync.Pool)}
	ws, err := up.Upgrade(&onSocket{header: http.Header{}, nc: nc}, r, nil)
	if err != nil {
		b.Fatal(err)
	}
	return ws
}

// onSocket is the answer to a handshake that is upgraded to a socket.
type onSocket struct {
	header http.Header
	nc     net.Conn
}

func (o *onSocket) Header() http.Header       { return o.header }
func (*onSocket) Write(p []byte) (int, error) { return len(p), nil }
func (*onSocket) WriteHeader(int)             {}
func (o *onSocket) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if o.nc == nil {
		return nil, nil, errors.New("hijacked")
	}
	return o.nc, bufio.NewReadWriter(bufio.NewReader(o.nc), bufio.NewWriter(o.nc)), nil
}

// BenchmarkServerAgainstGorilla is the whole way of an event, from its append to a
// log of its own in this process to the sockets of its user's devices, in bursts:
// our server against one of gorilla/websocket's kind, with a goroutine and a queue
// for each connection and messages prepared once, that follows an equal log. It
// reports microseconds of this process's CPU time for each delivery, the log
// included, as medians of alternating rounds, what of it is the log's (an equal edge
// without devices), and how many times ours theirs is, with the log and without.
//
//	go test ./edge -run '^$' -bench '^BenchmarkServerAgainstGorilla$' -benchtime 1x
func BenchmarkServerAgainstGorilla(b *testing.B) {
	const rounds, deliveries = 7, 40_000
	for _, bb := range []struct{ devices, burst int }{{2, 10}, {20, 10}, {20, 100}} {
		b.Run(fmt.Sprintf("devices=%d/burst=%d", bb.devices, bb.burst), func(b *testing.B) {
			var paths []string
			for n := range bb.devices {
				paths = append(paths, "/ws?since=latest&user_id="+uuidA+"&device_id="+uuidOf('a', n))
			}
			ours, alone, hub := newRelay(b, Config{}), newRelay(b, Config{}), newHub(b)
			connectAll(b, strings.TrimPrefix(ours.url, "http://"), paths)
			ours.await("the devices", func() bool { return ours.Stats().ActiveConnections == bb.devices })
			connectAll(b, hub.addr, paths)
			ours.await("the hub's devices", func() bool { return hub.count() == bb.devices })
			ways := []struct {
				writer    *stream.Writer
				delivered func() int
			}{{ours.writer, func() int { return int(ours.metrics.messages.Load()) }}, {hub.writer, func() int { return int(hub.written.Load()) }},
				{alone.writer, func() int { return int(alone.shards[0].dispatched().Seq) * bb.devices }}}
			pad := strings.Repeat("x", 240)
			var took [3][]float64
			next := 0
			for b.Loop() {
				for range rounds {
					for i, way := range ways {
						before, want := processCPU(b), way.delivered()
						for range deliveries / bb.devices / bb.burst {
							for range bb.burst {
								next++
								frame := fmt.Sprintf(`{"type":"event","hlc":"0000000000000000","n":%d,"pad":"%s"}`, next, pad)
								ev := stream.Event{ID: fmt.Sprint(next), User: uuidA, Frame: []byte(frame), StampAt: strings.Index(frame, "0000000000000000")}
								if err := way.writer.Append(b.Context(), ev); err != nil {
									b.Fatal(err)
								}
							}
							want += bb.burst * bb.devices
							for way.delivered() < want { // the next burst finds everybody idle
								time.Sleep(100 * time.Microsecond)
							}
						}
						took[i] = append(took[i], float64((processCPU(b)-before).Nanoseconds())/1e3/deliveries)
					}
				}
			}
			for i := range took {
				slices.Sort(took[i])
			}
			mid := func(i int) float64 { return took[i][len(took[i])/2] }
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(mid(0), "µs/delivery")
			b.ReportMetric(mid(1), "gorilla-µs/delivery")
			b.ReportMetric(mid(2), "log-µs/delivery")
			b.ReportMetric(mid(1)/mid(0), "times-gorilla")
			b.ReportMetric((mid(1)-mid(2))/(mid(0)-mid(2)), "times-gorilla-without-log")
		})
	}
}

// connectAll has another process connect and read, for each path.
func connectAll(b *testing.B, addr string, paths []string) {
	b.Helper()
	devices := exec.Command(os.Args[0])
	devices.Env = append(os.Environ(), peerDrain+"="+addr+"\n"+strings.Join(paths, "\n"))
	if err := devices.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { devices.Process.Kill(); devices.Wait() })
}

// hub is a relay as it is built on gorilla/websocket, for one user.
type hub struct {
	addr    string
	writer  *stream.Writer
	written atomic.Int64

	mu    sync.Mutex
	conns []chan *websocket.PreparedMessage
}

func newHub(b *testing.B) *hub {
	b.Helper()
	log := openLog(b, stream.Config{Node: "hub"})
	h := &hub{writer: acquireShard(b, log)}
	up := websocket.Upgrader{ReadBufferSize: 256, WriteBufferSize: 4096, WriteBufferPool: new(sync.Pool)}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		send := make(chan *websocket.PreparedMessage, 256)
		h.mu.Lock()
		h.conns = append(h.conns, send)
		h.mu.Unlock()
		for m := range send {
			ws.SetWriteDeadline(time.Now().Add(30 * time.Second))
			if ws.WritePreparedMessage(m) != nil {
				return
			}
			h.written.Add(1)
		}
	}))
	h.addr = web.Listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	followed := make(chan error, 1)
	go func() {
		followed <- log.Follow(ctx, 0, stream.FollowOptions{}, func(r *stream.Record) {
			if r.Kind != stream.KindEvent {
				return
			}
			m, err := websocket.NewPreparedMessage(websocket.TextMessage, r.Frame)
			if err != nil {
				return
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, send := range h.conns {
				send <- m
			}
		})
	}()
	b.Cleanup(func() {
		stop()
		<-followed
		for _, send := range h.conns {
			close(send)
		}
		web.CloseClientConnections()
		web.Close()
	})
	return h
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}
