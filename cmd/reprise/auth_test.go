package main

import (
	"bytes"
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
	"os"
	"strings"
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
	ec384 := key[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	ec521 := key[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
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
		{"RS384", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodRS384, rsaKey, "", good), true},
		{"RS512", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodRS512, rsaKey, "", good), true},
		{"PS256", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodPS256, rsaKey, "", good), true},
		{"PS384", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodPS384, rsaKey, "", good), true},
		{"PS512", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodPS512, rsaKey, "", good), true},
		{"ES256", &config{authPublicKeyFile: ecPEM}, sign(t, jwt.SigningMethodES256, ecKey, "", good), true},
		{"ES384", &config{authPublicKeyFile: pemFile(t, &ec384.PublicKey)}, sign(t, jwt.SigningMethodES384, ec384, "", good), true},
		{"ES512", &config{authPublicKeyFile: pemFile(t, &ec521.PublicKey)}, sign(t, jwt.SigningMethodES512, ec521, "", good), true},
		{"EdDSA", &config{authPublicKeyFile: edPEM}, sign(t, jwt.SigningMethodEdDSA, edKey, "", good), true},
		{"audience list", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"aud": []string{"x", "relay"}})), true},

		{"another secret", hmac, sign(t, jwt.SigningMethodHS256, []byte("another secret of thirty-two bytes"), "", good), false},
		{"none", hmac, none, false},
		{"none for a public key", &config{authPublicKeyFile: rsaPEM}, none, false},
		{"HMAC with the public key as secret", &config{authPublicKeyFile: rsaPEM}, sign(t, jwt.SigningMethodHS256, der, "", good), false},
		{"RSA where the secret is shared", hmac, sign(t, jwt.SigningMethodRS256, rsaKey, "", good), false},
		{"no exp", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"exp": nil})), false},
		{"exp is text", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"exp": "tomorrow"})), false},
		{"a curve for another algorithm", &config{authPublicKeyFile: ecPEM}, sign(t, jwt.SigningMethodES384, ec384, "", good), false},
		{"RSA where the key is Ed25519", &config{authPublicKeyFile: edPEM}, sign(t, jwt.SigningMethodRS256, rsaKey, "", good), false},
		{"8 KiB", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"pad": strings.Repeat("x", maxToken)})), false},
		{"a megabyte of dots", hmac, strings.Repeat(".", 1<<20), false},
		{"changed after it was signed", hmac, tampered(sign(t, jwt.SigningMethodHS256, []byte(shared), "", good)), false},
		{"nbf is text", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"nbf": "now"})), false},
		{"no audience", hmac, sign(t, jwt.SigningMethodHS256, []byte(shared), "", with(jwt.MapClaims{"aud": nil})), false},
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
			who, err := v.authenticate(tt.token)
			if (err == nil) != tt.ok {
				t.Errorf("authenticate() error = %v, want ok %v", err, tt.ok)
			}
			if tt.ok && (who.User != exampleUser || time.Until(who.Expires) > time.Hour) {
				t.Errorf("authenticate() = %s, %v, want %s within the hour", who.User, who.Expires, exampleUser)
			}
			if !tt.ok && err != errUnauthorized {
				t.Errorf("authenticate() error = %v, want the constant %v", err, errUnauthorized)
			}
		})
	}
}

