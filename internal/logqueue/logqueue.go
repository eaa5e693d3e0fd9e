// Package logqueue puts a bounded queue between a program and the reader of its log, so that nothing in the program waits for
// the reader: not for one that has stopped reading, nor for one that is gone, nor for a disk that is full. Lines that find no
// room or can't be written are dropped and counted.
//
// It stands below the logger of both programs and knows nothing of what a line says.
package logqueue

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// DefaultSize is how much a queue holds by default, in bytes: some 2,000 lines.
	DefaultSize = 1 << 20
	// atomicWrite is what a pipe takes in one piece (PIPE_BUF, pipe(7)), in bytes: lines of two processes that write to one
	// pipe, as in a takeover, don't get mixed. A longer line is written alone.
	atomicWrite = 4096
)

// Options are the settings of a queue. The zero value is ready.
type Options struct {
	Size int // bytes that may wait; 0: DefaultSize. As many again may be under way to the writer
	// OnLoss, if any, is told from the queue's goroutine how many lines were lost since it was told last, once all that waited is
	// written. What it writes to the queue is written like everything else.
	OnLoss func(lines uint64)
}

// Writer is the queue. Each Write is one line or several, with their line ends. Its methods are safe for concurrent use.
type Writer struct {
	to      io.Writer
	options Options
	wake    chan struct{} // something waits, or the queue is closed
	written chan struct{} // closed when the queue is closed and empty

	mu      sync.Mutex
	waiting []byte // whole lines
	spare   []byte // the other buffer, empty
	closed  bool
	dropped uint64
}

// New returns a queue whose goroutine writes to w until Close.
func New(w io.Writer, options Options) *Writer {
	if options.Size == 0 {
		options.Size = DefaultSize
	}
	q := &Writer{to: w, options: options, wake: make(chan struct{}, 1), written: make(chan struct{})}
	go q.run()
	return q
}

// Write queues lines. It neither waits nor fails: lines for which there is no room are dropped, all of one call or none.
func (q *Writer) Write(lines []byte) (int, error) {
	q.mu.Lock()
	if q.closed || len(q.waiting)+len(lines) > q.options.Size {
		q.dropped += count(lines)
	} else {
		q.waiting = append(q.waiting, lines...)
	}
	q.mu.Unlock()
	q.signal()
	return len(lines), nil
}

// Dropped returns how many lines were lost so far.
func (q *Writer) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Close takes no more lines and waits until those that wait are written, for the given time at most. A writer that hangs keeps the
// queue's goroutine; it ends with the process.
func (q *Writer) Close(limit time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-q.written:
	case <-timer.C:
	}
}

// Say writes one line to w, such as a program's last words, and waits for no longer than limit.
func Say(w io.Writer, limit time.Duration, line string) {
	q := New(w, Options{})
	_, _ = io.WriteString(q, line+"\n") // the queue counts what it drops, and gives no error
	q.Close(limit)
}

func (q *Writer) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run writes what waits, until the queue is closed.
func (q *Writer) run() {
	defer close(q.written)
	var told uint64
	for range q.wake {
		ok := true
		for lines := q.next(); len(lines) > 0; lines = q.next() {
			ok = q.write(lines)
			q.recycle(lines)
		}
		if lost := q.Dropped(); ok && lost > told && q.options.OnLoss != nil {
			q.options.OnLoss(lost - told)
			told = lost
		}
		if q.over() {
			return
		}
	}
}

// next returns all that waits.
func (q *Writer) next() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := q.waiting
	if len(lines) > 0 {
		q.waiting, q.spare = q.spare, nil
	}
	return lines
}

// recycle makes a buffer usable again.
func (q *Writer) recycle(lines []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = lines[:0]
}

func (q *Writer) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && len(q.waiting) == 0
}

// write writes whole lines, as many at once as a pipe takes in one piece, and reports whether the last of them was written.
func (q *Writer) write(lines []byte) (ok bool) {
	for len(lines) > 0 {
		piece := lines[:pieceOf(lines)]
		lines = lines[len(piece):]
		n, err := q.to.Write(piece)
		if ok = err == nil; !ok {
			q.mu.Lock()
			q.dropped += count(piece[n:])
			q.mu.Unlock()
		}
	}
	return ok
}

// pieceOf returns the length of the lines that are written at once, at least one.
func pieceOf(lines []byte) int {
	if len(lines) <= atomicWrite {
		return len(lines)
	}
	if end := bytes.LastIndexByte(lines[:atomicWrite], '\n'); end >= 0 {
		return end + 1
	}
	if end := bytes.IndexByte(lines, '\n'); end >= 0 {
		return end + 1
	}
	return len(lines)
}

// count returns the number of lines. What has no line end is one.
func count(lines []byte) uint64 {
	n := uint64(bytes.Count(lines, []byte("\n")))
	if len(lines) > 0 && lines[len(lines)-1] != '\n' {
		n++
	}
	return n
}
