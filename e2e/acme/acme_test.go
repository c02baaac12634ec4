package acme

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

const host = "relay.example"

func TestMain(m *testing.M) {
	// Pebble waits up to 15 s before it validates, and refuses every twentieth
	// nonce. The first is of no use here; the second is what happens out there.
	os.Setenv("PEBBLE_VA_NOSLEEP", "1")
	os.Exit(m.Run())
}

// names starts a DNS server that knows every name as this machine.
func names(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // Pebble asks by TCP
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		if question := q.Question[0]; question.Qtype == dns.TypeA {
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)}}
		}
		w.WriteMsg(a)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return l.Addr().String()
}

// authority is Pebble. It validates on the port that validatesOn is told.
type authority struct {
	*httptest.Server
	handler atomic.Pointer[http.Handler]
	orders  atomic.Int64
	roots   *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/order-plz") {
			a.orders.Add(1)
		}
		if handler := a.handler.Load(); handler != nil {
			(*handler).ServeHTTP(w, r)
			return
		}
		http.Error(w, "not yet", http.StatusServiceUnavailable)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *authority) validatesOn(t *testing.T, port int) {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: 7776000}})
	validator := va.New(quiet, 0, port, false, names(t), store)
	a.roots = x509.NewCertPool()
	if !a.roots.AppendCertsFromPEM(issuer.GetRootCert(0).PEM()) {
		t.Fatal("Pebble has no root certificate")
	}
	front := wfe.New(quiet, store, validator, issuer, []string{host}, false, false, 1, 1)
	handler := front.Handler()
	a.handler.Store(&handler)
}

// start runs a node that gets its certificate from a, and returns its port.
func start(t *testing.T, binary string, a *authority, data, cache string) (port int, stop func()) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	node := exec.Command(binary, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", data, "--drain", "0s",
		"--auth", "none", "--pubnub-subscribe-key", "demo", "--pubnub-origin", "127.0.0.1:1", "--pubnub-tls=false", "--log-format", "json",
		"--tls-acme-hosts", host, "--tls-acme-directory", a.URL+"/dir", "--tls-acme-cache", cache)
	node.Env = append(os.Environ(), "SSL_CERT_FILE="+root)
	lines, err := node.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { node.Process.Kill(); node.Wait() }
	t.Cleanup(stop)
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		var line struct{ Msg, What, Addr string }
		if json.Unmarshal(scanner.Bytes(), &line) == nil && line.Msg == "listening" && line.What == "devices" {
			_, text, _ := net.SplitHostPort(line.Addr)
			port, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, lines)
			return port, stop
		}
	}
	t.Fatal("the node did not start")
	return 0, nil
}

// handshake connects by TLS as host, trusting roots.
func handshake(t *testing.T, port int, name string, roots *x509.CertPool) (*tls.Conn, error) {
	t.Helper()
	dialer := &net.Dialer{Timeout: 60 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), &tls.Config{ServerName: name, RootCAs: roots})
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

func TestCertificateByACME(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "reprise")
	build := exec.Command("go", "build", "-o", binary, "./cmd/reprise")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	a, data, cache := newAuthority(t), t.TempDir(), filepath.Join(t.TempDir(), "acme")
	port, stop := start(t, binary, a, data, cache)
	a.validatesOn(t, port)

	conn, err := handshake(t, port, host, a.roots)
	if err != nil {
		t.Fatalf("handshake as %s: %v, want a certificate of the authority", host, err)
	}
	state := conn.ConnectionState()
	if err := state.PeerCertificates[0].VerifyHostname(host); err != nil || state.NegotiatedProtocol != "" && state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("certificate for %v, protocol %q, want %s and http/1.1", state.PeerCertificates[0].DNSNames, state.NegotiatedProtocol, host)
	}
	if _, err := handshake(t, port, "other.example", a.roots); err == nil {
		t.Error("handshake as a host that is not listed: error = nil, want one")
	}
	if n := a.orders.Load(); n != 1 {
		t.Errorf("orders = %d, want 1", n)
	}
	info, err := os.Stat(cache)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory of the certificates: %v, %v, want mode 700", info.Mode(), err)
	}

	// A restart, even with the authority away, has what it had.
	stop()
	a.handler.Store(nil)
	port, _ = start(t, binary, a, data, cache)
	if _, err := handshake(t, port, host, a.roots); err != nil {
		t.Errorf("handshake after a restart without the authority: %v, want the certificate that is there", err)
	}
}
