package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
)

// leaseTTL is how long a leader that is not heard of stays the leader.
const leaseTTL = 5 * time.Second

// Election is one candidate of one election.
type Election struct {
	Name string // of the election; the candidates of one name elect one leader
	Node string // of this candidate, for people to read
}

func (e Election) prefix() string { return keyElections + e.Name }

const keyElections = "elections/" // <name>: the candidates, the oldest of whom leads

// Lead takes part in an election for as long as ctx goes on, and runs work whenever this candidate is the leader. The
// ctx of work ends with the leadership; work should return then, and not before: when it does, the leadership is given
// up, its error is logged, and the next campaign starts after a pause. Lead returns the error of ctx, once work has
// returned, or ErrClosed.
//
// The leadership is a lease of five seconds. A leader whose process stands still may take itself for the leader for a
// moment longer than the others do, so what work writes must be safe by the conditions of its transactions.
func (s *Store) Lead(ctx context.Context, e Election, work func(context.Context) error) error {
	leave, err := s.enter()
	if err != nil {
		return s.wrap(err, "lead %s", e.Name)
	}
	defer leave()
	for {
		err := s.term(ctx, e, work)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.ctx.Err() != nil:
			return s.wrap(ErrClosed, "lead %s", e.Name)
		case err != nil:
			s.log.Warn().Err(err).Str("election", e.Name).Str("node", e.Node).Msg("not the leader; standing for election again")
		}
		wait(ctx, s.ctx)
	}
}

// term is one campaign, and one leadership if it is won.
func (s *Store) term(ctx context.Context, e Election, work func(context.Context) error) error {
	session, err := s.session(ctx)
	if err != nil {
		return fmt.Errorf("get a lease for election %s: %w", e.Name, explain(err))
	}
	// Whoever leaves says so, and the next one need not wait for the lease to run out.
	// Where it can't be said, the lease does run out.
	defer func() { _ = session.Close() }()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(session.Ctx(), cancel)()
	defer context.AfterFunc(s.ctx, cancel)()

	if err := concurrency.NewElection(session, e.prefix()).Campaign(ctx, e.Node); err != nil {
		return fmt.Errorf("campaign in election %s: %w", e.Name, explain(err))
	}
	err = work(ctx)
	if session.Ctx().Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return errors.New("lease lost: etcd did not answer in time")
	}
	return err
}

// session gets a lease that is kept alive until it is closed. It outlives ctx, so that it can be given back.
func (s *Store) session(ctx context.Context) (*concurrency.Session, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	seconds := int(leaseTTL / time.Second)
	lease, err := s.client.Grant(ctx, int64(seconds))
	if err != nil {
		return nil, err
	}
	return concurrency.NewSession(s.client, concurrency.WithLease(lease.ID), concurrency.WithTTL(seconds))
}
