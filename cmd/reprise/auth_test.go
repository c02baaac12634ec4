package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// key makes a key pair, or ends the test.
func key[K any](t *testing.T) func(K, error) K {
	return func(k K, err error) K {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
}

// pemFile writes a public key to a file.
func pemFile(t *testing.T, public crypto.PublicKey) string {
	t.Helper()
	der := key[[]byte](t)(x509.MarshalPKIXPublicKey(public))
	return write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

// sign makes a token of these claims.
func sign(t *testing.T, method jwt.SigningMethod, with any, kid string, c jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(with)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// in is a NumericDate so far from now.
func in(d time.Duration) float64 { return float64(time.Now().Add(d).Unix()) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	rsaKey := key[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	ecKey := key[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	public, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM, ecPEM, edPEM := pemFile(t, &rsaKey.PublicKey), pemFile(t, &ecKey.PublicKey), pemFile(t, public)
	der := key[[]byte](t)(x509.MarshalPKIXPublicKey(&rsaKey.PublicKey))
	const shared = "a secret of thirty-two bytes ...."
	hmac := &config{authHMACSecret: newSecret(shared), authIssuer: "me", authAudience: "relay"}
	good := jwt.MapClaims{"sub": exampleUser, "exp": in(time.Hour), "iss": "me", "aud": "relay"}
	with := func(change jwt.MapClaims) jwt.MapClaims {
		c := jwt.MapClaims{}
		for k, v := range good {
			c[k] = v
		}
		for k, v := range change {
			if v == nil {
				delete(c, k)
			} else {
				c[k] = v
			}
		}
		return c
	}
	none := sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", good)
	tests := []struct {
		name  string
		cfg   *config
		token string
		ok    bool
	}{
		{"HS256", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", good), true},
		{"HS384", hmac, sign(t, jwt.SigningMethodHS384, []byte(shared), "", good), true},
		{"HS512", hmac, sign(t, jwt.SigningMethodHS512, []byte(shared), "", good), true},
		{"RS256", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodRS256, rsaKey, "", good), true},
		{"PS512", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodPS512, rsaKey, "", good), true},
		{"ES256", &config{authPublicKeyFile: ecPEM}, sign(t, jwt.SigningMethodES256, ecKey, "", good), true},
		{"EdDSA", &config{authPublicKeyFile: edPEM}, sign(t, jwt.SigningMethodEdDSA, edKey, "", good), true},
		{"audience list", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"aud": []string{"x", "relay"}})), true},

		{"another secret", hmac, sign(t, jwt.SigningMethodHS256, []byte("another secret of thirty-two bytes"), "", good), false},
		{"none", hmac, none, false},
		{"none for a public key", &config{authPublicKeyFile: rsaPEM}, none, false},
		{"HMAC with the public key as secret", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodHS256, der, "", good), false},
		{"RSA where the secret is shared", hmac, sign(t, jwt.SigningMethodRS256, rsaKey, "", good), false},
		{"no exp", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"exp": nil})), false},
		{"exp is text", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"exp": "tomorrow"})), false},
		{"expired", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"exp": in(-10 * time.Second)})), false},
		{"not yet", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"nbf": in(time.Minute)})), false},
		{"issuer", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"iss": "you"})), false},
		{"no issuer", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"iss": nil})), false},
		{"audience", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"aud": "other"})), false},
		{"no sub", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"sub": nil})), false},
		{"nothing", hmac, "", false},
		{"two parts", hmac, "a.b", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v, err := newVerifier(t.Context(), tt.cfg, discard())
			if err != nil {
				t.Fatalf("newVerifier() error = %v", err)
			}
			user, _, expires, err := v.authenticate(tt.token)
			if (err == nil) != tt.ok {
				t.Errorf("authenticate() error = %v, want ok %v", err, tt.ok)
			}
			if tt.ok && (user != exampleUser || time.Until(expires) > time.Hour) {
				t.Errorf("authenticate() = %s, %v, want %s within the hour", user, expires, exampleUser)
			}
			if !tt.ok && err != errUnauthorized {
				t.Errorf("authenticate() error = %v, want the constant %v", err, errUnauthorized)
			}
		})
	}
}

