package collector

import (
	"strings"
	"testing"
)

// TestSecrets searches all that a node exports for what must not leave it. At
// debug level its log may name users; nothing else ever does.
func TestSecrets(t *testing.T) {
	const secret = "a-secret-of-more-than-thirty-two-bytes"
	for _, tt := range []struct {
		level string
		named bool // the log names the user
	}{
		{"info", false},
		{"debug", true},
	} {
		t.Run(tt.level, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			_, endpoints := collect(t, s)
			r := newNode(t, exports(endpoints["grpc"], "grpc"), "--auth-hmac-secret", secret, "--log-level", tt.level)
			jwt := token(t, secret)
			frames, leave := r.device(t, tv, "latest", jwt)
			expect(t, frames, "caught_up", "")
			r.publish(t, hush, traceparent(published, "01"))
			expect(t, frames, "notification", hush)
			r.send(t, "sync", `{"type":"`+hush+`"}`, traceparent(published, "01")) // a dead letter
			leave()
			back, _ := r.device(t, phone, "earliest", jwt)
			expect(t, back, "caught_up", `"replayed":1`)
			s.metric(t, "reprise/node-1", "reprise.dead_letters", atLeast(1))
			s.span(t, "send websocket", published)
			r.end(t)
			s.record(t, "reprise/node-1", "stopped")

			identities := map[string]string{"user": user, "tv": tv, "phone": phone}
			s.free(t, []string{"traces", "metrics", "logs"}, map[string]string{"payload": hush, "secret": secret,
				"token": jwt, "token's signature": jwt[strings.LastIndexByte(jwt, '.')+1:]})
			if s.free(t, []string{"traces", "metrics"}, identities); !tt.named {
				s.free(t, []string{"logs"}, identities)
				return
			}
			connected := s.record(t, "reprise/node-1", "connected")
			if got := connected.Attributes.get("user"); got != user {
				t.Errorf("at debug level connected has the user %q, want %s: the search finds what is there", got, user)
			}
		})
	}
}
