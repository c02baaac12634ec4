package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"reprise/stream"
)

// Admin returns the handler of the operator's routes:
//
//	GET /v1/stats                            counts and latencies
//	GET /v1/users/{user}/connections         who of a user is here
//	GET /v1/users/{user}/devices             which of a user's devices are there
//	GET /v1/users/{user}/events?since=       what the log has of a user
//	PUT /v1/users/{user}                     make a user known to the bridges
//
// It asks for no authentication: that is the listener's. What takes the log is
// answered with 503 when that is out of reach.
//
// The devices are those that were heard of within the last minute, wherever: at
// an edge, or over PubNub; by name.
//
// The events are answered as the frames in the log, one a line, at most 500 and
// about 1 MiB of them, oldest first; since is an hlc or earliest, left out it is
// earliest. The header Reprise-Next is the hlc from which to ask on, and
// Reprise-More is "true" when there was more at that time. The answer is 410
// when retention overtakes the reading.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/stats", s.serveStats)
	mux.HandleFunc("GET /v1/users/{user}/connections", s.serveConnections)
	mux.HandleFunc("GET /v1/users/{user}/devices", s.serveDevices)
	mux.HandleFunc("GET /v1/users/{user}/events", s.serveEvents)
	mux.HandleFunc("PUT /v1/users/{user}", s.serveRegister)
	return mux
}

// Stats is the body of /v1/stats.
type Stats struct {
	// ActiveConnections and ActiveUsers are of now; a user is active with a
	// connection here.
	ActiveConnections int   `json:"active_connections"`
	ActiveUsers       int64 `json:"active_users"`
	// MessagesRelayed is the event frames written to devices since the start.
	MessagesRelayed int64 `json:"messages_relayed"`
	// BroadcastLatency is of the last 1,000 live deliveries, from the log's
	// acknowledgement to the socket write, in milliseconds.
	BroadcastLatency Latency `json:"broadcast_latency_ms"`

	Node     string `json:"node"`
	Draining bool   `json:"draining"`
	UptimeMS int64  `json:"uptime_ms"`
	// TailBytes is what the tails hold of events.
	TailBytes int64 `json:"tail_bytes"`
	// ConnectionsClosed counts by close code, or "device" and "cut"; BadFrames by
	// reason; Resumes by completeness; Updates by result. What is 0 is left out.
	ConnectionsClosed map[string]int64 `json:"connections_closed"`
	BadFrames         map[string]int64 `json:"bad_frames"`
	Resumes           map[string]int64 `json:"resumes"`
	Updates           map[string]int64 `json:"updates"`
	// Positions is up to which hlc each shard's feed has been handed out.
	Positions []string `json:"positions"`
}

// Stats returns what /v1/stats answers.
func (s *Server) Stats() Stats {
	st := Stats{
		ActiveConnections: s.registry.count(),
		ActiveUsers:       s.users.Load(),
		MessagesRelayed:   s.metrics.messages.Load(),
		BroadcastLatency:  s.latencies.summary(),
		Node:              s.cfg.Node,
		Draining:          s.registry.refusing(),
		UptimeMS:          s.elapsed().Milliseconds(),
		TailBytes:         s.budget.used.Load(),
		ConnectionsClosed: s.metrics.closes.snapshot(),
		BadFrames:         s.metrics.bads.snapshot(),
		Resumes:           s.metrics.resumes.snapshot(),
		Updates:           s.metrics.updates.snapshot(),
	}
	for _, sh := range s.shards {
		st.Positions = append(st.Positions, sh.dispatched().Hlc.String())
	}
	return st
}

func (s *Server) serveStats(w http.ResponseWriter, r *http.Request) { writeJSON(w, s.Stats()) }

// ConnectionInfo is one connection for an operator.
type ConnectionInfo struct {
	Connection string `json:"connection_id"`
	Device     string `json:"device_id"`
	Node       string `json:"node"`
	Connected  int64  `json:"connected_at"` // Unix ms
	Cursor     string `json:"cursor"`
	Remote     string `json:"remote"`
}

func (s *Server) serveConnections(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	writeJSON(w, s.infos(user))
}

// infos are the connections of user here, the oldest first.
func (s *Server) infos(user string) []ConnectionInfo {
	infos := []ConnectionInfo{}
	for _, c := range s.connections(user) {
		infos = append(infos, ConnectionInfo{c.id, c.device, s.cfg.Node, c.connected.UnixMilli(), c.cursor().String(), c.remote})
	}
	slices.SortFunc(infos, func(a, b ConnectionInfo) int { return int(a.Connected - b.Connected) })
	return infos
}

// Bounds of one answer for which the log is asked.
const (
	adminTimeout  = 5 * time.Second
	eventsTimeout = 30 * time.Second // with events
)

func (s *Server) serveDevices(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	devices, err := s.cfg.Log.Present(ctx, user)
	if err != nil {
		s.unreachable(w, "presence not read", user, err)
		return
	}
	if devices == nil {
		devices = []stream.Presence{}
	}
	writeJSON(w, devices)
}

func (s *Server) serveRegister(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	if err := s.cfg.Log.Register(ctx, user); err != nil {
		s.unreachable(w, "user not registered", user, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	user, ok := pathUser(w, r)
	if !ok {
		return
	}
	from, ok := parseSince(param(r.URL.RawQuery, "since"))
	if !ok || from.kind == sinceLatest {
		answer(w, http.StatusBadRequest, "since", "since: one of 16 lower-case hex digits, earliest")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), eventsTimeout)
	defer cancel()
	end, err := s.cfg.Log.End(ctx, s.cfg.Log.Shard(user))
	var chunk stream.Chunk
	if err == nil {
		chunk, err = s.cfg.Log.Read(ctx, user, stream.Position{Hlc: from.at}, end)
	}
	switch {
	case errors.Is(err, stream.ErrTrimmed):
		answer(w, http.StatusGone, "trimmed", "retention overtook the reading: ask from earliest")
		return
	case err != nil:
		s.unreachable(w, "events not read", user, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Reprise-Next", max(chunk.Next.Hlc, from.at).String())
	if chunk.Next.Hlc < end.Hlc {
		w.Header().Set("Reprise-More", "true")
	}
	lines := bufio.NewWriter(w)
	for i := range chunk.Records {
		lines.Write(chunk.Records[i].Frame)
		lines.WriteByte('\n')
	}
	lines.Flush() // an error is the operator's hanging up
}

// unreachable answers what the log could not.
func (s *Server) unreachable(w http.ResponseWriter, what, user string, err error) {
	s.cfg.Logger.Warn(what, "user", user, "err", err)
	answer(w, http.StatusServiceUnavailable, "log_unreachable", "the log is out of reach")
}

func pathUser(w http.ResponseWriter, r *http.Request) (string, bool) {
	user := strings.Clone(r.PathValue("user"))
	if !validUUID(user) {
		answer(w, http.StatusBadRequest, "user", "user: a UUID, lower case")
		return "", false
	}
	return user, true
}

func answer(w http.ResponseWriter, status int, code, message string) {
	(&refusal{status: status, code: code, message: message}).write(w)
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		answer(w, http.StatusInternalServerError, "internal", "the answer cannot be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body)
}
