package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pgmtls-proxy/bench/internal/report"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// machine describes where this runs. What can't be found out is "unknown".
func (b *bench) machine() report.Machine {
	m := report.Machine{
		CPU: colonValue("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Kernel: kernel(), PostgreSQL: "unknown", Libpq: "of the distribution",
	}
	var kib float64
	if _, err := fmt.Sscan(colonValue("/proc/meminfo", "MemTotal"), &kib); err == nil {
		m.MemoryGiB = kib / (1 << 20)
	}
	if install, err := pgtest.Distribution(); err == nil {
		if output, err := exec.Command(filepath.Join(install.BinDir, "postgres"), "--version").Output(); err == nil {
			m.PostgreSQL = lastWordBefore(string(output), "(")
		}
	}
	if b.libpq != "" {
		// libpq.so.5 is a link to libpq.so.5.18 in version 18.
		if name, err := filepath.EvalSymlinks(filepath.Join(b.libpq, "libpq.so.5")); err == nil {
			m.Libpq = strings.TrimPrefix(filepath.Ext(name), ".")
		}
	}
	return m
}

// colonValue reads the first "name : value" of a file in /proc.
func colonValue(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// lastWordBefore reads 15.18 from "postgres (PostgreSQL) 15.18 (Debian 15.18-0)".
func lastWordBefore(text, end string) string {
	if at := strings.LastIndex(text, end); at > 0 && strings.Count(text, end) > 1 {
		text = text[:at]
	}
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return "unknown"
	}
	return fields[len(fields)-1]
}

// pause waits, or gives the reason why the context has ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
