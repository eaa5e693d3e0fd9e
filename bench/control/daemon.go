package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"pgmtls-proxy/bench/internal/proc"
)

func (b *bench) dataDir() string  { return filepath.Join(b.dir, "data") }
func (b *bench) policies() string { return filepath.Join(b.dataDir(), "policies") } // where the daemon may write them
func (b *bench) sockets() string  { return filepath.Join(b.dir, "admin") }

// policyDir and socket are those of one proxy.
func (b *bench) policyDir(name string) string { return filepath.Join(b.policies(), name) }
func (b *bench) socket(name string) string    { return filepath.Join(b.sockets(), name) }

// start starts a program of this repository, with a log of its own.
func (b *bench) start(program, log string, args ...string) (*proc.Process, error) {
	path, err := filepath.Abs(filepath.Join(b.built, program))
	if err != nil {
		return nil, err
	}
	return proc.Start(proc.Program{Path: path, Args: args, Dir: b.dir, Log: filepath.Join(b.dir, "log", log)})
}

// startDaemon starts the daemon, without any settings, and gives the time until it answers.
func (b *bench) startDaemon(ctx context.Context) (took time.Duration, err error) {
	settings := filepath.Join(b.dataDir(), "client.yaml")
	if err := os.Remove(settings); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	began := time.Now()
	b.log++
	if b.daemon, err = b.start("pgmtls", fmt.Sprintf("daemon%d", b.log), "serve", "--data-dir", b.dataDir(), "--listen", "127.0.0.1:0"); err != nil {
		return 0, err
	}
	err = until(ctx, time.Millisecond, "the daemon has its API", func(context.Context) (bool, error) {
		select {
		case <-b.daemon.Exited():
			return false, fmt.Errorf("the daemon has ended: %s", b.daemon.LogTail())
		default:
		}
		_, err := os.Stat(settings)
		return err == nil, nil
	})
	if err != nil {
		return 0, err
	}
	// The socket is bound before the settings are written, so the first request waits until it is answered.
	if b.clients, err = newClients(ctx, settings, b.clients); err != nil {
		return 0, fmt.Errorf("the daemon does not answer: %w; its log ends with: %s", err, b.daemon.LogTail())
	}
	return time.Since(began), nil
}

func (b *bench) stopDaemon() error {
	daemon := b.daemon
	b.daemon = nil
	return daemon.Stop()
}

// usage is what processes have used, and what they have.
type usage struct {
	cpu            time.Duration
	resident, peak int64 // bytes, now and at most so far
}

func usageOf(processes ...*proc.Process) (sum usage, err error) {
	for _, p := range processes {
		used, err := p.Usage()
		if err != nil {
			return usage{}, err
		}
		sum.cpu += used.CPU
		for field, to := range map[string]*int64{"VmRSS": &sum.resident, "VmHWM": &sum.peak} {
			var kib int64
			if _, err := fmt.Sscan(colonValue(fmt.Sprintf("/proc/%d/status", p.PID()), field), &kib); err != nil {
				return usage{}, fmt.Errorf("read %s of process %d: %w", field, p.PID(), err)
			}
			*to += kib << 10
		}
	}
	return sum, nil
}

// storeSize is what the store takes on the disk: all of it, and the file of its database alone.
func (b *bench) storeSize() (all, database int64, err error) {
	err = filepath.WalkDir(filepath.Join(b.dataDir(), "etcd"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return ignoreMissing(err)
		}
		info, err := entry.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		all += info.Size()
		if entry.Name() == "db" {
			database += info.Size()
		}
		return nil
	})
	return all, database, err
}

// ignoreMissing is for files of etcd, which come and go.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
