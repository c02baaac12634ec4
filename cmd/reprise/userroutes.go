package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"reprise/edge"
	"reprise/stream"
)

// userRoutes are the operator's routes to one user, on every node:
//
//	GET    /v1/users/{user}                       what there is of the user, at all edges
//	POST   /v1/users/{user}/disconnect?revoke=1   end the user's connections at all edges
//	DELETE /v1/users/{user}                       that, and erase everything kept of the user
//
// With revoke, tokens that were issued before are worth nothing from then on;
// DELETE does that too. Both wait until no edge has a connection of the user,
// for 5 s at most, and say which edges did not answer. DELETE is carried out by
// the shard's writer, in whichever process: 503 no_writer when nobody writes the
// shard. All may be repeated.
type userRoutes struct {
	// static after construction
	log    *stream.Log
	logger *slog.Logger
}

const (
	// userTimeout bounds the answer to a question, forgetTimeout that of DELETE.
	userTimeout   = 15 * time.Second
	forgetTimeout = 15 * time.Minute
	// goneWithin is how long edges may take to end a user's connections.
	goneWithin = 5 * time.Second
	goneEvery  = 100 * time.Millisecond
)

// add puts the routes onto mux.
func (u *userRoutes) add(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/users/{user}", u.show)
	mux.HandleFunc("POST /v1/users/{user}/disconnect", u.disconnect)
	mux.HandleFunc("DELETE /v1/users/{user}", u.forget)
}

// userView is everything there is of a user.
type userView struct {
	User        string                `json:"user_id"`
	Connections []edge.ConnectionInfo `json:"connections"`
	Devices     []stream.Presence     `json:"devices"`
	// Cursors are what the devices acknowledged last, by device.
	Cursors map[string]string `json:"cursors"`
	Events  uint64            `json:"events"`
	// First and Last are the hlc of the oldest and the newest of them, or "".
	First       string `json:"first,omitempty"`
	Last        string `json:"last,omitempty"`
	Outbox      uint64 `json:"outbox"`
	DeadLetters uint64 `json:"dead_letters"`
	Registered  bool   `json:"registered"`
	// RevokedBefore and ForgottenBefore are Unix ms; 0 is never.
	RevokedBefore   int64 `json:"revoked_before,omitempty"`
	ForgottenBefore int64 `json:"forgotten_before,omitempty"`
	// Silent are the edges that did not answer: their connections are not told.
	Silent []string `json:"silent,omitempty"`
}

func (u *userRoutes) show(w http.ResponseWriter, r *http.Request) {
	user, ok := routeUser(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), userTimeout)
	defer cancel()
	view, err := u.view(ctx, user)
	if err != nil {
		u.unreachable(w, err)
		return
	}
	writeJSON(w, http.StatusOK, view)
}

func (u *userRoutes) view(ctx context.Context, user string) (*userView, error) {
	v := &userView{User: user, Cursors: map[string]string{}}
	connections, silent, err := u.connections(ctx, user)
	if err != nil {
		return nil, err
	}
	v.Connections, v.Silent = connections, silent
	if v.Devices, err = u.log.Present(ctx, user); err != nil {
		return nil, err
	}
	kept, err := u.log.Footprint(ctx, user)
	if err != nil {
		return nil, err
	}
	for device, at := range kept.Cursors {
		v.Cursors[device] = at.String()
	}
	if v.Events = kept.Events; kept.Events > 0 {
		v.First, v.Last = kept.First.String(), kept.Last.String()
	}
	v.Outbox, v.DeadLetters, v.Registered = kept.Outbox, kept.Dead, kept.Registered
	order, err := u.log.OrderOf(ctx, user)
	if err != nil {
		return nil, err
	}
	if !order.RevokedBefore.IsZero() {
		v.RevokedBefore = order.RevokedBefore.UnixMilli()
	}
	if !order.ForgottenBefore.IsZero() {
		v.ForgottenBefore = order.ForgottenBefore.UnixMilli()
	}
	return v, nil
}

// connections asks all edges. The list is never nil.
func (u *userRoutes) connections(ctx context.Context, user string) (all []edge.ConnectionInfo, silent []string, err error) {
	answers, silent, err := u.log.AskEdges(ctx, []byte(user))
	if err != nil {
		return nil, nil, err
	}
	all = []edge.ConnectionInfo{}
	for node, raw := range answers {
		var some []edge.ConnectionInfo
		if err := json.Unmarshal(raw, &some); err != nil {
			silent = append(silent, node)
			continue
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b edge.ConnectionInfo) int { return int(a.Connected - b.Connected) })
	slices.Sort(silent)
	return all, silent, nil
}

