package edge

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"reprise/hlc"
)

// refusal is why a handshake is answered with an error instead of an upgrade.
type refusal struct {
	status        int
	code, message string
	retry         int // seconds; 0 is no Retry-After
}

// errRevoked is answered as every fault of a token.
var errRevoked = errors.New("edge: token revoked")

var (
	refuseStarting  = &refusal{http.StatusServiceUnavailable, "starting", "the log is not followed yet", 1}
	refuseDraining  = &refusal{http.StatusServiceUnavailable, "draining", "this node is going away", 1}
	refuseFull      = &refusal{http.StatusTooManyRequests, "too_many_connections", "this node has all the connections that it may have", 5}
	refuseUserFull  = &refusal{http.StatusTooManyRequests, "too_many_connections", "this user has all the connections that one may have", 5}
	refuseOrigin    = &refusal{http.StatusForbidden, "origin", "pages of this origin may not connect", 0}
	refuseAuth      = &refusal{http.StatusUnauthorized, "unauthorized", "no token, or not a valid one", 0}
	refuseUser      = &refusal{http.StatusForbidden, "user", "the token's subject is not a UUID", 0}
	refuseDevice    = &refusal{http.StatusBadRequest, "device_id", "device_id: one UUID, lower case", 0}
	refusePinned    = &refusal{http.StatusBadRequest, "device_id", "device_id: not the device of the token", 0}
	refuseSince     = &refusal{http.StatusBadRequest, "since", "since: one of 16 lower-case hex digits, earliest, latest", 0}
	refuseUserID    = &refusal{http.StatusBadRequest, "user_id", "user_id: one UUID, lower case", 0}
	refuseEcho      = &refusal{http.StatusBadRequest, "echo", "echo: 0 or 1, once", 0}
	refuseNoUpgrade = &refusal{http.StatusUpgradeRequired, "upgrade", "a WebSocket handshake, version 13", 0}
)

// refusals are the codes above, each once.
var refusals = []string{"starting", "draining", "too_many_connections", "origin", "unauthorized", "user", "device_id", "since", "user_id", "echo", "upgrade"}

func (rf *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if rf.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(rf.retry))
	}
	switch rf.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusUpgradeRequired:
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", "websocket")
		h.Set("Sec-WebSocket-Version", "13")
	}
	w.WriteHeader(rf.status)
	w.Write(appendRefusal(nil, rf.code, rf.message))
}

// request is what a handshake that may be accepted asks for. Nothing in it
// points into the request's memory.
type request struct {
	user, device, remote string
	since                since
	echo                 bool
	snapshot, coalesce   bool
	issued, expires      time.Time // of the token; zero is not known, and never
}

// check judges a handshake, in the order in which the protocol lists the answers.
func (s *Server) check(r *http.Request) (request, *refusal) {
	switch s.registry.admits(s.cfg.MaxConnections) {
	case admitsNone:
		return request{}, refuseDraining
	case admitsNoMore:
		return request{}, refuseFull
	}
	if !s.following() {
		return request{}, refuseStarting
	}

	query := r.URL.RawQuery
	device, devices := param(query, "device_id")
	req := request{remote: strings.Clone(s.cfg.RemoteAddr(r))}
	var pinned string
	var authErr error
	users := 1
	if s.cfg.Authenticate != nil {
		var who Identity
		who, authErr = s.cfg.Authenticate(bearer(r.Header))
		req.user, pinned, req.issued, req.expires = who.User, who.Device, who.Issued, who.Expires
		if authErr == nil && s.revoked(who.User, who.Issued) {
			authErr = errRevoked
		}
		if authErr == nil && pinned != "" && devices == 0 {
			device, devices = pinned, 1
		}
	} else {
		req.user, users = param(query, "user_id")
	}
	userOK := authErr == nil && users == 1 && validUUID(req.user)
	if userOK && s.shardOf(req.user).full(req.user, device, s.cfg.MaxConnectionsPerUser) {
		return request{}, refuseUserFull
	}

	switch {
	case !s.originAllowed(r):
		return request{}, refuseOrigin
	case authErr != nil, pinned != "" && !validUUID(pinned), !req.expires.IsZero() && !time.Now().Before(req.expires):
		return request{}, refuseAuth
	case s.cfg.Authenticate != nil && !userOK:
		return request{}, refuseUser
	case devices != 1 || !validUUID(device):
		return request{}, refuseDevice
	case pinned != "" && pinned != device:
		return request{}, refusePinned
	}
	var ok bool
	if req.since, ok = parseSince(param(query, "since")); !ok {
		return request{}, refuseSince
	}
	if !userOK {
		return request{}, refuseUserID
	}
	if req.echo, ok = parseEcho(param(query, "echo")); !ok {
		return request{}, refuseEcho
	}
	req.snapshot, req.coalesce = asksFor(query, "snapshot"), asksFor(query, "coalesce")
	if !upgrade(r) {
		return request{}, refuseNoUpgrade
	}
	req.user, req.device = strings.Clone(req.user), strings.Clone(device)
	return req, nil
}

