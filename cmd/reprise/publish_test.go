package main

import (
	"net/http"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

func TestPublish(t *testing.T) {
	t.Parallel()
	emulator, err := pubnubtest.Start(pubnubtest.Config{PollTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(emulator.Close)
	origin := []string{"--pubnub-origin", emulator.Addr()}
	code, out, complaint := reprise(t.Context(), nil, append([]string{"publish", "user.7.sync", `{"n":1}`}, origin...)...)
	if code != 0 || len(out) != 18 || complaint != "" {
		t.Errorf("run(publish) = %d, %q, %q, want 0 and a timetoken", code, out, complaint)
	}
	code, out, complaint = reprise(t.Context(), nil, append([]string{"publish", "a.b.c.d", `{"n":1}`}, origin...)...)
	if code != 1 || out != "" || complaint == "" {
		t.Errorf("run(publish to four segments) = %d, %q, %q, want 1 and PubNub's words", code, out, complaint)
	}
	t.Logf("PubNub's words: %s", complaint)
	code, _, complaint = reprise(t.Context(), []string{"PUBNUB_SUBSCRIBE_KEY=other", "PUBNUB_PUBLISH_KEY=" + hush},
		"publish", "a", "1", "--pubnub-tls=false", "--pubnub-origin", emulator.Addr())
	if code != 1 {
		t.Errorf("run(publish with wrong keys) = %d, %q, want 1", code, complaint)
	}
}

func TestPublishAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status     int
		body       string
		want, fail string
	}{
		{200, `[1,"Sent","17954373395342100"]`, "17954373395342100", ""},
		{400, `[0,"Invalid JSON","17954373395342100"]`, "", "refused: Invalid JSON"},
		{403, `{"message":"Forbidden","error":true,"status":403}`, "", "refused with status 403: Forbidden"},
		{http.StatusBadGateway, `<html>`, "", "status 502, and an answer that is not PubNub's"},
		{200, `[]`, "", "status 200, and an answer that is not PubNub's"},
	}
	for _, tt := range tests {
		got, err := publishAnswer(tt.status, []byte(tt.body))
		if got != tt.want || (err == nil) != (tt.fail == "") || err != nil && err.Error() != tt.fail {
			t.Errorf("publishAnswer(%d, %s) = %q, %v, want %q, %q", tt.status, tt.body, got, err, tt.want, tt.fail)
		}
	}
}
