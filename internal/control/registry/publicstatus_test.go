package registry

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// withAway gives a registry an authority, and a resolver, that nobody listens at. No leader runs, so every certificate waits.
func (w *world) withAway() {
	w.t.Helper()
	manager, err := acme.New(acme.Options{Docs: w.docs, CAs: []acme.CA{{Name: "away", Directory: "https://127.0.0.1:1/directory"}},
		Resolver: acme.Resolver{Servers: []string{"127.0.0.1:1"}}, Record: w.RecordPublic, Now: func() time.Time { return w.at }, Log: w.log})
	w.done(manager, err)
	w.public = Public{Manager: manager, Zone: "example.test", Names: config.ACMENamesOpaque}
}

func (w *world) enhanced(name string) EnhancedStatus {
	w.t.Helper()
	status, err := w.EnhancedStatus(w.ctx, w.is(name))
	w.done(status, err)
	return status
}

func TestPublicCertificateThatWaitsSaysForWhat(t *testing.T) {
	w := newWorld(t)
	w.withAway()
	for _, name := range []string{"first", "next"} {
		w.operational(name)
		if got := w.enhanced(name); got.Status != EnhancedNone {
			t.Errorf("without a public certificate: %+v", got)
		}
		w.done(w.EnableEnhanced(w.ctx, admin, name))
		w.at = w.at.Add(time.Minute)
	}
	for name, place := range map[string]string{"first": "position 1 in the queue", "next": "position 2 in the queue"} {
		if got := w.enhanced(name); got.Status != Provisioning || got.Reason != string(acme.Queued) || got.Detail != place || got.Host != w.is(name).Enhanced.Host {
			t.Errorf("%s: %+v, want %q", name, got, place)
		}
	}
	status, err := w.PublicStatus(w.ctx)
	w.done(status, err)
	if status.Zone != "example.test" || len(status.Authorities) != 1 || status.Authorities[0].Name != "away" || status.Authorities[0].Account != "" {
		t.Errorf("%+v", status)
	}

	w.public.Manager = nil // the block is gone from the configuration
	if got := w.enhanced("first"); got.Reason != reasonNotConfigured || !strings.Contains(got.Detail, "add an acme block to pgmtls.yaml") {
		t.Errorf("without a configuration: %+v", got)
	}
	if status, err := w.PublicStatus(w.ctx); err != nil || len(status.Authorities) != 0 || status.Zone != "" {
		t.Errorf("without a configuration: %+v, %v", status, err)
	}
}

func TestPublicCertificateThatIsDeliveredNamesTheProxiesThatLackIt(t *testing.T) {
	w := newWorld(t)
	w.withAway()
	w.operational("orders")
	w.done(w.EnableEnhanced(w.ctx, admin, "orders"))
	db := w.is("orders")
	db.Enhanced.Leaf, db.Enhanced.Generation = &EnhancedLeaf{Serial: "0a", Issuer: "R1", NotAfter: w.at.AddDate(0, 3, 0)}, db.Generation+1
	state := func(status Status) EnhancedStatus {
		t.Helper()
		db.Enhanced.Status = status
		got, err := w.EnhancedStatus(w.ctx, db)
		w.done(got, err)
		return got
	}
	if got := state(Provisioning); got.Reason != reasonDelivering || got.Detail != "waiting for edge" || got.Serial != "0a" || got.Issuer != "R1" || got.NotAfter != db.Enhanced.Leaf.NotAfter {
		t.Errorf("%+v", got)
	}
	if got := state(Deprovisioning); got.Reason != reasonWithdrawing || got.Detail != "waiting for edge" {
		t.Errorf("%+v", got)
	}
	db.Enhanced.Generation = db.Generation // which every proxy has
	if got := state(Provisioning); got.Reason != reasonDelivering || got.Detail != "" {
		t.Errorf("%+v", got)
	}
	db.Proxies = nil
	if got := state(Provisioning); got.Detail != "the database has no proxy that could serve it" {
		t.Errorf("%+v", got)
	}
}

func TestRecordsForAPublicCertificateAreKnownBeforeItIsAsked(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	_, err := w.EnhancedRecords(w.ctx, db)
	refused(t, err, problem.Conflict, "add an acme block to pgmtls.yaml")
	w.withAway()
	before, err := w.EnhancedRecords(w.ctx, db)
	w.done(before, err)
	if len(before) == 0 || !strings.HasSuffix(before[0].Name, ".example.test.") || before[0].Found {
		t.Errorf("%+v", before)
	}
	w.done(w.EnableEnhanced(w.ctx, admin, "orders"))
	db = w.is("orders")
	after, err := w.EnhancedRecords(w.ctx, db)
	w.done(after, err)
	if len(after) != len(before) || after[0].Name != db.Enhanced.Host+"." {
		t.Errorf("for %s: %+v", db.Enhanced.Host, after)
	}
	if !db.NeedsClientCertificate() {
		t.Error("a database with mutual TLS needs no certificate")
	}

	w.public.Names = config.ACMENamesSpace
	shared, err := w.EnhancedRecords(w.ctx, w.operational("shared"))
	w.done(shared, err)
	if len(shared) == 0 || !strings.HasPrefix(shared[0].Name, "*.") || !strings.Contains(shared[0].Purpose, ", such as ") {
		t.Errorf("%+v", shared)
	}
}

