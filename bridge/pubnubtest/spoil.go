package pubnubtest

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"
)

// spoils applies a fault that stands in place of the answer, before or after
// the request was carried out, and reports whether the request is over. If it
// is, back was called before what the client sees of that.
func (i *Injection) spoils(w http.ResponseWriter, r *http.Request, after bool, back func()) bool {
	if i == nil || i.fault.AfterWork != after {
		return false
	}
	switch i.fault.Kind {
	case Hold:
		if !i.pause(r.Context()) {
			panic(http.ErrAbortHandler)
		}
		return false
	case Status, Hangup, Reset, Garbage:
		back()
	default:
		return false
	}
	switch i.fault.Kind {
	case Status:
		i.fault.canned().write(w)
	case Hangup:
		panic(http.ErrAbortHandler)
	case Reset:
		takeOver(w, func(conn net.Conn) {
			if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
				tcp.SetLinger(0) // a failure leaves an ordinary close
			}
		})
	case Garbage:
		takeOver(w, func(conn net.Conn) {
			conn.Write([]byte("\x00\x01garbage, not HTTP\r\n\r\n")) // the client may be gone
		})
	}
	return true
}

// takeOver runs last on the request's connection and closes it.
func takeOver(w http.ResponseWriter, last func(net.Conn)) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // not HTTP/1: closing is what is left
		panic(http.ErrAbortHandler)
	}
	last(conn)
	conn.Close()
}

// pause waits for the fault's delay, or for its end if it has none. It reports
// false if the client left first.
func (i *Injection) pause(ctx context.Context) bool {
	var over <-chan time.Time
	if i.fault.Delay > 0 {
		t := time.NewTimer(i.fault.Delay)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
	case <-i.cleared:
	case <-ctx.Done():
		return false
	}
	return true
}

// write sends the real answer, damaged as the fault wants it. A nil injection
// sends it as it is.
func (i *Injection) write(w http.ResponseWriter, r *http.Request, rep *reply) {
	var kind Kind
	if i != nil {
		kind = i.fault.Kind
	}
	half := len(rep.body) / 2
	switch kind {
	case CutJSON:
		rep.body = rep.body[:half]
		rep.write(w)
	case LongLength:
		sendPart(w, rep, rep.body, len(rep.body)+1)
		panic(http.ErrAbortHandler)
	case CutChunks:
		sendPart(w, rep, rep.body[:half], -1)
		panic(http.ErrAbortHandler)
	case Stall:
		sendPart(w, rep, rep.body[:half], len(rep.body))
		if i.pause(r.Context()) {
			w.Write(rep.body[half:]) // the client may be gone
		}
	case Drip:
		step := max(1, i.fault.N)
		sendPart(w, rep, nil, len(rep.body))
		for b := rep.body; len(b) > 0; b = b[min(step, len(b)):] {
			w.Write(b[:min(step, len(b))]) // likewise
			http.NewResponseController(w).Flush()
			if !i.pause(r.Context()) {
				return
			}
		}
	default:
		rep.write(w)
	}
}

// sendPart sends the header, with a Content-Length unless that is negative,
// and the beginning of the body.
func sendPart(w http.ResponseWriter, rep *reply, part []byte, length int) {
	rep.head(w)
	if length >= 0 {
		w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(rep.status)
	w.Write(part)
	http.NewResponseController(w).Flush() // an error means the client is gone
}

// canned returns the answer of a Status fault.
func (f Fault) canned() *reply {
	status := f.Status
	if status == 0 {
		status = http.StatusOK
	}
	r := ok([]byte(f.Body)).with(status)
	if f.Body == "" && status != http.StatusOK {
		r.body = usual(status)
	}
	r.header = make(map[string]string)
	if f.RetryAfter > 0 {
		r.header["Retry-After"] = strconv.Itoa(int(f.RetryAfter / time.Second))
	}
	if f.Location != "" {
		r.header["Location"] = f.Location
	}
	return r
}

// usual returns the body that PubNub, or what stands before it, sends with a status.
func usual(status int) []byte {
	switch status {
	case http.StatusRequestTimeout:
		return []byte("timeout")
	case http.StatusForbidden:
		return []byte(`{"message":"Forbidden","payload":{"channels":[]},"error":true,"service":"Access Manager","status":403}`)
	case http.StatusNotFound:
		return []byte(`{"status":404,"error":true}`)
	case http.StatusTooManyRequests:
		return []byte(`{"status":429,"service":"Balancer","error":true,"message":"Too many requests"}`)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusMovedPermanently:
		return fmtAppend("<html><head><title>%d %s</title></head></html>\n", status, http.StatusText(status))
	}
	text := http.StatusText(status)
	if text == "" {
		text = "Error"
	}
	return fmtAppend(`{"status":%d,"error":true,"message":%s}`, status, quote(text))
}
