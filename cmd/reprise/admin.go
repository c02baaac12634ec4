package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"

	"reprise/stream"
)

// admin is the operator's listener.
type admin struct {
	// static after construction
	token   secret
	ready   func() (reasons, warnings []string)
	metrics http.Handler
	v1      http.Handler
}

// handler returns the routes. Health needs no token: it is asked by machines
// that have none, and says nothing about users.
func (a *admin) handler() http.Handler {
	inner := http.NewServeMux()
	inner.Handle("GET /metrics", a.metrics)
	inner.Handle("/v1/", a.v1)
	inner.HandleFunc("/debug/pprof/", pprof.Index)
	inner.HandleFunc("/debug/pprof/profile", pprof.Profile)
	inner.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	inner.HandleFunc("/debug/pprof/trace", pprof.Trace)

	outer := http.NewServeMux()
	outer.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	outer.HandleFunc("GET /readyz", a.readyz)
	(&console{}).routes(outer)
	outer.Handle("/", a.guarded(sameOrigin(inner)))
	return outer
}

// sameOrigin refuses what a page of another origin has a browser send that is
// no reading. The page would not see the answer, but the deed would be done.
func sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "origin", "a page of another origin may not do this")
	}))
	return protection.Handler(next)
}

// guarded asks for the token, if there is one.
func (a *admin) guarded(next http.Handler) http.Handler {
	if !a.token.isSet() {
		return localOnly(next)
	}
	want := sha256.Sum256([]byte(a.token.reveal()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(token))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "unauthorized", "the admin token is missing or wrong")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// localOnly refuses requests that were sent to a name: without a token only
// loopback is listened on, and a browser that was led here by somebody else's
// domain name must not read what there is.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && host != "localhost" {
			refuse(w, http.StatusForbidden, "host", "ask by address, or set admin-token")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readyz answers whether devices should be sent here.
func (a *admin) readyz(w http.ResponseWriter, _ *http.Request) {
	var answer struct {
		Ready    bool     `json:"ready"`
		Reasons  []string `json:"reasons"`
		Warnings []string `json:"warnings"`
	}
	reasons, warnings := a.ready()
	answer.Ready = len(reasons) == 0
	answer.Reasons = append([]string{}, reasons...)
	answer.Warnings = append([]string{}, warnings...)
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, answer)
}

// refuse answers with the error body that all listeners share.
func refuse(w http.ResponseWriter, status int, code, message string) {
	var answer struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	answer.Error.Code, answer.Error.Message = code, message
	writeJSON(w, status, answer)
}

// refuseLog answers what the log, or who writes a shard, could not. what is for
// the log file.
func refuseLog(w http.ResponseWriter, log *slog.Logger, what string, err error) {
	if errors.Is(err, stream.ErrNoWriter) {
		refuse(w, http.StatusServiceUnavailable, "no_writer", "nobody writes the shard at the moment, try again")
		return
	}
	log.Warn(what, "err", err)
	refuse(w, http.StatusServiceUnavailable, "log_unreachable", "the log is out of reach")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // the protocol has none
	if err := encoder.Encode(v); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(bytes.TrimSuffix(body.Bytes(), []byte("\n"))) // the peer may have gone
}
