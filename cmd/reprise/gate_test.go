package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of connections in memory.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if nc, ok := <-p; ok {
		return nc, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error { return nil }
func (pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(send string) net.Conn {
	near, far := net.Pipe()
	p <- far
	go io.WriteString(near, send)
	return near
}

// TestGate has more requests at a time than places: so many are worked for, those
// that are not sent yet hold none, and one that takes long lets others in.
func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		inside, most := 0, 0
		handler := func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			d, _ := time.ParseDuration(r.URL.Query().Get("for"))
			time.Sleep(d)
			mu.Lock()
			inside--
			mu.Unlock()
			if r.URL.Query().Get("up") != "" {
				nc, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Errorf("Hijack() = %v, want nil", err)
					return
				}
				go func() { time.Sleep(time.Hour); nc.Close() }()
			}
		}
		l := make(pipes)
		g := newGate(l, 2)
		server := &http.Server{Handler: http.HandlerFunc(handler), ConnState: g.state}
		served := make(chan error, 1)
		go func() { served <- server.Serve(g) }()
		answered := func(nc net.Conn) {
			if resp, err := http.ReadResponse(bufio.NewReader(nc), nil); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("answer = %+v, %v, want 200", resp, err)
			}
			nc.Close()
		}
		for range 10 { // they have sent half of what they want
			defer l.dial("GET / HTTP/1.1\r\nHo").Close()
		}
		for range 10 { // they have been upgraded
			defer l.dial("GET /?up=1 HTTP/1.1\r\nHost: a\r\n\r\n").Close()
		}
		synctest.Wait()
		began := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { answered(l.dial("GET /?for=10ms HTTP/1.1\r\nHost: a\r\n\r\n")) })
		}
		all.Wait()
		if took := time.Since(began); most != 2 || took != 100*time.Millisecond {
			t.Errorf("20 requests of 10 ms took %v, %d at a time, want 100ms, 2 at a time", took, most)
		}

		began = time.Now()
		for range 4 {
			all.Go(func() { answered(l.dial("GET /?for=1h HTTP/1.1\r\nHost: a\r\n\r\n")) })
		}
		synctest.Wait()
		answered(l.dial("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		if took := time.Since(began); took > 2*placeTime {
			t.Errorf("a request behind four slow ones took %v, want at most %v", took, 2*placeTime)
		}
		all.Wait()
		close(l)
		<-served
		server.Close()
		if n := len(g.places); n != 0 {
			t.Errorf("places taken at the end = %d, want none", n)
		}
	})
}