func TestKeyOfAnAccountIsChangedAtAKnownAuthorityOnly(t *testing.T) {
	w := newWorld(t)
	_, err := w.RollOver(w.ctx, admin, "away")
	refused(t, err, problem.Conflict, "add an acme block to pgmtls.yaml")
	w.withAway()
	_, err = w.RollOver(w.ctx, admin, "other")
	refused(t, err, problem.NotFound, `there is no public authority "other"`)
	if actions := w.actions(); len(actions) != 0 {
		t.Errorf("recorded: %q", actions)
	}
	_, err = w.RollOver(w.ctx, admin, "away")
	refused(t, err, problem.Unavailable, "this can be asked for again")
	if actions := w.actions(); len(actions) != 1 || actions[0] != "acme.rollover" {
		t.Errorf("recorded: %q", actions)
	}
}

// What happens to public certificates is recorded, notified, or both, by name where there is one.
func TestEventOfAPublicCertificateReachesTheTrailAndPeople(t *testing.T) {
	w := newWorld(t)
	db := w.database("orders")
	leaf := &acme.Leaf{Serial: "0b", Issuer: "R1", NotAfter: w.at.AddDate(0, 3, 0)}
	cert := acme.Certificate{ID: db.ID, Space: "acme", Names: []string{"orders.example.test"}, Leaf: leaf, Revoke: leaf, Reason: acme.Queued}
	trouble := &acme.Problem{Reason: acme.AccountProblem, Detail: "no agreement", NotBefore: w.at.Add(time.Hour)}
	record := func(e acme.Event) {
		t.Helper()
		e.At, e.CA = w.at, "away"
		tx := new(store.Tx)
		w.done(nil, w.RecordPublic(tx, e))
		w.done(w.docs.Commit(w.ctx, tx.Put("x", nil)))
	}
	for _, kind := range []acme.EventKind{acme.EventOrdered, acme.EventIssued, acme.EventRenewed, acme.EventRevoked, acme.EventRemoved} {
		record(acme.Event{Kind: kind, Certificate: cert})
	}
	for _, kind := range []acme.EventKind{acme.EventChain, acme.EventFailing, acme.EventExpired} {
		record(acme.Event{Kind: kind, Certificate: cert})
	}
	record(acme.Event{Kind: acme.EventFailed, Certificate: cert, Problem: trouble})
	record(acme.Event{Kind: acme.EventRefused, Account: "https://127.0.0.1:1/account", Problem: trouble})
	record(acme.Event{Kind: acme.EventLimited, Certificate: acme.Certificate{ID: spacePrefix + "acme", Space: "acme", Names: []string{"*.acme.example.test"}}, Problem: trouble})
	record(acme.Event{Kind: acme.EventFailing, Certificate: acme.Certificate{ID: newID(), Names: []string{"gone.example.test"}}})

	records, err := w.trail.List(w.ctx, audit.Query{Limit: 100})
	w.done(records, err)
	details := map[string]audit.Record{}
	for _, r := range records {
		details[r.Action] = r
	}
	for action, want := range map[string]map[string]string{
		"enhanced_certificate.order":   {"ca": "away", "host": "orders.example.test"},
		"enhanced_certificate.issue":   {"serial": "0b", "issuer": "R1", "not_after": leaf.NotAfter.Format(time.RFC3339)},
		"enhanced_certificate.renewed": {"serial": "0b"},
		"enhanced_certificate.revoke":  {"serial": "0b"},
		"enhanced_certificate.remove":  {"host": "orders.example.test"},
		"enhanced_certificate.fail":    {"reason": string(acme.AccountProblem), "detail": "no agreement"},
		"acme.account_problem":         {"account": "https://127.0.0.1:1/account", "detail": "no agreement"},
		"acme.rate_limited":            {"host": "*.acme.example.test"},
	} {
		got, ok := details[action]
		if !ok {
			t.Errorf("no record of %s", action)
		}
		for name, value := range want {
			if got.Detail[name] != value {
				t.Errorf("%s: the detail %s is %q, want %q", action, name, got.Detail[name], value)
			}
		}
	}
	if got := details["acme.account_problem"]; got.Object != "away" || got.Database != "" {
		t.Errorf("the authority's record is %+v", got)
	}
	if got := details["acme.rate_limited"]; got.Database != "" || got.Space != "acme" {
		t.Errorf("the space's record is %+v", got)
	}

	pending, err := w.outbox.Pending(w.ctx)
	w.done(pending, err)
	named := map[outbox.Kind][]string{}
	for _, n := range pending {
		named[n.Kind] = append(named[n.Kind], n.Database)
		if n.Public == nil || n.Public.CA != "away" {
			t.Errorf("the notice %s has %+v", n.Kind, n.Public)
		}
	}
	for _, kind := range []outbox.Kind{outbox.EnhancedChain, outbox.EnhancedExpired} {
		if len(named[kind]) != 1 || named[kind][0] != "orders" {
			t.Errorf("notices of %s are about %q", kind, named[kind])
		}
	}
	if len(named[outbox.EnhancedFailing]) != 2 || len(named[outbox.ACMEAccount]) != 1 || len(named[outbox.ACMELimited]) != 1 {
		t.Errorf("notices: %q", named)
	}
}

func TestWithoutAnAuthorityNothingIsFollowed(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if err := w.FollowPublic(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPublicNameThatIsNoNameIsRefusedBeforeAnyRecordIsMade(t *testing.T) {
	w := newWorld(t)
	w.withAway()
	w.public.Zone = strings.Repeat("a", 64) + ".test"
	db := w.operational("orders")
	if _, err := w.EnhancedRecords(w.ctx, db); err == nil {
		t.Error("records for a label of 64 bytes")
	}
	if _, err := w.EnableEnhanced(w.ctx, admin, "orders"); err == nil || w.is("orders").Enhanced != nil {
		t.Errorf("got %v", err)
	}
}
