package faults

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

var (
	schedules = flag.Int("schedules", 3, "how many schedules are run")
	from      = flag.Uint64("from", 1, "the seed of the first; the others follow it")
	acts      = flag.Int("acts", 14, "faults of a schedule")
	keep      = flag.String("keep", "", "directory for what the programs of a failed run said")
)

func TestSchedules(t *testing.T) {
	programs, err := Build(Root(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range *schedules {
		seed := *from + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if *keep != "" {
				dir = filepath.Join(*keep, strconv.FormatUint(seed, 10))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			s := Plan(seed, *acts, span)
			t.Log(s)
			report, err := Do(context.Background(), programs, dir, s, Usual, t.Logf)
			if err != nil {
				t.Errorf("the harness: %v", err)
			}
			for i, w := range report.Wrong {
				if i == 20 {
					t.Errorf("and %d more", len(report.Wrong)-i)
					break
				}
				t.Error(w)
			}
			t.Logf("%d events, %d resumes, %d welcomes not complete, caught up %v after the last heal", report.Events, report.Resumes, report.Incomplete, report.CaughtUp)
			if !t.Failed() && *keep != "" {
				os.RemoveAll(dir)
			}
		})
	}
}
