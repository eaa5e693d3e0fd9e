package logqueue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// reader is the other end of a log.
type reader struct {
	mu     sync.Mutex
	frozen chan struct{} // Write waits for its end; nil: it reads
	err    error         // of each Write
	pieces []string
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	frozen, err := r.frozen, r.err
	r.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pieces = append(r.pieces, string(p))
	return len(p), nil
}

func (r *reader) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.pieces, "")
}

func TestLinesArriveInOrder(t *testing.T) {
	r := &reader{}
	q := New(r, Options{})
	var want strings.Builder
	for i := range 5000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		if n, err := io.WriteString(q, line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	q.Close(10 * time.Second)
	if r.text() != want.String() || q.Dropped() != 0 {
		t.Errorf("%d bytes of %d arrived, %d lines dropped", len(r.text()), want.Len(), q.Dropped())
	}
}

// A pipe takes PIPE_BUF bytes in one piece: what another process writes to it stands between two lines, not in one.
func TestPiecesAreWholeLinesThatAPipeTakesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{frozen: make(chan struct{})}
		q := New(r, Options{})
		io.WriteString(q, "first\n")
		synctest.Wait()
		var want strings.Builder
		for i := range 500 {
			line := strings.Repeat("x", i%300) + "\n"
			if i == 250 {
				line = strings.Repeat("y", 3*atomicWrite) + "\n"
			}
			want.WriteString(line)
			io.WriteString(q, line)
		}
		close(r.frozen)
		q.Close(time.Second)
		for _, piece := range r.pieces {
			if !strings.HasSuffix(piece, "\n") || len(piece) > atomicWrite && strings.Count(piece, "\n") > 1 {
				t.Errorf("a piece of %d bytes with %d lines", len(piece), strings.Count(piece, "\n"))
			}
		}
		if r.text() != "first\n"+want.String() {
			t.Error("the text has changed")
		}
	})
}

func TestReaderThatHasStoppedKeepsNobodyAndTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{frozen: make(chan struct{})}
		var losses []uint64
		q := New(r, Options{Size: 100, OnLoss: func(lines uint64) { losses = append(losses, lines) }})
		began := time.Now()
		io.WriteString(q, "123456789\n")
		synctest.Wait() // it is under way
		for range 100 {
			io.WriteString(q, "123456789\n")
		}
		if time.Since(began) != 0 || q.Dropped() != 90 {
			t.Errorf("a line took %s, and %d were dropped", time.Since(began), q.Dropped())
		}
		if len(q.waiting) != 100 {
			t.Errorf("%d bytes wait", len(q.waiting))
		}
		close(r.frozen)
		synctest.Wait()
		if strings.Count(r.text(), "\n") != 11 || len(losses) != 1 || losses[0] != 90 {
			t.Errorf("%d lines arrived; told of the losses %v", strings.Count(r.text(), "\n"), losses)
		}
		q.Close(time.Second)
	})
}

func TestLinesThatCanNotBeWrittenAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{err: syscall.ENOSPC}
		var q *Writer
		q = New(r, Options{OnLoss: func(lines uint64) { fmt.Fprintf(q, "%d lines were lost\n", lines) }})
		for range 3 {
			io.WriteString(q, "a\nb\n")
			synctest.Wait()
		}
		if q.Dropped() != 6 || r.text() != "" {
			t.Errorf("%d lines dropped; %q arrived", q.Dropped(), r.text())
		}
		r.set(nil) // there is room on the disk
		io.WriteString(q, "c\n")
		synctest.Wait()
		q.Close(time.Second)
		if want := "c\n6 lines were lost\n"; r.text() != want || q.Dropped() != 6 {
			t.Errorf("%q arrived, want %q; %d dropped", r.text(), want, q.Dropped())
		}
	})
}

func TestCloseWaitsForTheLastLinesAndNotForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{frozen: make(chan struct{})}
		q := New(r, Options{})
		io.WriteString(q, "a\n")
		time.AfterFunc(300*time.Millisecond, func() { close(r.frozen) })
		began := time.Now()
		q.Close(time.Second)
		if took := time.Since(began); took != 300*time.Millisecond || r.text() != "a\n" {
			t.Errorf("Close took %s; %q arrived", took, r.text())
		}
		io.WriteString(q, "late\n")
		if q.Dropped() != 1 {
			t.Error("a line behind Close is not counted")
		}

		r = &reader{frozen: make(chan struct{})}
		began = time.Now()
		Say(r, time.Second, "last words")
		if took := time.Since(began); took != time.Second {
			t.Errorf("waited %s for a reader that has stopped", took)
		}
		close(r.frozen)
	})
}

// The two buffers are made once. A line after a pause costs no new one.
func TestBuffersAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(io.Discard, Options{})
		line := append(bytes.Repeat([]byte("x"), 999), '\n')
		lines := func() {
			for range 100 {
				q.Write(line)
			}
			synctest.Wait()
		}
		for range 10 {
			lines()
		}
		q.mu.Lock()
		before := cap(q.waiting) + cap(q.spare)
		q.mu.Unlock()
		if n := testing.AllocsPerRun(10, lines); n > 1 || before < len(line) {
			t.Errorf("100 lines after a pause allocate %v times; the buffers have %d bytes", n, before)
		}
		q.Close(time.Second)
	})
}

// With real descriptors: nobody reads the pipe, the reader is gone, the disk is full.
func TestWritingNeverWaitsForARealReader(t *testing.T) {
	frozen, stuck, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	gone, broken, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no /dev/full here")
	}
	if err != nil {
		t.Fatal(err)
	}
	line := append(bytes.Repeat([]byte("x"), 999), '\n')
	for name, file := range map[string]*os.File{"frozen": stuck, "gone": broken, "full": full} {
		q := New(file, Options{Size: 100_000})
		for range 1000 {
			q.Write(line)
		}
		deadline := time.Now().Add(10 * time.Second)
		for q.Dropped() == 0 && time.Now().Before(deadline) {
			q.Write(line)
		}
		if q.Dropped() == 0 {
			t.Errorf("%s: nothing was dropped", name)
		}
		q.Close(time.Millisecond)
	}
	frozen.Close()
	stuck.Close()
	broken.Close()
	full.Close()
}

func BenchmarkLine(b *testing.B) {
	q := New(io.Discard, Options{})
	line := append(bytes.Repeat([]byte("x"), 400), '\n')
	b.ReportAllocs()
	for b.Loop() {
		q.Write(line)
	}
	q.Close(time.Second)
}
