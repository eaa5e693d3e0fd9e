package session

import (
	"context"
	"sync"
)

// serving counts the connections that are not recorded yet, and the goroutines that end them. The zero value counts none.
type serving struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0; nil while nobody waits
}

func (s *serving) add() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
}

func (s *serving) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
	if s.n == 0 && s.none != nil {
		close(s.none)
		s.none = nil
	}
}

// wait returns nil when the count is 0, or the cause of ctx if that ends first.
func (s *serving) wait(ctx context.Context) error {
	s.mu.Lock()
	if s.n == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.none == nil {
		s.none = make(chan struct{})
	}
	none := s.none
	s.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
