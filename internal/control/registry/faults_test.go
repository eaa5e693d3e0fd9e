package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// failing is a context that ends when it has been asked a number of times whether it has: so a call of the store fails, one
// further on each time that the number grows.
type failing struct {
	context.Context
	mu   sync.Mutex
	left int
	done chan struct{}
}

func failAfter(ctx context.Context, asks int) *failing {
	return &failing{Context: ctx, left: asks, done: make(chan struct{})}
}

func (f *failing) Done() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left == 0 {
		close(f.done)
	}
	return f.done
}

func (f *failing) Err() error {
	select {
	case <-f.done:
		return context.Canceled
	default:
		return f.Context.Err()
	}
}

// throughFaults calls something again and again, failing a little later each time, until it is done.
func (w *world) throughFaults(what string, do func(ctx context.Context, n int) error) {
	w.t.Helper()
	var looked int64
	for n := 1; n < 5000; n++ {
		err := do(failAfter(w.ctx, n), n)
		if refusal, ok := errors.AsType[*problem.Error](err); err == nil || ok && refusal.ID != problem.Unavailable {
			return // done, or done by a try before whose answer was lost
		}
		now, revisionErr := w.docs.Revision(w.ctx)
		if w.done(now, revisionErr); now == looked {
			continue // nothing was changed
		}
		looked = now
		w.whole()
		if w.t.Failed() {
			w.t.Fatalf("%s, which failed at its step %d with %v", what, n, err)
		}
	}
	w.t.Fatalf("%s never succeeds", what)
}

// whole wants every document to be one that policies are made of: all that it names is there. A transaction whose answer
// was lost may still be done while this looks; then it looks again.
func (w *world) whole() {
	w.t.Helper()
	for {
		databases, err := w.Databases(w.ctx)
		w.done(databases, err)
		var problems []string
		for _, db := range databases {
			problems = append(problems, w.broken(db)...)
		}
		again, err := w.Databases(w.ctx)
		w.done(again, err)
		if !slices.EqualFunc(databases, again, func(a, b Database) bool { return a.ID == b.ID && a.revision == b.revision }) {
			continue
		}
		for _, problem := range problems {
			w.t.Error(problem)
		}
		return
	}
}

// broken says what a database names that is not there.
func (w *world) broken(db Database) (problems []string) {
	if id, err := w.databaseID(w.ctx, db.Name); err != nil || id != db.ID {
		problems = append(problems, fmt.Sprintf("the name of %s leads to %s, %v", db.Name, id, err))
	}
	if db.Generation > 0 {
		if policy, err := w.Policy(w.ctx, db.ID); err != nil || policy.Generation != db.Generation {
			problems = append(problems, fmt.Sprintf("policy of %s: generation %d, %v", db.Name, policy.Generation, err))
		}
	}
	for _, cert := range db.Certificates {
		if _, err := w.CertificateFiles(w.ctx, db.ID, cert.ID); (err == nil) != (cert.Status != Disabled) {
			problems = append(problems, fmt.Sprintf("certificate %s of %s is %s: %v", cert.ID, db.Name, cert.Status, err))
		}
	}
	for _, p := range db.Proxies {
		if p.Local() {
			if _, err := w.docs.Get(w.ctx, dirKey(p)); err != nil {
				problems = append(problems, fmt.Sprintf("directory of proxy %s of %s: %v", p.Name, db.Name, err))
			}
		}
	}
	return problems
}

