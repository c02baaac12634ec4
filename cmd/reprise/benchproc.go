package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// proc is a process that is measured, by its id; 0 is none. What it tells is
// Linux's.
type proc int

// tick is the unit of /proc's CPU times.
const tick = 10 * time.Millisecond

// cpu is the time that the process has run on all CPUs.
func (p proc) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return 0, p.fails(err)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // a name may have spaces
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0, p.fails(fmt.Errorf("stat of %d fields", len(fields)))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, p.fails(fmt.Errorf("no times in stat"))
	}
	return time.Duration(user+system) * tick, nil
}

// resident is the process's resident memory in bytes.
func (p proc) resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
	if err != nil {
		return 0, p.fails(err)
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, p.fails(fmt.Errorf("no VmRSS"))
}

func (p proc) fails(err error) error {
	if os.IsNotExist(err) {
		return fmt.Errorf("pid: there is no process %d here", p)
	}
	return fmt.Errorf("pid %d: %w", p, err)
}

// kernelTCP is the memory that the kernel has for all TCP sockets of the machine,
// in bytes; 0 is unknown.
func kernelTCP() int64 {
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "TCP:" {
			pages, _ := strconv.ParseInt(f[len(f)-1], 10, 64)
			return pages * int64(os.Getpagesize())
		}
	}
	return 0
}
