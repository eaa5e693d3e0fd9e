package store

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Run with: go test -run xxx -bench . ./internal/store
// A commit is on disk when it returns, so the disk below the temporary directory (TMPDIR) is what is measured.

func BenchmarkCommit(b *testing.B) {
	s := fresh(b)
	ctx := b.Context()
	value := make([]byte, 4096)
	for n := 0; b.Loop(); n++ {
		if _, err := s.Commit(ctx, new(Tx).Put("database", value).Put(fmt.Sprintf("audit/%020d", n), value[:500])); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(resident(b), "MB-resident")
}

func BenchmarkCommitOfMany(b *testing.B) {
	s := fresh(b)
	ctx := b.Context()
	value := make([]byte, 4096)
	b.SetParallelism(16)
	b.RunParallel(func(each *testing.PB) {
		for each.Next() {
			if _, err := s.Commit(ctx, new(Tx).Put("database", value)); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	s := fresh(b)
	ctx := b.Context()
	put(b, s, "database", strings.Repeat("x", 4096))
	for b.Loop() {
		if _, err := s.Get(ctx, "database"); err != nil {
			b.Fatal(err)
		}
	}
}

// A read must not wait for the disk that commits of others keep busy.
func BenchmarkGetBesideCommits(b *testing.B) {
	s := fresh(b)
	put(b, s, "database", strings.Repeat("x", 4096))
	ctx, cancel := context.WithCancel(b.Context())
	var committing sync.WaitGroup
	defer committing.Wait()
	defer cancel()
	for range 4 {
		committing.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Commit(ctx, new(Tx).Put("other", make([]byte, 4096))); err != nil && ctx.Err() == nil {
					b.Error(err)
					return
				}
			}
		})
	}
	for b.Loop() {
		if _, err := s.Get(ctx, "database"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := directory(b)
	fill(b, dir)
	for b.Loop() {
		s, err := Open(b.Context(), Options{DataDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		closed(b, s)
		b.StartTimer()
	}
}

func BenchmarkLastPageOfManyRecords(b *testing.B) {
	dir := directory(b)
	fill(b, dir)
	s := open(b, Options{DataDir: dir})
	for b.Loop() {
		items, err := s.ListRange(b.Context(), Range{Prefix: "audit/", Limit: 100, Descending: true})
		if err != nil || len(items) != 100 {
			b.Fatal(len(items), err)
		}
	}
	b.ReportMetric(resident(b), "MB-resident")
}

// fill makes a store of 100,000 records of 500 bytes.
func fill(b *testing.B, dir string) {
	b.Helper()
	s := open(b, Options{DataDir: dir})
	value := make([]byte, 500)
	for n := 0; n < 100_000; {
		tx := new(Tx)
		for range 100 {
			tx.Put(fmt.Sprintf("audit/%020d", n), value)
			n++
		}
		commit(b, s, tx)
	}
	closed(b, s)
}

// resident is what this process has in memory, in MB.
func resident(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, "VmRSS:"); is {
			kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kilobytes) / 1000
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
