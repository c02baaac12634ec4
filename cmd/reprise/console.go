package main

import (
	"embed"
	"encoding/json"
	"io/fs"
	"net/http"

	"reprise/edge/client/js"
	"reprise/hlc"
	"reprise/otel"
)

//go:embed console
var consoleFiles embed.FS

// console is the page on which a node is seen at work. For an operator it reads
// what the admin listener says; for a developer it is several devices as well,
// and what they need beyond their WebSockets.
type console struct {
	// static after construction
	user  string                                               // whose devices the page plays; "" is an operator's page
	trace func(messageID string) []otel.Span                   // of a developer's page
	node  string                                               // likewise
	send  func(r *http.Request, channel, payload string) error // likewise; publishes to PubNub
}

// routes adds the page and its files, which say nothing of this node, to mux.
func (c *console) routes(mux *http.ServeMux) {
	files, err := fs.Sub(consoleFiles, "console")
	if err != nil {
		panic(err) // cannot be: it is embedded
	}
	pages := http.FileServerFS(files)
	mux.Handle("GET /{$}", page(pages))
	mux.Handle("GET /console/", page(http.StripPrefix("/console/", pages)))
	mux.Handle("GET /console/client/", page(http.StripPrefix("/console/client/", http.FileServerFS(js.Source()))))
	mux.HandleFunc("GET /console/about", c.about)
}

// actions adds what a developer's page asks for.
func (c *console) actions(mux *http.ServeMux) {
	mux.HandleFunc("GET /console/trace", c.traceOf)
	mux.HandleFunc("POST /console/publish", c.publish)
}

// page has a browser run nothing but the page's own files, and talk to nobody but
// this listener.
func page(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

func (c *console) about(w http.ResponseWriter, _ *http.Request) {
	var answer struct {
		Devices bool   `json:"devices"`
		User    string `json:"user,omitempty"`
		Node    string `json:"node,omitempty"`
		Version string `json:"version,omitempty"`
	}
	if c.user != "" {
		answer.Devices, answer.User, answer.Node, answer.Version = true, c.user, c.node, readBuild().version
	}
	writeJSON(w, http.StatusOK, answer)
}

// traceOf answers the spans of a live event's trace.
func (c *console) traceOf(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("hlc")
	if _, err := hlc.Parse(id); err != nil {
		refuse(w, http.StatusBadRequest, "hlc", "hlc: 16 lower-case hex digits")
		return
	}
	spans := c.trace(id)
	if len(spans) == 0 {
		refuse(w, http.StatusNotFound, "no_trace", "it was not traced, or its trace is forgotten: the newest are kept, fifty a second at most")
		return
	}
	type span struct {
		Name  string `json:"name"`
		Start int64  `json:"start_us"`
		End   int64  `json:"end_us"`
	}
	var answer struct {
		Spans []span `json:"spans"`
	}
	for _, s := range spans {
		answer.Spans = append(answer.Spans, span{s.Name, s.Start.UnixMicro(), s.End.UnixMicro()})
	}
	writeJSON(w, http.StatusOK, answer)
}

// publish publishes what the page's user wrote, as a backend would.
func (c *console) publish(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Channel string          `json:"channel"`
		Message json.RawMessage `json:"message"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&wanted); err != nil || !isChannel(wanted.Channel) || len(wanted.Message) == 0 {
		refuse(w, http.StatusBadRequest, "bad_request", `want {"channel":"…","message":{…}}`)
		return
	}
	if err := c.send(r, wanted.Channel, string(wanted.Message)); err != nil {
		refuse(w, http.StatusBadGateway, "pubnub", err.Error())
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}
