package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pgmtls-proxy/internal/testkit/etcdtest"
)

// candidate is one daemon that takes part in an election.
type candidate struct {
	store   *Store
	elected chan struct{} // one for each leadership
	cancel  context.CancelFunc
	ended   chan error // what Lead returned
}

func stand(t *testing.T, s *Store, node string, leading *leaders) *candidate {
	ctx, cancel := context.WithCancel(within(t))
	c := &candidate{store: s, elected: make(chan struct{}, 100), cancel: cancel, ended: make(chan error, 1)}
	go func() {
		c.ended <- s.Lead(ctx, Election{Name: "daemon", Node: node}, func(ctx context.Context) error {
			leading.enter(node)
			defer leading.leave(node)
			c.elected <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	return c
}

// leaders keeps who leads.
type leaders struct {
	mu   sync.Mutex
	now  []string
	most int
}

func (l *leaders) enter(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = append(l.now, node)
	l.most = max(l.most, len(l.now))
}

func (l *leaders) leave(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = slices.DeleteFunc(l.now, func(n string) bool { return n == node })
}

func arrives[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatalf("%s did not happen", what)
		panic("unreachable")
	}
}

// leaderOf gives the node that leads an election now, or ErrNotFound.
func leaderOf(ctx context.Context, s *Store, name string) (node string, err error) {
	answer, err := s.client.Get(ctx, Election{Name: name}.prefix()+"/", clientv3.WithFirstCreate()...)
	if err != nil {
		return "", err
	}
	if len(answer.Kvs) == 0 {
		return "", ErrNotFound
	}
	return string(answer.Kvs[0].Value), nil
}

func TestLeadershipMovesWhenAStoreIsClosedAndWhenANodeIsKilled(t *testing.T) {
	nodes := etcdtest.Cluster(t)
	var leading leaders
	one := stand(t, open(t, Options{Endpoints: endpoints(nodes)}), "one", &leading)
	arrives(t, one.elected, "the first election")
	other := stand(t, open(t, Options{Endpoints: endpoints(nodes)}), "other", &leading)
	if node, err := leaderOf(within(t), other.store, "daemon"); err != nil || node != "one" {
		t.Errorf("leader %q, %v", node, err)
	}

	before := time.Now()
	closed(t, one.store)
	wants(t, arrives(t, one.ended, "the end of Lead"), ErrClosed)
	arrives(t, other.elected, "the second election")
	if took := time.Since(before); took > leaseTTL {
		t.Errorf("the next leader came after %v, which is when the lease runs out", took)
	}
	if leading.most != 1 {
		t.Errorf("%d leaders at once", leading.most)
	}

	leader(t, nodes).Kill()
	third := stand(t, open(t, Options{Endpoints: endpoints(nodes), DialTimeout: patience}), "third", &leading)
	other.cancel()
	wants(t, arrives(t, other.ended, "the end of Lead"), context.Canceled)
	arrives(t, third.elected, "the third election")
	if node, err := leaderOf(within(t), third.store, "daemon"); err != nil || node != "third" {
		t.Errorf("leader %q, %v", node, err)
	}
	third.cancel()
	wants(t, arrives(t, third.ended, "the end of Lead"), context.Canceled)
}

// A leader that etcd can't hear must stop, since the others elect another one.
func TestLeaderThatIsCutOffStopsAndStandsAgain(t *testing.T) {
	nodes := etcdtest.Cluster(t)
	wire := forward(t, nodes[0].Client)
	var leading leaders
	one := stand(t, open(t, Options{Endpoints: []string{wire.url()}}), "one", &leading)
	arrives(t, one.elected, "the first election")
	other := stand(t, open(t, Options{Endpoints: endpoints(nodes)}), "other", &leading)

	wire.refuse(true)
	arrives(t, other.elected, "the second election")
	wire.refuse(false)
	other.cancel()
	arrives(t, other.ended, "the end of Lead")
	arrives(t, one.elected, "the third election")
	one.cancel()
	arrives(t, one.ended, "the end of Lead")
}

func TestWorkThatReturnsGivesUpTheLeadershipAndIsRunAgain(t *testing.T) {
	s := open(t, Options{DataDir: directory(t)})
	ctx, cancel := context.WithCancel(within(t))
	runs := 0
	err := s.Lead(ctx, Election{Name: "x", Node: "me"}, func(context.Context) error {
		if runs++; runs == 2 {
			cancel()
		}
		return errors.New("no more work")
	})
	wants(t, err, context.Canceled)
	if runs != 2 {
		t.Errorf("%d runs", runs)
	}
	_, err = leaderOf(within(t), s, "x")
	wants(t, err, ErrNotFound)
}
