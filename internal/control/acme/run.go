package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/store"
)

const (
	// workers bounds the certificates that are worked on at once. Authorities allow a few orders a minute, so more would
	// only wait.
	workers = 8
	// lookAtMost bounds the time between two looks at the queue, so that a clock that was set is noticed.
	lookAtMost = time.Minute
	// retryAfterTrouble is how long a certificate waits after an error of the store.
	retryAfterTrouble = 5 * time.Second
)

// result is what a worker gives back.
type result struct {
	job      *job
	cert     *Certificate // nil: it is gone
	ordering bool
	again    time.Time
}

// Run does whatever is due for certificates until ctx ends: it is the work of the leader ([store.Store.Lead]). It
// returns once its workers have, with the error of ctx, or one of the store.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, a := range m.authorities {
		a.budget.forget()
		if err := a.budget.load(ctx); err != nil {
			return err
		}
	}
	q := newQueue(m)
	revision, err := m.fill(ctx, q)
	if err != nil {
		return err
	}
	changes := make(chan store.Event)
	watched := make(chan error, 1)
	go func() {
		defer close(watched)
		watched <- m.watch(ctx, revision, changes)
	}()
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for range running {
			<-results
		}
		for range watched { // until the goroutine has ended
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var sooner time.Time
		for running < workers {
			var j *job
			if j, sooner = q.next(m.now()); j == nil {
				break
			}
			running++
			j.running, j.changed = true, 0
			go func() { results <- m.work(ctx, j) }()
		}
		wait := lookAtMost
		if !sooner.IsZero() {
			wait = min(max(sooner.Sub(m.now()), time.Millisecond), lookAtMost)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-watched:
			return err
		case event := <-changes:
			m.learn(q, event)
		case r := <-results:
			running--
			m.finish(q, r)
		case <-timer.C:
		}
	}
}

// fill reads all certificates, and which of them have orders. Nothing is due because of the start.
func (m *Manager) fill(ctx context.Context, q *queue) (revision int64, err error) {
	orders, _, err := m.docs.List(ctx, keyOrders)
	if err != nil {
		return 0, err
	}
	ordering := map[string]bool{}
	for _, item := range orders {
		ordering[item.Key[len(keyOrders):]] = true
	}
	items, revision, err := m.docs.List(ctx, keyCertificates)
	if err != nil {
		return 0, err
	}
	now := m.now()
	for _, item := range items {
		cert, err := decodeCertificate(item)
		if err != nil {
			m.log.Error().Err(err).Msg("a public certificate can't be read and is left alone")
			continue
		}
		j := &job{id: cert.ID, cert: cert, ordering: ordering[cert.ID], place: -1}
		q.jobs[cert.ID] = j
		q.set(j, m.check(j, now))
	}
	return revision, nil
}

// check is when a job needs a worker, by what is known of it.
func (m *Manager) check(j *job, now time.Time) time.Time {
	switch {
	case j.ordering:
		return now
	case !j.cert.RemovedAt.IsZero() && j.cert.Purge, j.cert.RemovedAt.IsZero() && j.cert.RevokeNow:
		return now
	case !j.cert.RemovedAt.IsZero():
		return j.cert.RemovedAt.Add(keptAfter)
	}
	due := j.cert.dueAt()
	if j.cert.Leaf != nil {
		if j.askAt.IsZero() || !j.askAt.After(now) {
			j.askAt = j.cert.Leaf.nextAsk(j.id, now)
		}
		if j.askAt.Before(due) {
			return j.askAt
		}
	}
	return due
}

// watch passes changes of certificates on.
func (m *Manager) watch(ctx context.Context, revision int64, changes chan<- store.Event) error {
	for events, err := range m.docs.Watch(ctx, keyCertificates, revision) {
		if err != nil {
			return fmt.Errorf("follow the public certificates: %w", err)
		}
		for _, event := range events {
			select {
			case changes <- event:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return ctx.Err()
}

// learn takes a change in, unless it is one of our own.
func (m *Manager) learn(q *queue, event store.Event) {
	id := event.Key[len(keyCertificates):]
	j := q.jobs[id]
	if event.Deleted {
		if j != nil && !j.running {
			q.forget(j)
		}
		return
	}
	if j != nil && j.cert.revision >= event.Revision {
		return
	}
	cert, err := decodeCertificate(event.Item)
	if err != nil {
		m.log.Error().Err(err).Msg("a public certificate can't be read and is left alone")
		return
	}
	if j == nil {
		j = &job{id: id, place: -1}
		q.jobs[id] = j
	}
	if j.running {
		j.changed = event.Revision
		return
	}
	j.cert = cert
	q.set(j, m.check(j, m.now()))
}

// finish takes in what a worker found.
func (m *Manager) finish(q *queue, r result) {
	j := r.job
	j.running, j.warn = false, false
	if r.cert == nil {
		q.forget(j)
		return
	}
	j.cert, j.ordering = r.cert, r.ordering
	if j.changed > r.cert.revision {
		q.set(j, m.now()) // somebody changed it after the worker had read it last
		return
	}
	q.set(j, r.again)
}

// work does steps for a certificate until it has to wait.
func (m *Manager) work(ctx context.Context, j *job) result {
	r := result{job: j, cert: j.cert, ordering: j.ordering}
	for {
		cert, o, err := m.read(ctx, j.id)
		if err == nil && cert == nil {
			r.cert = nil
			return r
		}
		var next outcome
		if err == nil {
			r.cert, r.ordering = cert, o != nil
			next, err = m.advance(ctx, j, cert, o)
		}
		switch {
		case ctx.Err() != nil:
			return r
		case errors.Is(err, store.ErrConflict):
			if err := m.reload(ctx); err == nil {
				continue // somebody changed it meanwhile
			}
			r.again = m.now().Add(retryAfterTrouble)
			return r
		case err != nil:
			m.log.Error().Err(err).Str("certificate", j.id).Msg("issuing or renewing a public certificate failed; trying again")
			r.again = m.now().Add(retryAfterTrouble)
			return r
		case !next.more:
			r.again = next.again
			return r
		}
	}
}

// reload reads the budgets again that others have changed.
func (m *Manager) reload(ctx context.Context) error {
	for _, a := range m.authorities {
		if err := a.budget.load(ctx); err != nil {
			return err
		}
	}
	return nil
}

// read returns a certificate and its order as they are. Without a certificate its order is left alone.
func (m *Manager) read(ctx context.Context, id string) (*Certificate, *order, error) {
	cert, err := m.certificate(ctx, id)
	if err != nil || cert == nil {
		return nil, nil, err
	}
	o, err := m.order(ctx, id)
	return cert, o, err
}
