// Package syncbuf collects what another goroutine or process writes, for tests that read it meanwhile.
package syncbuf

import (
	"bytes"
	"sync"
)

// Buffer is a [bytes.Buffer] whose methods may be called concurrently. The zero value is empty and ready to use.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends p. It never returns an error.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns everything that has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
