package bridge

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"reprise/bridge/pubnubtest"
)

func TestRetrying(t *testing.T) {
	t.Parallel()
	fail := func(result pollResult, after time.Duration) error {
		return &callError{call: "fetch", result: result, class: "503", retryAfter: after}
	}
	plain := errors.New("plain")
	times := func(n int, err error) []error {
		all := make([]error, n)
		for i := range all {
			all[i] = err
		}
		return all
	}
	tests := []struct {
		name     string
		errs     []error // of the attempts; then nil
		limiter  *rate.Limiter
		attempts int
		min, max time.Duration
		want     error
	}{
		{name: "good", attempts: 1},
		{name: "temporary", errs: times(3, fail(pollServer, 0)), attempts: 4, max: 700 * time.Millisecond},
		{name: "forbidden", errs: times(2, fail(pollForbidden, 0)), attempts: 3, max: 3 * time.Second},
		{name: "throttled", errs: times(1, fail(pollThrottled, 7*time.Second)), attempts: 2, min: 7 * time.Second, max: 7 * time.Second},
		{name: "retry after an hour", errs: times(1, fail(pollThrottled, time.Hour)), attempts: 2, min: maxWait, max: maxWait},
		{name: "bounded", errs: times(40, fail(pollNetwork, 0)), attempts: 41, min: time.Minute, max: 40 * backoffCap},
		{name: "permanent", errs: []error{fail(pollServer, 0), fail(pollStatus, time.Hour)}, attempts: 2, max: backoffBase, want: fail(pollStatus, 0)},
		{name: "disabled", errs: times(1, fail(callDisabled, 0)), attempts: 1, want: fail(callDisabled, 0)},
		{name: "not a call's", errs: times(1, plain), attempts: 1, want: plain},
		{name: "limited", errs: times(2, fail(pollServer, 0)), limiter: rate.NewLimiter(1, 1), attempts: 3, min: 1999 * time.Millisecond, max: 2300 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := 0
				c := &caller{failed: func(*callError) { told++ }}
				attempts := 0
				began := time.Now()
				err := c.retrying(t.Context(), "back-fill", tt.limiter, func(context.Context) error {
					attempts++
					if attempts <= len(tt.errs) {
						return tt.errs[attempts-1]
					}
					return nil
				})
				if (err == nil) != (tt.want == nil) || err != nil && err.Error() != tt.want.Error() {
					t.Errorf("retrying() = %v, want %v", err, tt.want)
				}
				if took := time.Since(began); attempts != tt.attempts || took < tt.min || took > tt.max {
					t.Errorf("%d attempts in %s, want %d in %s to %s", attempts, took, tt.attempts, tt.min, tt.max)
				}
				if told != tt.attempts-1 {
					t.Errorf("told of %d failures, want %d", told, tt.attempts-1)
				}
			})
		})
	}
}

// TestRetryingEnds has the context end, in a back-off and in the limiter.
func TestRetryingEnds(t *testing.T) {
	t.Parallel()
	cause := errors.New("shutting down")
	synctest.Test(t, func(t *testing.T) {
		c := &caller{failed: func(*callError) {}}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		err := c.retrying(ctx, "back-fill", nil, func(context.Context) error {
			return &callError{call: "fetch", result: pollThrottled, class: "429", retryAfter: time.Hour}
		})
		var call *callError
		if !errors.Is(err, cause) || errors.As(err, &call) || !strings.Contains(err.Error(), "429") {
			t.Errorf("retrying() = %v, want %v and the last failure in words", err, cause)
		}
		limiter := rate.NewLimiter(rate.Every(time.Hour), 1)
		limiter.Allow()
		attempt := func(context.Context) error { t.Error("an attempt before its turn"); return nil }
		if err := c.retrying(ctx, "back-fill", limiter, attempt); !errors.Is(err, cause) {
			t.Errorf("retrying() = %v, want %v", err, cause)
		}
		short, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		began := time.Now()
		if err := c.retrying(short, "back-fill", limiter, attempt); err == nil || time.Since(began) > 0 {
			t.Errorf("retrying() = %v after %s, want an error at once: the turn never comes", err, time.Since(began))
		}
	})
}

// TestRetryingCall gets a call through an expired token and an outage.
func TestRetryingCall(t *testing.T) {
	t.Parallel()
	var token atomic.Value
	token.Store("old")
	s, c := newTestCaller(t, pubnubtest.Config{RequirePAM: true}, func(cfg *callerConfig) {
		cfg.token = func() string { return token.Load().(string) }
		cfg.failed = func(e *callError) {
			if e.forbidden() {
				token.Store("new")
			}
		}
	})
	s.SetToken("new", pubnubtest.Token{Channels: map[string]int{"user.a.sync": pubnubtest.Read | pubnubtest.Write}})
	s.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 503, Nth: 2, Times: 2})
	s.Inject(pubnubtest.Fault{Kind: pubnubtest.Reset, Nth: 2, Times: 1})
	var timetoken string
	err := c.retrying(testContext(t), "outbox", rate.NewLimiter(1000, 1), func(ctx context.Context) (err error) {
		timetoken, err = c.publish(ctx, "user.a.sync", []byte(`{}`), nil)
		return err
	})
	if err != nil || timetoken == "" {
		t.Errorf("retrying(publish) = %q, %v, want a timetoken", timetoken, err)
	}
	if n := len(s.Journal()); n != 5 {
		t.Errorf("%d requests, want a 403, two 503, a reset and a 200", n)
	}
}

// TestCallErrorKinds holds every result to one kind.
func TestCallErrorKinds(t *testing.T) {
	t.Parallel()
	for _, r := range callResults {
		e := &callError{call: "fetch", result: r, class: "x"}
		n := 0
		for _, is := range []bool{e.temporary(), e.forbidden(), e.disabled()} {
			if is {
				n++
			}
		}
		if n > 1 {
			t.Errorf("%s is of %d kinds", r, n)
		}
		if want := "bridge: pubnub: fetch: " + string(r) + ": x"; e.Error() != want {
			t.Errorf("Error() = %s, want %s", e.Error(), want)
		}
	}
}
