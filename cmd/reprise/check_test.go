package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"reprise/bridge/pubnubtest"
	"reprise/edge/client"
)

func TestCheckReaches(t *testing.T) {
	t.Parallel()
	pubnub, err := pubnubtest.Start(pubnubtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pubnub.Close)
	nats := startNATS(t)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/keys":
			_, _ = w.Write([]byte(`{"keys":[{"kty":"RSA"}]}`))
		case "/empty":
			_, _ = w.Write([]byte(`{"keys":[]}`))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(keys.Close)
	dead := freeAddress(t)
	good := []string{"REPRISE_NATS_URL=nats://" + nats, "PUBNUB_SUBSCRIBE_KEY=demo", "REPRISE_PUBNUB_ORIGIN=" + pubnub.Addr(), "REPRISE_PUBNUB_TLS=false", "REPRISE_AUTH_JWKS_URL=" + keys.URL + "/keys"}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		says []string
	}{
		{"all there", good, nil, 0, []string{"nats", "no log yet", "pubnub", "can be subscribed to", "keys", "1 at http"}},
		{"nats away", good, []string{"--nats-url", "nats://" + dead}, 1, []string{"nats", "FAILED", "nats://" + dead}},
		{"pubnub away", good, []string{"--pubnub-origin", dead}, 1, []string{"pubnub", "FAILED", dead}},
		{"pubnub is something else", good, []string{"--pubnub-origin", strings.TrimPrefix(keys.URL, "http://")}, 1, []string{"pubnub", "FAILED", "status 404"}},
		{"no keys", good, []string{"--auth-jwks-url", keys.URL + "/empty"}, 1, []string{"keys", "FAILED", "empty"}},
		{"keys not found", good, []string{"--auth-jwks-url", keys.URL + "/none"}, 1, []string{"keys", "FAILED", "status 404"}},
		{"everything away", good, []string{"--nats-url", "nats://" + dead, "--pubnub-origin", dead, "--auth-jwks-url", "http://" + dead}, 1, []string{"3 of 3 cannot be reached"}},
		{"nothing to reach", nil, nil, 0, []string{"embedded", "not asked", "none set"}},
		{"no certificate", good, []string{"--tls-cert-file", keysFile(t), "--tls-key-file", keysFile(t)}, 2, []string{"tls-cert-file"}},
		{"no public key", nil, []string{"--auth-public-key-file", keysFile(t)}, 2, []string{"auth-public-key-file", "PEM"}},
		{"a mistake comes first", good, []string{"--drain", "x", "--nats-url", "nats://" + dead}, 2, []string{"drain"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, complaint := reprise(t.Context(), tt.env, append([]string{"check"}, tt.args...)...)
			if code != tt.code {
				t.Errorf("run(check) = %d, want %d\n%s%s", code, tt.code, out, complaint)
			}
			for _, want := range tt.says {
				if !strings.Contains(out+complaint, want) {
					t.Errorf("run(check) wrote %s%s, want %q in it", out, complaint, want)
				}
			}
			if strings.Contains(out+complaint, "demo") {
				t.Errorf("run(check) wrote %s%s, which holds the subscribe key", out, complaint)
			}
		})
	}
}

// keysFile is a file that is no PEM.
func keysFile(t *testing.T) string { return write(t, "key.pem", "hello") }

// freeAddress is one on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestNATSOverTLS runs a node against a server that asks for a certificate and
// a password.
func TestNATSOverTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, roots := certificate(t)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Username: "relay", Password: hush, TLS: true, TLSVerify: true, TLSTimeout: 5,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	url := "tls://relay:" + hush + "@" + s.Addr().String()
	with := []string{"--nats-ca-file", certFile, "--nats-cert-file", certFile, "--nats-key-file", keyFile}
	for _, tt := range []struct {
		name string
		args []string
		code int
	}{
		{"all", append([]string{"--nats-url", url}, with...), 0},
		{"a wrong password", append([]string{"--nats-url", "tls://relay:x@" + s.Addr().String()}, with...), 1},
		{"no authority", []string{"--nats-url", url, "--nats-cert-file", certFile, "--nats-key-file", keyFile}, 1},
		{"no certificate", []string{"--nats-url", url, "--nats-ca-file", certFile}, 1},
	} {
		code, out, complaint := reprise(t.Context(), nil, append([]string{"check"}, tt.args...)...)
		if code != tt.code || strings.Contains(out+complaint, hush) {
			t.Errorf("%s: run(check) = %d, %s%s, want %d and no password", tt.name, code, out, complaint, tt.code)
		}
	}
	n := start(t, append(append([]string{"edge", "--nats-url", url, "--auth", "none"}, with...), freePorts...)...)
	frames := make(chan client.Frame, 10)
	device(t, client.Config{URL: "ws://" + n.addrs["devices"], User: exampleUser, Device: exampleTV, OnFrame: func(f client.Frame) { frames <- f }})
	expect(t, frames, "welcome", exampleUser)
	n.end(0)
}

// TestCertificatesAreReadAgain renews the certificate of both listeners under a
// running node.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	certFile, keyFile, roots := certificate(t)
	nats := startNATS(t)
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	n := startWith(t, "https", https, append([]string{"edge", "--nats-url", "nats://" + nats, "--auth", "none", "--drain", "0s",
		"--tls-cert-file", certFile, "--tls-key-file", keyFile, "--admin-tls-cert-file", certFile, "--admin-tls-key-file", keyFile}, freePorts...)...)
	newCert, newKey, newRoots := certificate(t)
	for _, move := range [][2]string{{newCert, certFile}, {newKey, keyFile}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, what := range []string{"devices", "admin"} {
		eventually(t, "the new certificate of "+what, func() bool {
			conn, err := tls.Dial("tcp", n.addrs[what], &tls.Config{RootCAs: newRoots, MinVersion: tls.VersionTLS12})
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}
	n.end(0)
}
