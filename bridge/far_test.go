package bridge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// farRoundTrip is the variable that makes this test binary an emulator, that far
// away, instead of running tests.
const farRoundTrip = "REPRISE_FAR_PUBNUB"

func TestMain(m *testing.M) {
	if roundTrip := os.Getenv(farRoundTrip); roundTrip != "" {
		if err := beFar(roundTrip, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// far is an emulator in a process of its own. In this one its round trip would
// be up to two milliseconds longer whenever something else runs beside it: a
// timer of Go's is that late then.
type far struct {
	b       *testing.B
	addr    string
	process *exec.Cmd
	to      io.WriteCloser
	from    *bufio.Reader
}

// farPubNub starts an emulator with a queue that does not overflow.
func farPubNub(b *testing.B, roundTrip time.Duration) *far {
	b.Helper()
	f := &far{b: b, process: exec.Command(os.Args[0])}
	f.process.Env = append(os.Environ(), farRoundTrip+"="+roundTrip.String())
	f.process.Stderr = os.Stderr
	var err error
	if f.to, err = f.process.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	out, err := f.process.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	f.from = bufio.NewReader(out)
	if err := f.process.Start(); err != nil {
		b.Fatal(err)
	}
	f.addr = f.answer()
	return f
}

func (f *far) answer() string {
	f.b.Helper()
	var line string
	if _, err := fmt.Fscanln(f.from, &line); err != nil {
		f.b.Fatalf("the emulator's process: %v", err)
	}
	return line
}

// publish publishes n messages of benchUsers users.
func (f *far) publish(n int) { fmt.Fprintln(f.to, n); f.answer() }

// polled waits until somebody waits for messages.
func (f *far) polled() { f.publish(0) }

func (f *far) close() {
	f.to.Close()
	if err := f.process.Wait(); err != nil {
		f.b.Error(err)
	}
}

// beFar is the emulator's process: it says its address, and done for each number
// of messages that it has published, or for 0 when a poll waits.
func beFar(roundTrip string, in io.Reader, out io.Writer) error {
	d, err := time.ParseDuration(roundTrip)
	if err != nil {
		return err
	}
	s, err := pubnubtest.Start(benchEmulator(d))
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Fprintln(out, s.Addr())
	for {
		var n int
		if _, err := fmt.Fscanln(in, &n); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		for i := range n {
			s.Publish(benchChannel(i%benchUsers), benchPayload)
		}
		if n == 0 {
			if err := s.WaitPolls(context.Background(), 1); err != nil {
				return err
			}
		}
		fmt.Fprintln(out, "done")
	}
}