// TestLeeway is in fake time: a loaded machine may take longer than the leeway.
func TestLeeway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ago time.Duration
		ok  bool
	}{{-time.Second, true}, {4 * time.Second, true}, {6 * time.Second, false}} {
		synctest.Test(t, func(t *testing.T) {
			v, err := newVerifier(t.Context(), &config{authHMACSecret: newSecret(hush)}, discard())
			if err != nil {
				t.Fatal(err)
			}
			token := sign(t, jwt.SigningMethodHS256, []byte(hush), "", jwt.MapClaims{"sub": exampleUser, "exp": in(-tt.ago)})
			if _, _, _, err := v.authenticate(token); (err == nil) != tt.ok {
				t.Errorf("authenticate(expired %v ago) error = %v, want ok %v", tt.ago, err, tt.ok)
			}
		})
	}
}

func TestSignTokenIsGood(t *testing.T) {
	t.Parallel()
	code, out, complaint := reprise(t.Context(), []string{"REPRISE_AUTH_HMAC_SECRET=" + hush}, "token",
		"--user", exampleUser, "--device", exampleTV, "--auth-issuer", "me", "--auth-audience", "relay", "--expires-in", "10m")
	if code != 0 || complaint != "" {
		t.Fatalf("run(token) = %d, %s, want 0", code, complaint)
	}
	v, err := newVerifier(t.Context(), &config{authHMACSecret: newSecret(hush), authIssuer: "me", authAudience: "relay"}, discard())
	if err != nil {
		t.Fatal(err)
	}
	user, device, expires, err := v.authenticate(out[:len(out)-1])
	if err != nil || user != exampleUser || device != exampleTV || time.Until(expires) > 10*time.Minute || time.Until(expires) < 9*time.Minute {
		t.Errorf("authenticate(token) = %s, %s, %v, %v", user, device, expires, err)
	}
}

func TestKeysFromURL(t *testing.T) {
	t.Parallel()
	rsaKey := key[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	set := key[[]byte](t)(json.Marshal(map[string]any{"keys": []any{
		map[string]any{
			"kty": "RSA", "kid": "one", "use": "sig",
			"n": base64.RawURLEncoding.EncodeToString(rsaKey.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(rsaKey.E)).Bytes()),
		},
		map[string]any{"kty": "oct", "kid": "shared", "k": base64.RawURLEncoding.EncodeToString([]byte(hush))},
	}}))
	var up atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(set)
	}))
	t.Cleanup(server.Close)
	cfg := &config{authJWKSURL: server.URL}

	away, err := newVerifier(t.Context(), cfg, discard())
	if err != nil {
		t.Fatalf("newVerifier() with the key server down: error = %v, want nil", err)
	}
	if away.ready() {
		t.Error("ready() without keys = true, want false")
	}
	up.Store(true)
	v, err := newVerifier(t.Context(), cfg, discard())
	if err != nil {
		t.Fatalf("newVerifier() error = %v", err)
	}
	if !v.ready() {
		t.Error("ready() = false, want true")
	}
	claims := jwt.MapClaims{"sub": exampleUser, "exp": in(time.Hour)}
	if user, _, _, err := v.authenticate(sign(t, jwt.SigningMethodRS256, rsaKey, "one", claims)); err != nil || user != exampleUser {
		t.Errorf("authenticate() = %s, %v, want %s", user, err, exampleUser)
	}
	if _, _, _, err := v.authenticate(sign(t, jwt.SigningMethodHS256, []byte(hush), "shared", claims)); err == nil {
		t.Error("authenticate(HS256 with a symmetric key of the set) error = nil, want one")
	}
	// The first question about an unknown key is answered by a fetch, and the
	// token is refused all the same.
	if _, _, _, err := v.authenticate(sign(t, jwt.SigningMethodRS256, rsaKey, "two", claims)); err == nil {
		t.Error("authenticate(unknown kid) error = nil, want one")
	}
}

func TestReadPublicKeyRejects(t *testing.T) {
	t.Parallel()
	p224 := key[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	for name, path := range map[string]string{
		"missing":     "/no/such/key.pem",
		"no PEM":      write(t, "a", "hello"),
		"broken":      write(t, "b", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
		"private key": write(t, "c", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"P-224":       pemFile(t, &p224.PublicKey),
	} {
		if _, err := newVerifier(t.Context(), &config{authPublicKeyFile: path}, discard()); err == nil {
			t.Errorf("newVerifier(%s) error = nil, want one", name)
		}
	}
	if _, err := newVerifier(t.Context(), &config{}, discard()); err == nil {
		t.Error("newVerifier(no key) error = nil, want one")
	}
}
