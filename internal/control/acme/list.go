package acme

import (
	"context"
	"iter"
	"time"
)

// Certificates lists all certificates that are wanted, and those that are kept for a while because nobody wants them any
// more, by their ids.
func (m *Manager) Certificates(ctx context.Context) ([]Certificate, error) {
	items, _, err := m.docs.List(ctx, keyCertificates)
	if err != nil {
		return nil, err
	}
	list := make([]Certificate, 0, len(items))
	for _, item := range items {
		cert, err := decodeCertificate(item)
		if err != nil {
			return nil, err
		}
		list = append(list, *cert)
	}
	return list, nil
}

// Changes returns every certificate as it is now, and from then on each that changes, until ctx ends. An error is the last
// that it gives.
func (m *Manager) Changes(ctx context.Context) iter.Seq2[Certificate, error] {
	return func(yield func(Certificate, error) bool) {
		items, revision, err := m.docs.List(ctx, keyCertificates)
		if err != nil {
			yield(Certificate{}, err)
			return
		}
		for _, item := range items {
			if cert, err := decodeCertificate(item); err != nil || !yield(*cert, nil) {
				if err != nil {
					yield(Certificate{}, err)
				}
				return
			}
		}
		for events, err := range m.docs.Watch(ctx, keyCertificates, revision) {
			if err != nil {
				yield(Certificate{}, err)
				return
			}
			for _, event := range events {
				if event.Deleted {
					continue
				}
				if cert, err := decodeCertificate(event.Item); err != nil || !yield(*cert, nil) {
					if err != nil {
						yield(Certificate{}, err)
					}
					return
				}
			}
		}
	}
}

// Waiting describes the certificates that wait for an order.
type Waiting struct {
	Count int       // that are due and have no order yet
	Since time.Time // since when the one that waits longest does; zero: none waits
}

// Waits reports whether the certificate is due and has no order yet, and since when.
func (c *Certificate) Waits(now time.Time) (since time.Time, waits bool) {
	switch c.Reason {
	case Ordered, Validating, Issuing:
		return time.Time{}, false
	}
	due := c.dueAt()
	if due.IsZero() || due.After(now) {
		return time.Time{}, false
	}
	return later(c.Since, due), true
}

// CountWaiting returns how many certificates of a list wait.
func CountWaiting(list []Certificate, now time.Time) (w Waiting) {
	for i := range list {
		since, waits := list[i].Waits(now)
		if !waits {
			continue
		}
		w.Count++
		if w.Since.IsZero() || since.Before(w.Since) {
			w.Since = since
		}
	}
	return w
}
