package browser

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// page is what every server of pages shows.
const page = `<!doctype html><title>a page</title><body>here</body>`

func servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, page)
}

// pages serves a page, and returns its port.
func pages(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(servePage))
	t.Cleanup(s.Close)
	return portOf(s.URL)
}

// proxy serves a page beside a listener of the program, as one in front of both
// does, and notes how the listener answers.
type proxy struct {
	port string

	mu      sync.Mutex
	answers []answer // guarded by mu
}

// answer is the listener's to a request of the browser.
type answer struct {
	method, path, cors string
	status             int
}

// behind puts a proxy before the listener at address, for what is below path.
func behind(t *testing.T, address, path string) *proxy {
	t.Helper()
	p := &proxy{}
	mux := http.NewServeMux()
	mux.HandleFunc("/", servePage)
	mux.Handle(path, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.answers = append(p.answers, answer{r.Request.Method, r.Request.URL.Path, r.Header.Get("Access-Control-Allow-Origin"), r.StatusCode})
			return nil
		},
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	p.port = portOf(s.URL)
	return p
}

// seen returns the answers since the last call.
func (p *proxy) seen() []answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	answers := p.answers
	p.answers = nil
	return answers
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
