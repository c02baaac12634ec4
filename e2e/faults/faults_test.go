package faults

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	schedules = flag.Int("schedules", 2, "how many schedules are run")
	from      = flag.Uint64("from", 1, "the seed of the first; the others follow it")
	acts      = flag.Int("acts", len(Kinds), "faults of a schedule")
	keep      = flag.String("keep", "", "directory for what the programs of a failed or slow run said")
	reports   = flag.String("reports", "", "file to which a line of JSON is added for each schedule")
	only      = flag.String("only", "", "faults that are used, separated by commas; none are all")
)

var built = sync.OnceValues(func() (Programs, error) {
	dir, err := os.MkdirTemp("", "reprise-faults-")
	if err != nil {
		return Programs{}, err
	}
	buildDir = dir
	return Build(Root(), dir)
})

var buildDir string

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

func programs(t testing.TB) Programs {
	t.Helper()
	p, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSchedules lets seeded schedules of faults happen to a cluster under load, and
// judges what was seen.
func TestSchedules(t *testing.T) {
	p := programs(t)
	var kinds []Kind
	for _, k := range strings.Split(*only, ",") {
		if k != "" {
			kinds = append(kinds, Kind(k))
		}
	}
	var mu sync.Mutex
	var total total
	t.Run("seed", func(t *testing.T) {
		for i := range *schedules {
			seed := *from + uint64(i)
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				report := runSeed(t, p, Plan(seed, *acts, kinds...))
				mu.Lock()
				defer mu.Unlock()
				total.add(report)
			})
		}
	})
	t.Log(&total)
	if *schedules < enough || len(kinds) > 0 {
		return
	}
	for _, k := range Kinds {
		if n := total.faults[k]; n < 100 {
			t.Errorf("%q met something %d times, want 100", k, n)
		}
	}
	if total.resumes < 10_000 {
		t.Errorf("%d resumes, want 10,000", total.resumes)
	}
}

// slow is for how long after the last heal somebody was behind in a run that is worth a
// look.
const slow = caughtUpWithin / 2

// enough is how many schedules say something of every fault.
const enough = 200

// runSeed runs a schedule and fails the test for all that was wrong.
func runSeed(t *testing.T, p Programs, s Schedule) Report {
	dir := t.TempDir()
	if *keep != "" {
		dir = filepath.Join(*keep, strconv.FormatUint(s.Seed, 10))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(s)
	report, err := Do(context.Background(), p, dir, s, Usual, t.Logf)
	if err != nil {
		report.Wrong = append(report.Wrong, "the harness: "+err.Error())
	}
	for i, w := range report.Wrong {
		if i == 20 {
			t.Errorf("and %d more", len(report.Wrong)-i)
			break
		}
		t.Error(w)
	}
	t.Logf("%d events, %d resumes, %d welcomes not complete, caught up %v after the last heal, %d NATS servers started anew after a full disk",
		report.Events, report.Resumes, report.Incomplete, report.CaughtUp, report.Mended)
	if !t.Failed() && report.CaughtUp < slow && *keep != "" {
		os.RemoveAll(dir)
	}
	if *reports != "" {
		if err := report.write(*reports); err != nil {
			t.Error(err)
		}
	}
	return report
}

// write adds the report to a file.
func (r Report) write(file string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(line, '\n'))
	return err
}

// total sums up reports.
type total struct {
	runs, wrong, events, resumes int
	faults                       map[Kind]int
	slowest                      time.Duration
}

func (s *total) add(r Report) {
	if s.faults == nil {
		s.faults = make(map[Kind]int)
	}
	s.runs++
	if len(r.Wrong) > 0 {
		s.wrong++
	}
	s.events += r.Events
	s.resumes += r.Resumes
	s.slowest = max(s.slowest, r.CaughtUp)
	for k, n := range r.Faults {
		s.faults[k] += n
	}
}

func (s *total) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d schedules, %d of them wrong; %d events, %d resumes, all caught up %.1f s after the last heal at most\n", s.runs, s.wrong, s.events, s.resumes, s.slowest.Seconds())
	for _, k := range Kinds {
		fmt.Fprintf(&b, "%6d  %s\n", s.faults[k], k)
	}
	return b.String()
}

// TestPlan holds that a seed says everything, and that chance leaves no fault out.
func TestPlan(t *testing.T) {
	t.Parallel()
	seen := make(map[Kind]int)
	for seed := range uint64(enough) {
		s := Plan(seed, 15)
		if again := Plan(seed, 15); s.String() != again.String() {
			t.Fatalf("Plan(%d) = %s, and then %s", seed, s, again)
		}
		for _, a := range s.Acts {
			seen[a.Kind]++
		}
	}
	for _, k := range Kinds {
		if seen[k] < 100 {
			t.Errorf("200 plans have %q %d times, want 100", k, seen[k])
		}
	}
}