func parseSince(value string, n int) (since, bool) {
	switch {
	case n == 0:
		return since{kind: sinceAcked}, true
	case n > 1:
		return since{}, false
	case value == "latest":
		return since{kind: sinceLatest}, true
	case value == "earliest":
		return since{kind: sinceEarliest}, true
	}
	at, err := hlc.Parse(value)
	return since{sinceCursor, at}, err == nil
}

func parseEcho(value string, n int) (echo, ok bool) {
	return value == "1", n == 0 || n == 1 && (value == "0" || value == "1")
}

// asksFor reports whether a switch that is no reason to refuse is on.
func asksFor(query, name string) bool {
	value, _ := param(query, name)
	return value == "1"
}

// param is the first value of a query parameter, and how often it is there. A
// value that is not properly escaped is returned as it stands, so that whoever
// validates it refuses it; net/url would drop it silently.
func param(query, name string) (value string, n int) {
	for pair := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(pair, "=")
		if key, err := url.QueryUnescape(k); err != nil || key != name {
			continue
		}
		if n++; n > 1 {
			continue
		}
		if plain, err := url.QueryUnescape(v); err == nil {
			v = plain
		}
		value = v
	}
	return value, n
}

// bearer is the token of a request, "" when there is none: of the Authorization
// header, or of an offered subprotocol, which is all that a browser can set.
func bearer(h http.Header) string {
	if scheme, token, ok := strings.Cut(h.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for protocol := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(protocol), "bearer."); ok {
				return token
			}
		}
	}
	return ""
}

// originAllowed reports whether the page that made the request, if it was one,
// may connect. RFC 6455 section 10.2.
func (s *Server) originAllowed(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	if len(origins) > 1 || err != nil || u.Host == "" {
		return false // "null" among them
	}
	// Without authentication being let in takes no more than a page. One whose
	// name was made to lead here (DNS rebinding) has the same host as we do, and
	// is somebody else's all the same.
	if strings.EqualFold(u.Host, r.Host) && (s.cfg.Authenticate != nil || isLocal(u.Hostname())) {
		return true
	}
	for _, allowed := range s.cfg.AllowedOrigins {
		if strings.EqualFold(allowed, u.Host) || strings.EqualFold(strings.TrimSuffix(allowed, "/"), u.Scheme+"://"+u.Host) {
			return true
		}
	}
	return false
}

// isLocal reports whether host is an address, or this machine: nothing that
// somebody else can give a meaning to.
func isLocal(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// upgrade reports whether r is a handshake of RFC 6455 section 4.2.1.
func upgrade(r *http.Request) bool {
	keys := r.Header.Values("Sec-WebSocket-Key")
	if r.Method != http.MethodGet || r.ProtoMajor != 1 || r.ProtoMinor < 1 || len(keys) != 1 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0]))
	return err == nil && len(key) == 16 && r.Header.Get("Sec-WebSocket-Version") == "13" &&
		listed(r.Header, "Connection", "upgrade") && listed(r.Header, "Upgrade", "websocket")
}

// listed reports whether a header that is a list has token in it, in any case.
func listed(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}