// tampered is token with another user in it, and its signature.
func tampered(token string) string {
	parts := strings.Split(token, ".")
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	parts[1] = base64.RawURLEncoding.EncodeToString(bytes.Replace(claims, []byte(exampleUser), []byte(exampleTV), 1))
	return strings.Join(parts, ".")
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
			if _, err := v.authenticate(token); (err == nil) != tt.ok {
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
	who, err := v.authenticate(out[:len(out)-1])
	if err != nil || who.User != exampleUser || who.Device != exampleTV || time.Until(who.Expires) > 10*time.Minute || time.Until(who.Expires) < 9*time.Minute || time.Since(who.Issued) > time.Minute {
		t.Errorf("authenticate(token) = %+v, %v", who, err)
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
	if who, err := v.authenticate(sign(t, jwt.SigningMethodRS256, rsaKey, "one", claims)); err != nil || who.User != exampleUser {
		t.Errorf("authenticate() = %+v, %v, want %s", who, err, exampleUser)
	}
	if _, err := v.authenticate(sign(t, jwt.SigningMethodHS256, []byte(hush), "shared", claims)); err == nil {
		t.Error("authenticate(HS256 with a symmetric key of the set) error = nil, want one")
	}
	// The first question about an unknown key is answered by a fetch, and the
	// token is refused all the same.
	if _, err := v.authenticate(sign(t, jwt.SigningMethodRS256, rsaKey, "two", claims)); err == nil {
		t.Error("authenticate(unknown kid) error = nil, want one")
	}
}

// TestKeysRotate changes the keys at the URL, then takes the server away: what
// was known goes on.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	first := key[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	second := key[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	var answer atomic.Value
	answer.Store(keySet(t, first, "one"))
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		body, _ := answer.Load().([]byte)
		if body == nil {
			http.Error(w, "down", http.StatusBadGateway)
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(server.Close)
	v, err := newVerifier(t.Context(), &config{authJWKSURL: server.URL}, discard())
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{"sub": exampleUser, "exp": in(time.Hour)}
	good := func(signer *rsa.PrivateKey, kid string) bool {
		_, err := v.authenticate(sign(t, jwt.SigningMethodRS256, signer, kid, claims))
		return err == nil
	}
	if !good(first, "one") || good(second, "two") && asked.Load() == 1 {
		t.Fatal("authenticate() with the first keys: want the first taken, the second not")
	}
	// The question about "two" above has used up the fetch of this minute, so a
	// verifier that has not been asked yet takes over.
	if v, err = newVerifier(t.Context(), &config{authJWKSURL: server.URL}, discard()); err != nil {
		t.Fatal(err)
	}
	answer.Store(keySet(t, second, "two"))
	if !good(second, "two") {
		t.Error("authenticate() with a key that has been added: want it taken at once")
	}
	answer.Store([]byte(nil))
	before := asked.Load()
	for range 100 {
		if good(first, "unknown") {
			t.Fatal("authenticate(unknown kid) error = nil, want one")
		}
	}
	if n := asked.Load() - before; n > 1 {
		t.Errorf("100 tokens of unknown keys had the server asked %d times, want once at most", n)
	}
	server.Close()
	if !good(second, "two") || !v.ready() {
		t.Error("authenticate() with the key server away: want the known key taken")
	}
}

// keySet is a JSON Web Key Set of one key.
func keySet(t *testing.T, k *rsa.PrivateKey, kid string) []byte {
	t.Helper()
	return key[[]byte](t)(json.Marshal(map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "kid": kid, "use": "sig",
		"n": base64.RawURLEncoding.EncodeToString(k.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.E)).Bytes()),
	}}}))
}

// TestPublicKeyIsReadAgain replaces an RSA key by one of another kind.
func TestPublicKeyIsReadAgain(t *testing.T) {
	t.Parallel()
	rsaKey := key[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	public, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := pemFile(t, &rsaKey.PublicKey)
	v, err := newVerifier(t.Context(), &config{authPublicKeyFile: path}, discard())
	if err != nil {
		t.Fatal(err)
	}
	c := jwt.MapClaims{"sub": exampleUser, "exp": in(time.Hour)}
	if _, err := v.authenticate(sign(t, jwt.SigningMethodRS256, rsaKey, "", c)); err != nil {
		t.Fatalf("authenticate(RS256) error = %v, want nil", err)
	}
	if err := os.Rename(pemFile(t, public), path); err != nil {
		t.Fatal(err)
	}
	token := sign(t, jwt.SigningMethodEdDSA, edKey, "", c)
	eventually(t, "authenticate(EdDSA) to be nil after the file was replaced", func() bool {
		_, err := v.authenticate(token)
		return err == nil
	})
	if _, err := v.authenticate(sign(t, jwt.SigningMethodRS256, rsaKey, "", c)); err == nil {
		t.Error("authenticate(RS256) after the file was replaced: error = nil, want one")
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
