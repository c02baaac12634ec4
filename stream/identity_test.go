package stream

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// guarded starts an external server that lets in whom opts say.
func guarded(t *testing.T, opts *server.Options) string {
	t.Helper()
	opts.Host, opts.Port, opts.JetStream, opts.StoreDir, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, true, t.TempDir(), true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	return ns.ClientURL()
}

// must ends the test on an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func secretFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tries opens the log as cfg says, and probes it. Both have to agree.
func tries(t *testing.T, name string, cfg Config, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	found, err := Probe(ctx, cfg)
	if (err == nil) != ok || ok && !strings.Contains(found, "log") {
		t.Errorf("%s: Probe() = %q, %v, want ok %v", name, found, err, ok)
	}
	log, err := Open(ctx, cfg)
	if (err == nil) != ok {
		t.Errorf("%s: Open() error = %v, want ok %v", name, err, ok)
	}
	if log != nil {
		log.Close()
	}
}

func TestNkey(t *testing.T) {
	t.Parallel()
	known, stranger := must[nkeys.KeyPair](t)(nkeys.CreateUser()), must[nkeys.KeyPair](t)(nkeys.CreateUser())
	url := guarded(t, &server.Options{Nkeys: []*server.NkeyUser{{Nkey: must[string](t)(known.PublicKey())}}})
	tries(t, "its seed", Config{URL: url, Nkey: secretFile(t, must[[]byte](t)(known.Seed()))}, true)
	tries(t, "another seed", Config{URL: url, Nkey: secretFile(t, must[[]byte](t)(stranger.Seed()))}, false)
	tries(t, "no seed", Config{URL: url}, false)
	tries(t, "nonsense", Config{URL: url, Nkey: secretFile(t, []byte("SUA"))}, false)
}

// TestCredentials is a server in operator mode, with an account that may use
// JetStream and a user of it.
func TestCredentials(t *testing.T) {
	t.Parallel()
	operator, account, user := must[nkeys.KeyPair](t)(nkeys.CreateOperator()), must[nkeys.KeyPair](t)(nkeys.CreateAccount()), must[nkeys.KeyPair](t)(nkeys.CreateUser())
	accountKey := must[string](t)(account.PublicKey())
	claims := jwt.NewAccountClaims(accountKey)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}
	system := must[nkeys.KeyPair](t)(nkeys.CreateAccount())
	systemKey := must[string](t)(system.PublicKey())
	resolver := &server.MemAccResolver{}
	for key, token := range map[string]string{
		accountKey: must[string](t)(claims.Encode(operator)),
		systemKey:  must[string](t)(jwt.NewAccountClaims(systemKey).Encode(operator)),
	} {
		if err := resolver.Store(key, token); err != nil {
			t.Fatal(err)
		}
	}
	operatorClaims := jwt.NewOperatorClaims(must[string](t)(operator.PublicKey()))
	operatorToken := must[string](t)(operatorClaims.Encode(operator))
	url := guarded(t, &server.Options{
		TrustedOperators: []*jwt.OperatorClaims{must[*jwt.OperatorClaims](t)(jwt.DecodeOperatorClaims(operatorToken))},
		AccountResolver:  resolver, SystemAccount: systemKey,
	})
	userToken := must[string](t)(jwt.NewUserClaims(must[string](t)(user.PublicKey())).Encode(account))
	creds := must[[]byte](t)(jwt.FormatUserConfig(userToken, must[[]byte](t)(user.Seed())))
	seed := must[[]byte](t)(must[nkeys.KeyPair](t)(nkeys.CreateUser()).Seed())
	stranger := append(must[[]byte](t)(jwt.DecorateJWT(userToken)), must[[]byte](t)(jwt.DecorateSeed(seed))...)
	tries(t, "its credentials", Config{URL: url, Creds: secretFile(t, creds)}, true)
	tries(t, "another's seed", Config{URL: url, Creds: secretFile(t, stranger)}, false)
	tries(t, "no credentials", Config{URL: url}, false)
	tries(t, "no file", Config{URL: url, Creds: "/no/such/file"}, false)
}
