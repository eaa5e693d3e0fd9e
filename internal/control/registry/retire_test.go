package registry

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/proxyquery"
)

// rotated is a world whose only client has changed to its successor, as far as was reported.
func rotated(t *testing.T) (w *world, old string, edge proxyquery.Proxy, before, after Certificate) {
	w = newWorld(t)
	w.operational("orders")
	old = w.authorities()[0].ID
	before = w.is("orders").Certificates[0]
	w.at = w.at.Add(time.Hour)
	w.done(w.RotateCA(w.ctx, admin, "acme"))
	w.acknowledged("orders")
	db := w.is("orders")
	after = w.certificate("orders", w.certificate("orders", before.ID).Successor)
	w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation,
		Certificates: map[string]api.Usage{before.Serial: {LastSeen: w.at}, after.Serial: {LastSeen: w.at.Add(time.Minute)}}})
	w.at = w.at.Add(time.Hour)
	return w, old, proxyquery.Proxy{Database: db.ID, Name: "edge"}, before, after
}

func saying(use map[string]api.Usage) proxyquery.Reported {
	return proxyquery.Reported{Report: api.Report{Certificates: use}}
}

func TestRetirementKnowsWhoCameSinceTheLastReport(t *testing.T) {
	for name, use := range map[string]api.Usage{
		"a session is live": {Sessions: 1, LastSeen: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)},
		"a session ended":   {LastSeen: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			w, old, edge, before, _ := rotated(t)
			w.answers = map[proxyquery.Proxy]proxyquery.Reported{edge: saying(map[string]api.Usage{before.Serial: use})}
			_, err := w.RetireCA(w.ctx, admin, "acme", old, false)
			refused(t, err, problem.Conflict, "still in use as of 2026-11-22T12:00:00Z")
			refused(t, err, problem.Conflict, before.Name+" of orders")
			asked := w.asked
			w.done(w.RetireCA(w.ctx, admin, "acme", old, true))
			if w.asked != asked {
				t.Error("it asked although it was forced")
			}
		})
	}
}

func TestRetirementGoesOnWhenTheProxiesSayThatNobodyUsesTheCA(t *testing.T) {
	w, old, edge, before, after := rotated(t)
	db := w.is("orders")
	// At the last report somebody was connected with the old certificate, who has left.
	w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Certificates: map[string]api.Usage{before.Serial: {Sessions: 2, LastSeen: w.at}}})
	w.answers = map[proxyquery.Proxy]proxyquery.Reported{edge: saying(map[string]api.Usage{before.Serial: {LastSeen: w.at}, after.Serial: {Sessions: 2, LastSeen: w.at.Add(time.Second)}})}
	w.done(w.RetireCA(w.ctx, admin, "acme", old, false))
}

func TestProxyThatCanNotBeAskedKeepsTheCA(t *testing.T) {
	w, old, edge, before, _ := rotated(t)
	w.answers = map[proxyquery.Proxy]proxyquery.Reported{edge: {Err: errors.New("connection refused")}}
	_, err := w.RetireCA(w.ctx, admin, "acme", old, false)
	refused(t, err, problem.Conflict, "edge of orders (connection refused)")
	if !strings.Contains(err.Error(), "as of 2026-11-22T12:00:00Z") {
		t.Errorf("%v does not say when it was asked", err)
	}
	// Use that was reported is named beside it.
	db := w.is("orders")
	w.says(db, "edge", api.Report{Applied: db.Generation, InForce: db.Generation, Certificates: map[string]api.Usage{before.Serial: {Sessions: 1, LastSeen: w.at}}})
	_, err = w.RetireCA(w.ctx, admin, "acme", old, false)
	refused(t, err, problem.Conflict, "by "+before.Name+" of orders")
	refused(t, err, problem.Conflict, "not possible to ask the proxy edge of orders (connection refused)")
	w.ask = nil
	_, err = w.RetireCA(w.ctx, admin, "acme", old, false)
	refused(t, err, problem.Conflict, "edge of orders (it was not asked)")
	w.done(w.RetireCA(w.ctx, admin, "acme", old, true))
}

// A space has databases whose proxies trust no CA, since they have no mutual TLS, and other spaces are none of its business.
func TestOnlyProxiesThatTrustTheCAAreAsked(t *testing.T) {
	w, _, edge, _, _ := rotated(t)
	w.database("without")
	seen, err := w.Observe(w.ctx, "acme")
	if _, ok := seen.Said[edge]; err != nil || !ok || len(seen.Said) != 1 || !seen.At.Equal(w.at) {
		t.Errorf("got %+v, %v", seen, err)
	}
	if seen, err := w.Observe(w.ctx, "elsewhere"); err != nil || len(seen.Said) != 0 {
		t.Errorf("got %+v, %v", seen, err)
	}
}

func TestRetiredAuthorityHasNoListAndNoUsersOfOtherSpaces(t *testing.T) {
	w, old, _, before, _ := rotated(t)
	w.done(w.CreateDatabase(w.ctx, admin, NewDatabase{Name: "elsewhere", Space: "other", Hosts: []string{"elsewhere.example.com"}, Proxies: []NewProxy{{Name: "edge"}}}))
	w.done(w.EnableMTLS(w.ctx, admin, "elsewhere"))
	users, err := w.CAUsers(w.ctx, "acme", old, Observation{})
	w.done(users, err)
	for _, user := range users {
		if user.Database != "orders" {
			t.Errorf("a user of another space: %+v", user)
		}
	}
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", before.ID, 0))
	count := func() int {
		t.Helper()
		i := slices.IndexFunc(w.authorities(), func(a Authority) bool { return a.ID == old })
		n, err := w.CountRevoked(w.ctx, w.authorities()[i])
		w.done(n, err)
		return n
	}
	if n := count(); n != 1 {
		t.Errorf("%d certificates are revoked before it is retired, want 1", n)
	}
	w.done(w.RetireCA(w.ctx, admin, "acme", old, true))
	if n := count(); n != 0 {
		t.Errorf("%d certificates of a retired authority are revoked, want 0: nothing trusts any of them", n)
	}
	_, err = w.RevocationList(w.ctx, "acme", old)
	refused(t, err, problem.Conflict, "was retired")
}
