package edge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"go.opentelemetry.io/otel/sdk/metric"

	"reprise/stream"
)

// drained connects over TCP below WebSocket and counts the bytes it is sent.
func drained(b *testing.B, s http.Handler, path string) (count chan int) {
	web := httptest.NewServer(s)
	nc, err := net.Dial("tcp", web.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close(); web.Close() })
	return listen(b, nc, path)
}

func listen(b *testing.B, nc net.Conn, path string) (count chan int) {
	io.WriteString(nc, "GET "+path+" HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	r := bufio.NewReader(nc)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		b.Fatalf("handshake = %+v, %v, want 101", resp, err)
	}
	count = make(chan int, 1<<16)
	go func() {
		defer close(count)
		buf := make([]byte, 256<<10)
		for {
			n, err := r.Read(buf)
			if err != nil {
				return
			}
			count <- n
		}
	}()
	return count
}

// receive waits until n bytes have come.
func receive(b *testing.B, count chan int, n int) {
	for n > 0 {
		got, ok := <-count
		if !ok {
			b.Fatal("connection ended")
		}
		n -= got
	}
	if n < 0 {
		b.Fatalf("%d bytes more than were sent", -n)
	}
}

// BenchmarkWrite is the write path alone, one operation being one frame of 300
// bytes in bursts: the library's Write against a batch of ours, both to a socket
// whose other end reads.
func BenchmarkWrite(b *testing.B) {
	payload := []byte(strings.Repeat("x", 300))
	framed := len(appendFrame(nil, opText, payload))
	for _, burst := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("library/burst=%d", burst), func(b *testing.B) {
			got := make(chan *websocket.Conn, 1)
			count := drained(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ws, err := websocket.Accept(w, r, nil)
				if err != nil {
					return
				}
				got <- ws
				ws.Read(context.Background())
			}), "/")
			ws := <-got
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += burst {
				for range burst {
					if err := ws.Write(context.Background(), websocket.MessageText, payload); err != nil {
						b.Fatal(err)
					}
				}
				receive(b, count, burst*framed)
			}
		})
		b.Run(fmt.Sprintf("batch/burst=%d", burst), func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			near, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer near.Close()
			far, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer far.Close()
			w := testWire(far)
			count := make(chan int, 1<<16)
			go func() {
				buf := make([]byte, 256<<10)
				for {
					n, err := near.Read(buf)
					if err != nil {
						return
					}
					count <- n
				}
			}()
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += burst {
				out := takeOutbox()
				for range burst {
					out.bytes = appendFrame(out.bytes, opText, payload)
				}
				if err := w.send(out.bytes); err != nil {
					b.Fatal(err)
				}
				out.give()
				receive(b, count, burst*framed)
			}
		})
	}
}

// BenchmarkFanOut is the way of an event from the feed to the sockets of its
// user's devices, with real instruments; one operation is one delivery.
func BenchmarkFanOut(b *testing.B) {
	for _, c := range []struct{ devices, burst int }{{1, 1}, {5, 1}, {1, 10}, {5, 10}, {2, 100}} {
		b.Run(fmt.Sprintf("devices=%d/burst=%d", c.devices, c.burst), func(b *testing.B) {
			meter := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())).Meter("edge")
			cfg, err := Config{Meter: meter}.filled()
			if err != nil {
				b.Fatal(err)
			}
			s, err := newServer(cfg, 1)
			if err != nil {
				b.Fatal(err)
			}
			sh := s.shards[0]
			sh.handle(&stream.Record{Kind: stream.KindStart})
			web := httptest.NewServer(s)
			var counts []chan int
			for n := range c.devices {
				nc, err := net.Dial("tcp", web.Listener.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				counts = append(counts, listen(b, nc, "/ws?since=latest&user_id="+uuidA+"&device_id="+uuidOf('a', n)))
			}
			hello := 0
			for range c.devices {
				hello = len(appendFrame(nil, opText, appendWelcome(nil, welcome{connection: uuidA, user: uuidA, device: uuidA, node: "edge", serverTime: 1795437339530, pingMS: 30000, idleMS: 60000}))) +
					len(appendFrame(nil, opText, appendCaughtUp(nil, 0, 0)))
			}
			for _, count := range counts {
				receive(b, count, hello)
			}
			frame := []byte(`{"type":"event","pad":"` + strings.Repeat("x", 275) + `"}`)
			framed := len(appendFrame(nil, opText, frame))
			r := &stream.Record{Kind: stream.KindEvent, User: uuidA, Device: uuidOf('a', 9), Frame: frame}
			seq := 0
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += c.burst * c.devices {
				r.Stored = time.Now()
				for range c.burst {
					seq++
					r.Position = at(seq)
					sh.handle(r)
				}
				for _, count := range counts {
					receive(b, count, c.burst*framed)
				}
			}
			b.StopTimer()
			s.dismiss()
			s.writers.Wait()
			web.Close()
		})
	}
}