// userDone is what became of the user's connections, and of the rest.
type userDone struct {
	// Disconnected are the connections that were there and have ended.
	Disconnected int `json:"disconnected"`
	// Left are those that are there still, or again, after 5 s.
	Left    int      `json:"left"`
	Silent  []string `json:"silent,omitempty"`
	Revoked bool     `json:"revoked"`
	Erased  int      `json:"erased"` // events
}

func (u *userRoutes) disconnect(w http.ResponseWriter, r *http.Request) {
	user, ok := routeUser(w, r)
	if !ok {
		return
	}
	revoke := r.URL.Query().Get("revoke")
	if revoke != "" && revoke != "0" && revoke != "1" {
		refuse(w, http.StatusBadRequest, "revoke", "revoke: 0 or 1")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), userTimeout)
	defer cancel()
	before, _, err := u.connections(ctx, user)
	if err != nil {
		u.unreachable(w, err)
		return
	}
	order := stream.Order{At: time.Now()}
	if revoke == "1" {
		order.RevokedBefore = order.At
	}
	if err := u.log.Command(ctx, user, order); err != nil {
		u.unreachable(w, err)
		return
	}
	done, err := u.gone(ctx, user, before)
	if err != nil {
		u.unreachable(w, err)
		return
	}
	done.Revoked = revoke == "1"
	u.logger.Warn("a user was disconnected by an operator", "user", user, "revoked", done.Revoked, "connections", done.Disconnected)
	writeJSON(w, http.StatusOK, done)
}

// gone waits until none of the connections is left.
func (u *userRoutes) gone(ctx context.Context, user string, before []edge.ConnectionInfo) (done userDone, err error) {
	tick := time.NewTicker(goneEvery)
	defer tick.Stop()
	for deadline := time.Now().Add(goneWithin); ; {
		now, silent, err := u.connections(ctx, user)
		if err != nil {
			return done, err
		}
		left := 0
		for _, c := range before {
			if slices.ContainsFunc(now, func(o edge.ConnectionInfo) bool { return o.Connection == c.Connection }) {
				left++
			}
		}
		done = userDone{Disconnected: len(before) - left, Left: left, Silent: silent}
		if left == 0 && len(silent) == 0 || time.Now().After(deadline) {
			return done, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return done, ctx.Err()
		}
	}
}

// forget erases twice: an edge may have kept something of the user until it
// heard that the user is forgotten.
func (u *userRoutes) forget(w http.ResponseWriter, r *http.Request) {
	user, ok := routeUser(w, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), forgetTimeout)
	defer cancel()
	before, _, err := u.connections(ctx, user)
	if err != nil {
		u.unreachable(w, err)
		return
	}
	at := time.Now()
	first, err := u.erase(ctx, user, at)
	var done userDone
	if err == nil {
		done, err = u.gone(ctx, user, before)
	}
	var second int
	if err == nil {
		second, err = u.erase(ctx, user, at)
	}
	var failed *eraseError
	switch {
	case errors.As(err, &failed):
		refuse(w, http.StatusBadGateway, "not_erased", failed.Error())
		return
	case err != nil:
		u.unreachable(w, err)
		return
	}
	done.Revoked, done.Erased = true, first+second
	u.logger.Warn("a user was forgotten on an operator's word", "events", done.Erased, "connections", done.Disconnected)
	writeJSON(w, http.StatusOK, done)
}

// eraseError is the writer's saying that it did not erase.
type eraseError struct{ detail string }

func (e *eraseError) Error() string { return "the shard's writer did not erase the user: " + e.detail }

// erase asks the shard's writer, until nothing is left.
func (u *userRoutes) erase(ctx context.Context, user string, at time.Time) (events int, err error) {
	request := fmt.Appendf(nil, `{"op":"forget","user":"%s","at":%d}`, user, at.UnixMilli())
	for {
		raw, err := u.log.Ask(ctx, u.log.Shard(user), request)
		if err != nil {
			return events, err
		}
		var answer struct {
			Result, Detail string
			Events         int
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			return events, &eraseError{"its answer is not understood; is it of another version?"}
		}
		events += answer.Events
		switch answer.Result {
		case "erased":
			return events, nil
		case "more":
		default:
			return events, &eraseError{answer.Detail}
		}
	}
}

// routeUser reads the user in the path. It answers by itself if that is none.
func routeUser(w http.ResponseWriter, r *http.Request) (string, bool) {
	user := r.PathValue("user")
	if user == "" || identifier(new(string))(user) != nil {
		refuse(w, http.StatusBadRequest, "user", "user: a UUID, lower case")
		return "", false
	}
	return user, true
}

func (u *userRoutes) unreachable(w http.ResponseWriter, err error) {
	refuseLog(w, u.logger, "a user's records not reached", err)
}
