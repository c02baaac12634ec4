package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is the one process of Chromium, in which each page is a tab.
var browser context.Context

// browse starts it; to it every name under example is this machine. It keeps no
// page from this machine's addresses by itself, as it would some: other browsers
// do not, relays stand elsewhere too, and it is the relay that is on trial. Who
// calls must call stop.
func browse() (stop func(), err error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	profile, err := os.MkdirTemp("", "browser-profile-")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.ExecPath(path), chromedp.UserDataDir(profile),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-features", "Translate,LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"),
		chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, leave := chromedp.NewContext(allocator)
	stop = func() {
		leave()
		end()
		os.RemoveAll(profile)
	}
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, err
	}
	browser = ctx
	return stop, nil
}

// console is what a tab's console shows.
type console struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

// take is given each event of the tab.
func (c *console) take(ev any) {
	var line string
	switch ev := ev.(type) {
	case *runtime.EventConsoleAPICalled:
		for _, arg := range ev.Args {
			line += string(arg.Value) + arg.Description + " "
		}
	case *runtime.EventExceptionThrown:
		line = fmt.Sprint(ev.ExceptionDetails)
	case *log.EventEntryAdded:
		line = ev.Entry.Text + " " + ev.Entry.URL
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, line)
}

// forget drops the lines that hold a text.
func (c *console) forget(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = slices.DeleteFunc(c.lines, func(line string) bool { return strings.Contains(line, text) })
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

// run loads a page in a tab of its own and has it evaluate an expression; if the
// test fails, it shows the tab's console.
func run[T any](t *testing.T, page, expression string) T {
	t.Helper()
	shows := &console{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the console of %s:\n%s", page, shows)
		}
	})
	tab, stop := chromedp.NewContext(browser, chromedp.WithListener(shows.take))
	defer stop()
	err := chromedp.Do(tab) // opens the tab
	var result T
	if err == nil {
		within, cancel := context.WithTimeout(tab, patience)
		defer cancel()
		if err = chromedp.Do(within, chromedp.Navigate(page)); err == nil {
			result, err = chromedp.Run(within, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		}
	}
	if err != nil {
		t.Fatalf("on %s: %v", page, err)
	}
	return result
}
