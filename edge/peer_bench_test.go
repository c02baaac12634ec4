package edge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// peerDrain is the variable that makes this test binary a device that reads
// everything and says nothing, at that address, instead of running tests: its CPU
// time must not count.
const peerDrain = "REPRISE_DRAIN"

// drain reads from what listens at addr until that ends.
func drain(addr string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, nc)
	return err
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
