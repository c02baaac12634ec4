package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"reprise/edge"
)

// maxToken is the length of a token from which on nobody looks into it.
const maxToken = 8 << 10

// asymmetric are the algorithms of tokens that are signed with a private key.
var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// leeway is how far the clocks of the token's maker and of this process may be
// apart.
const leeway = 5 * time.Second

// errUnauthorized is the one answer to every bad token.
var errUnauthorized = errors.New("unauthorized")

// verifier checks tokens against one kind of key. It is safe for concurrent use.
type verifier struct {
	parser *jwt.Parser
	key    jwt.Keyfunc
	// ready tells whether there is a key at all.
	ready func() bool
}

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	// Device binds the token to one device of the user; "" to none.
	Device string `json:"device,omitempty"`
}

// newVerifier makes the verifier that the settings ask for. Keys that come from
// a URL are fetched, and fetched again, until ctx ends.
func newVerifier(ctx context.Context, cfg *config, log *slog.Logger) (*verifier, error) {
	v := &verifier{ready: func() bool { return true }}
	var methods []string
	switch {
	case cfg.authHMACSecret.isSet():
		secret := currentSecret(cfg, "auth-hmac-secret", cfg.authHMACSecret, log)
		methods = []string{"HS256", "HS384", "HS512"}
		v.key = func(*jwt.Token) (any, error) { return []byte(secret()), nil }
		if n := len(secret()); n < 32 {
			log.Warn("the secret of the tokens is short", "bytes", n, "want", 32)
		}
	case cfg.authPublicKeyFile != "":
		key, err := newReread("auth-public-key-file", log, func() (publicKey, error) { return readPublicKey(cfg.authPublicKeyFile) }, cfg.authPublicKeyFile)
		if err != nil {
			return nil, err
		}
		methods = asymmetric
		v.key = func(t *jwt.Token) (any, error) { return key.get().keyFor(t.Method.Alg()) }
	case cfg.authJWKSURL != "":
		methods = asymmetric
		if err := v.fetchKeys(ctx, cfg.authJWKSURL, log); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("no key to check tokens with")
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(methods),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(leeway),
	}
	if cfg.authIssuer != "" {
		options = append(options, jwt.WithIssuer(cfg.authIssuer))
	}
	if cfg.authAudience != "" {
		options = append(options, jwt.WithAudience(cfg.authAudience))
	}
	v.parser = jwt.NewParser(options...)
	return v, nil
}

// fetchKeys takes the keys from url. That none can be had now is no error: they
// are asked for again, and until then v is not ready.
func (v *verifier) fetchKeys(ctx context.Context, url string, log *slog.Logger) error {
	set, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{url}, keyfunc.Override{
		HTTPTimeout:       10 * time.Second,
		RateLimitWaitMax:  time.Second,
		RefreshInterval:   5 * time.Minute,
		RefreshUnknownKID: rate.NewLimiter(rate.Every(time.Minute), 1),
		RefreshErrorHandlerFunc: func(string) func(context.Context, error) {
			return func(_ context.Context, err error) { log.Warn("keys cannot be fetched", "err", err) }
		},
	})
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	v.key = set.Keyfunc
	v.ready = func() bool {
		keys, err := set.Storage().KeyReadAll(ctx)
		return err == nil && len(keys) > 0
	}
	return nil
}

// authenticate tells whose token it is. The error is the same for every fault.
func (v *verifier) authenticate(token string) (edge.Identity, error) {
	var c claims
	if len(token) > maxToken {
		return edge.Identity{}, errUnauthorized
	}
	if _, err := v.parser.ParseWithClaims(token, &c, v.key); err != nil || c.Subject == "" {
		return edge.Identity{}, errUnauthorized
	}
	who := edge.Identity{User: c.Subject, Device: c.Device, Expires: c.ExpiresAt.Time}
	if c.IssuedAt != nil {
		who.Issued = c.IssuedAt.Time
	}
	return who, nil
}

// publicKey is a key and the algorithms that its kind is for.
type publicKey struct {
	key     any
	methods []string
}

// keyFor returns the key for an algorithm, if it is one for it.
func (k publicKey) keyFor(algorithm string) (any, error) {
	if !slices.Contains(k.methods, algorithm) {
		return nil, errUnauthorized
	}
	return k.key, nil
}

// readPublicKey reads a PEM file with a public key or a certificate.
func readPublicKey(path string) (publicKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return publicKey{}, fmt.Errorf("public key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return publicKey{}, fmt.Errorf("public key: %s is no PEM file", path)
	}
	var key any
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		err = fmt.Errorf("holds a %s", block.Type)
	}
	if err != nil {
		return publicKey{}, fmt.Errorf("public key: %s: %w", path, err)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		return publicKey{k, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}}, nil
	case *ecdsa.PublicKey:
		method, ok := map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]
		if !ok {
			return publicKey{}, fmt.Errorf("public key: %s: no token is signed on the curve %s", path, k.Curve.Params().Name)
		}
		return publicKey{k, []string{method}}, nil
	case ed25519.PublicKey:
		return publicKey{k, []string{"EdDSA"}}, nil
	default:
		return publicKey{}, fmt.Errorf("public key: %s: no token is signed with a %T", path, key)
	}
}
