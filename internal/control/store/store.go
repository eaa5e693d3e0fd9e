// Package store keeps the state of the control plane in etcd: bytes under keys, changed in transactions, and watched.
//
// It is either an etcd inside this process, for the one daemon of a small site, or a client of a cluster, for several
// daemons; whoever uses a Store does not see which. It does not know what the bytes mean, and encrypts nothing: what is
// secret comes sealed. It stands below docstore, and nothing else of the control plane keeps state.
//
// What was acknowledged is on disk: on that of this host, or on those of most members of the cluster.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

// Errors of the store. Match them with errors.Is.
var (
	// ErrNotFound: there is nothing under the key.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a condition of a transaction did not hold, and nothing was changed.
	ErrConflict = errors.New("changed by another writer in the meantime")
	// ErrCompacted: the changes since a revision are not kept any more. List again, and watch from there.
	ErrCompacted = errors.New("the changes since that revision are no longer kept")
	// ErrTooLarge: a transaction has more than MaxOperations or MaxBytes, and nothing was changed.
	ErrTooLarge = errors.New("transaction is too large")
	// ErrFull: the store has reached its quota, or its disk is full, and nothing was changed.
	ErrFull = errors.New("the store is full")
	// ErrFailed: the etcd inside this process could not write to its disk and has stopped. What is on disk is whole; start
	// the daemon again once the disk takes writes.
	ErrFailed = errors.New("the store could not write to its disk")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

const (
	defaultPrefix      = "/pgmtls/"
	defaultDialTimeout = 5 * time.Second

	// answerTimeout bounds one request. The servers of etcd give up on theirs after 5 seconds and two elections.
	answerTimeout = 10 * time.Second

	// A connection on which nothing arrives for this long is dead, and the next member is tried.
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

// Options tell where the state is. Either DataDir or Endpoints must be given.
type Options struct {
	// DataDir is the directory of the etcd inside this process, made if there is none. It must be ours, with mode 0700.
	DataDir string

	// Endpoints are the URLs of a cluster's members, as in https://10.0.0.1:2379. DataDir is not used then.
	Endpoints []string
	// TLS is for https endpoints; nil is the system's trust, and no client certificate.
	TLS *tls.Config
	// Username and Password are for a cluster with authentication.
	Username, Password string
	// DialTimeout is how long Open waits for the cluster; 0 is 5 seconds.
	DialTimeout time.Duration

	// Prefix is before every key in etcd; empty is /pgmtls/.
	Prefix string
	// Log gets what etcd warns of.
	Log zerolog.Logger

	quota int64 // bytes of the embedded etcd, for tests; 0: the constant
}

// Store is an open store. Its methods may be called from any goroutine, also while it is being closed. Each request
// ends with its ctx, or with an error after ten seconds.
type Store struct {
	client   *clientv3.Client
	embedded *embedded    // nil: a cluster
	told     atomic.Int64 // the last revision that a Watch has given
	log      zerolog.Logger

	ctx   context.Context // ends with Close, and when the store fails; the cause says which
	close context.CancelCauseFunc

	failed  chan struct{}
	failure error // before failed is closed

	mu       sync.Mutex
	closed   bool
	requests sync.WaitGroup
}

// Open opens the store, and returns once it answers.
func Open(ctx context.Context, options Options) (*Store, error) {
	if options.Prefix == "" {
		options.Prefix = defaultPrefix
	}
	if options.DialTimeout == 0 {
		options.DialTimeout = defaultDialTimeout
	}
	s := &Store{log: options.Log, failed: make(chan struct{})}
	s.ctx, s.close = context.WithCancelCause(context.Background())
	var err error
	switch {
	case len(options.Endpoints) > 0:
		err = s.connect(ctx, options)
	case options.DataDir != "":
		err = s.embed(ctx, options)
	default:
		err = errors.New("neither a data directory nor etcd endpoints are given; set one of the two")
	}
	if err != nil {
		s.close(ErrClosed)
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.client.KV = namespace.NewKV(s.client.KV, options.Prefix)
	if s.embedded != nil {
		s.client.KV = &guard{s.client.KV, s}
		s.client.Watcher = newWatcher(s.embedded.server.Server, s.client)
	}
	s.client.Watcher = namespace.NewWatcher(s.client.Watcher, options.Prefix)
	s.client.Lease = namespace.NewLease(s.client.Lease, options.Prefix)

	ctx, cancel := context.WithTimeout(ctx, options.DialTimeout)
	defer cancel()
	if _, err := s.client.Get(ctx, "opened", clientv3.WithCountOnly()); err != nil {
		_ = s.Close() // the store has never worked: that is the error
		if s.embedded != nil {
			return nil, fmt.Errorf("open store in %s: %w", options.DataDir, explain(err))
		}
		return nil, fmt.Errorf("open store at %v: %w; check that most of its members run, and read their logs", options.Endpoints, explain(err))
	}
	return s, nil
}

func (s *Store) connect(ctx context.Context, options Options) error {
	err := probe(ctx, options)
	if err != nil {
		return err
	}
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints:            options.Endpoints,
		TLS:                  options.TLS,
		Username:             options.Username,
		Password:             options.Password,
		DialTimeout:          options.DialTimeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		Logger:               zapLogger(options.Log),
	})
	if err != nil {
		return fmt.Errorf("log in to etcd at %v: %w", options.Endpoints, explain(err))
	}
	return nil
}

// Close ends every request, Watch and Lead with ErrClosed, waits until what runs in Lead has returned and its leadership
// is given up, and stops the etcd inside this process. What runs in a Watch it does not wait for.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.close(ErrClosed)
	s.requests.Wait()
	err := s.client.Close()
	if errors.Is(err, context.Canceled) {
		err = nil // a client without a connection gives the error of the context that it has just ended
	}
	if s.embedded != nil {
		s.embedded.stop(s.Err() != nil)
	}
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Failed is closed when the etcd inside this process has failed; Err says why. It is never closed by Close. Requests
// end with ErrFailed from then on, and the program should end.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err returns why the store failed, or nil.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

func (s *Store) fail(cause error) {
	s.failure = cause
	close(s.failed)
	s.close(cause)
}

// enter holds up Close until leave is called: the server inside this process must not be stopped while it answers.
func (s *Store) enter() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	s.requests.Add(1)
	return s.requests.Done, nil
}

// begin starts one request: it gives it a deadline, which Close brings forward. end must be called when it has ended.
func (s *Store) begin(ctx context.Context) (bound context.Context, end func(), err error) {
	leave, err := s.enter()
	if err != nil {
		return nil, nil, err
	}
	bound, cancel := context.WithTimeout(ctx, answerTimeout)
	unlink := context.AfterFunc(s.ctx, cancel)
	return bound, func() {
		unlink()
		cancel()
		leave()
	}, nil
}

// wrap adds what was being done to the error of a request.
func (s *Store) wrap(err error, format string, args ...any) error {
	if s.ctx.Err() != nil {
		err = context.Cause(s.ctx)
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), explain(err))
}

// explain turns errors of etcd into those of this package, and says what to do about those that a person has to mend.
func explain(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return ErrCompacted
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w (%w)", ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: it has reached its quota; free space with pgmtls store compact, then pgmtls store disarm (for an external cluster: etcdctl)", ErrFull)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from etcd in time: %w", err)
	}
	return err
}
