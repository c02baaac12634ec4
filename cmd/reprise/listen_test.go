package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/edge/client"
)

// certificate makes a certificate for 127.0.0.1 and returns its files, and who
// to trust.
func certificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	private := key[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der := key[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private))
	keyDER := key[[]byte](t)(x509.MarshalPKCS8PrivateKey(private))
	roots = x509.NewCertPool()
	roots.AddCert(key[*x509.Certificate](t)(x509.ParseCertificate(der)))
	return write(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))), roots
}

func TestTLSAndHeaders(t *testing.T) {
	t.Parallel()
	pubnub, err := pubnubtest.Start(pubnubtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pubnub.Close)
	certFile, keyFile, roots := certificate(t)
	n := start(t, append([]string{"serve", "--data-dir", t.TempDir(), "--drain", "0s", "--auth-hmac-secret", hush,
		"--tls-cert-file", certFile, "--tls-key-file", keyFile,
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", pubnub.Addr(), "--pubnub-tls=false"}, freePorts...)...)

	// Offered HTTP/2, the listener takes HTTP/1.1, in which a WebSocket begins.
	conn, err := tls.Dial("tcp", n.addrs["devices"], &tls.Config{RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("negotiated %q, want http/1.1", got)
	}
	_ = conn.Close()
	if _, err := tls.Dial("tcp", n.addrs["devices"], &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("Dial() with TLS 1.1 error = nil, want one")
	}

	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	for _, tt := range []struct{ bytes, want int }{{8 << 10, 401}, {40 << 10, 431}} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+n.addrs["devices"]+"/ws?device_id="+exampleTV, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.Repeat("a", tt.bytes))
		response, err := https.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != tt.want {
			t.Errorf("GET /ws with a token of %d bytes = %d, want %d", tt.bytes, response.StatusCode, tt.want)
		}
	}

	code, token, _ := reprise(t.Context(), nil, "token", "--user", exampleUser, "--auth-hmac-secret", hush)
	if code != 0 {
		t.Fatalf("run(token) = %d, want 0", code)
	}
	frames := make(chan client.Frame, 10)
	device(t, client.Config{
		URL: "wss://" + n.addrs["devices"], TLS: &tls.Config{RootCAs: roots}, Token: fixed(token),
		Device: exampleTV, OnFrame: func(f client.Frame) { frames <- f },
	})
	expect(t, frames, "welcome", exampleUser)
	n.end(0)
}