// A daemon can lose its store at any moment. Whatever it was about to change is then changed as a whole or not at all, and
// trying again brings it to its end.
func TestWhatFailsAtAnyMomentIsDoneWholeOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // with the race detector on a busy machine it takes minutes
	defer cancel()
	w.ctx = ctx
	w.throughFaults("register a database", func(ctx context.Context, n int) error {
		_, err := w.CreateDatabase(ctx, admin, NewDatabase{Name: fmt.Sprintf("orders-%d", n), Space: "acme", Hosts: []string{"a.example.com"},
			Proxies: []NewProxy{beside("edge", "here", fmt.Sprintf("/policies/%d", n))}})
		return err
	})
	db := w.database("orders")
	id := db.ID
	change := func(what string, f func(ctx context.Context, n int) error) { w.throughFaults(what, f) }
	change("add a proxy", func(ctx context.Context, _ int) error {
		_, err := w.AddProxy(ctx, admin, "orders", beside("second", "here", "/policies/second"))
		return err
	})
	change("create mutual TLS", func(ctx context.Context, _ int) error { _, err := w.EnableMTLS(ctx, admin, id); return err })
	change("claim directories", func(ctx context.Context, _ int) error { return w.ClaimDirs(ctx) })
	acknowledge := func() {
		seen := map[string]api.Usage{}
		for _, cert := range w.is("orders").Certificates {
			seen[cert.Serial] = api.Usage{Sessions: 1, LastSeen: w.at}
		}
		change("take a report", func(ctx context.Context, _ int) error {
			now := w.is("orders").Generation
			return errors.Join(
				w.Acknowledge(ctx, id, "edge", api.Report{Applied: now, InForce: now, Certificates: seen}),
				w.Acknowledge(ctx, id, "second", api.Report{Applied: now, InForce: now, Drift: "edited", Error: "torn"}))
		})
	}
	acknowledge()
	change("issue certificates", func(ctx context.Context, n int) error {
		_, err := w.CreateCertificate(ctx, admin, "orders", NewCertificate{Name: "app"})
		if n%10 == 0 { // those whose answers were lost are there, and a list is full at 50
			for _, cert := range w.is("orders").Certificates[1:] {
				w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0))
			}
		}
		return err
	})
	acknowledge()
	rule := w.rule("orders", "192.0.2.0/24")
	change("create a rule", func(ctx context.Context, n int) error {
		_, err := w.CreateRule(ctx, admin, "orders", NewRule{CIDR: "10.0.0.0/24", ExpiresAt: w.at.Add(time.Hour)})
		return err
	})
	change("look at a rule's end", func(ctx context.Context, _ int) error { _, err := w.WithoutRule(ctx, "orders", rule.ID); return err })
	change("delete a rule", func(ctx context.Context, _ int) error {
		_, err := w.DeleteRule(ctx, admin, "orders", rule.ID)
		return err
	})
	cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "own", Request: request(t)})
	w.done(cert, err)
	for _, after := range []time.Duration{time.Hour, 0} {
		change("revoke a certificate", func(ctx context.Context, _ int) error {
			_, err := w.DeleteCertificate(ctx, admin, "orders", cert.ID, after)
			return err
		})
		if after > 0 {
			change("keep a certificate", func(ctx context.Context, _ int) error {
				_, err := w.KeepCertificate(ctx, admin, "orders", cert.ID)
				return err
			})
		}
	}
	acknowledge()
	change("download", func(ctx context.Context, _ int) error {
		_, err := w.CertificateFiles(ctx, "orders", w.is("orders").Certificates[0].ID)
		return err
	})
	change("show authorities", func(ctx context.Context, _ int) error {
		list, err := w.Authorities(ctx, "acme")
		if err == nil {
			_, err = w.CAUsers(ctx, "acme", list[0].ID, Observation{})
		}
		if err == nil {
			_, err = w.Chain(ctx, "acme")
		}
		return err
	})
	change("sign the space's list", func(ctx context.Context, _ int) error {
		list, err := w.RevocationList(ctx, "acme", "")
		if err == nil && list.Revoked == 0 {
			t.Error("the list has no entries")
		}
		return err
	})
	old := w.authorities()[0]
	change("count the revoked", func(ctx context.Context, _ int) error { _, err := w.CountRevoked(ctx, old); return err })
	change("rotate", func(ctx context.Context, n int) error {
		if len(w.authorities()) > 3 {
			return nil // the answers of some were lost
		}
		_, err := w.RotateCA(ctx, admin, "acme")
		return err
	})
	change("do what is due", func(ctx context.Context, _ int) error { _, err := w.Reconcile(ctx); return err })
	acknowledge()
	change("retire", func(ctx context.Context, _ int) error {
		_, err := w.RetireCA(ctx, admin, "acme", old.ID, false)
		return err
	})
	change("retire by force", func(ctx context.Context, _ int) error {
		_, err := w.RetireCA(ctx, admin, "acme", old.ID, true)
		return err
	})
	acknowledge()
	// What was done is in the trail, whether its answer arrived or not.
	trail := w.actions()
	for _, action := range []string{"database.create", "proxy.create", "mtls.create", "certificate.create", "ip_rule.create", "ip_rule.delete",
		"certificate.schedule", "certificate.keep", "certificate.delete", "ca.rotate", "ca.retire", "certificate.renew", "server_certificate.issue"} {
		if !slices.Contains(trail, action) {
			t.Errorf("no record of %s", action)
		}
	}
	// A year later everything is due: successors, server certificates, lists, rules; and old records go.
	for range 6 {
		w.at = w.at.AddDate(0, 3, 0)
		change("do what is due after months", func(ctx context.Context, _ int) error { _, err := w.Reconcile(ctx); return err })
		acknowledge()
	}
	change("seal anew", func(ctx context.Context, _ int) error { _, err := w.Reseal(ctx); return err })
	change("list", func(ctx context.Context, _ int) error {
		_, err := w.Databases(ctx)
		if err == nil {
			_, err = w.Spaces(ctx)
		}
		return err
	})
	change("destroy mutual TLS", func(ctx context.Context, _ int) error { _, err := w.DisableMTLS(ctx, admin, "orders"); return err })
	acknowledge()
	change("remove a proxy", func(ctx context.Context, _ int) error {
		_, err := w.RemoveProxy(ctx, admin, "orders", "second")
		return err
	})
	change("delete the database", func(ctx context.Context, _ int) error { return w.DeleteDatabase(ctx, admin, "orders") })
	if _, err := w.Database(w.ctx, "orders"); !problem.Is(err, problem.NotFound) {
		t.Errorf("at the end: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestChangeThatAlwaysLosesSaysSo(t *testing.T) {
	w := newWorld(t)
	tries := 0
	err := w.attempt(w.ctx, func() error { tries++; return store.ErrConflict })
	refused(t, err, problem.Unavailable, "try again")
	if tries != maxAttempts {
		t.Errorf("%d tries", tries)
	}
}

func TestChangeThatIsTooLargeSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	_, err := w.change(w.ctx, admin, "orders", func(c *change) error {
		c.tx.Put("x", make([]byte, store.MaxBytes))
		return nil
	})
	refused(t, err, problem.Conflict, "the change is too large")
}
