package load

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Crowd is many sessions that do nothing.
type Crowd struct {
	mu    sync.Mutex
	conns []*Conn
}

// Grow opens sessions until there are as many, a few at a time.
func (c *Crowd) Grow(ctx context.Context, t Target, size int) error {
	const atOnce = 8
	var work sync.WaitGroup
	errs := make(chan error, atOnce)
	missing := max(0, size-len(c.conns))
	for i := range atOnce {
		share := missing / atOnce
		if i < missing%atOnce {
			share++
		}
		work.Go(func() { errs <- c.add(ctx, t, share) })
	}
	work.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Crowd) add(ctx context.Context, t Target, n int) error {
	for range n {
		conn, err := t.Open(ctx)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
	}
	return nil
}

// AwaitEnd returns when the proxy has ended every session. What it tells them is read and dropped.
func (c *Crowd) AwaitEnd(deadline time.Time) error {
	var ends errgroup.Group
	for _, conn := range c.conns {
		ends.Go(func() error {
			if err := conn.SetReadDeadline(deadline); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			return nil // however it ended
		})
	}
	return ends.Wait()
}

// Leave ends all sessions.
func (c *Crowd) Leave() {
	for _, conn := range slices.Backward(c.conns) {
		// The proxy may have ended it first, which is not what is measured here.
		_ = conn.Goodbye()
	}
	c.conns = nil
}
