package pubnubtest

import (
	"fmt"
	"net/http"
	"strconv"
)

// A reply is an answer before it is written.
type reply struct {
	status int
	body   []byte
	header map[string]string // besides the usual ones
}

// ok is a good answer.
func ok(body []byte) *reply { return &reply{status: http.StatusOK, body: body} }

func (r *reply) with(status int) *reply {
	r.status = status
	return r
}

func fmtAppend(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }

// failure is the usual form of an error.
func failure(status int, message string) *reply {
	return ok(fmtAppend(`{"message":%s,"error":true,"service":"Access Manager","status":%d}`,
		quote(message), status)).with(status)
}

// historyFailure is the form of an error of the history endpoints.
func historyFailure(status int, message string) *reply {
	return ok(fmtAppend(`{"status":%d,"error":true,"error_message":%s,"channels":{}}`,
		status, quote(message))).with(status)
}

// wrongKey is the answer to a subscribe key that is not this server's.
func (s *Server) wrongKey(part string) *reply {
	if unescape(part) == s.cfg.SubscribeKey {
		return nil
	}
	return failure(http.StatusBadRequest, "Invalid Subscribe Key")
}

// head sets the headers of every answer.
func (r *reply) head(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", `text/javascript; charset="UTF-8"`)
	h.Set("Cache-Control", "no-cache")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "Content-Type")
	for k, v := range r.header {
		h.Set(k, v)
	}
}

// write sends the whole reply at once.
func (r *reply) write(w http.ResponseWriter) {
	r.head(w)
	if r.status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(r.body)))
	}
	w.WriteHeader(r.status)
	if r.status != http.StatusNoContent {
		w.Write(r.body) // an error means the client is gone; there is nobody to tell
	}
}
