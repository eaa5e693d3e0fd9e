package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/proxyquery"
)

// world is a registry on a real store, with a clock that stands until it is moved.
type world struct {
	*Registry
	t   testing.TB
	ctx context.Context
	at  time.Time

	answers map[proxyquery.Proxy]proxyquery.Reported // what proxies say when they are asked; nil: that they have seen nobody
	asked   int
}

var admin = audit.Actor{Name: "admin", Address: "127.0.0.1", RequestID: "r-1"}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, at: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	w.Registry = w.another(docstoretest.Open(t))
	return w
}

// another is a registry on the same store, as of another daemon, or with other master keys.
func (w *world) another(docs *docstore.Docs) *Registry {
	now := func() time.Time { return w.at }
	trail, log := audit.New(docs, now), docstoretest.Log(w.t)
	return New(Options{Docs: docs, Audit: trail, Outbox: outbox.New(outbox.Options{Docs: docs, Audit: trail, Now: now, Log: log}), Now: now, Log: log, Ask: w.reports})
}

// reports has every proxy answer that it has seen nobody, unless the test has put another answer into w.answers.
func (w *world) reports(_ context.Context, proxies []proxyquery.Proxy) map[proxyquery.Proxy]proxyquery.Reported {
	w.asked++
	said := make(map[proxyquery.Proxy]proxyquery.Reported)
	for _, proxy := range proxies {
		said[proxy] = w.answers[proxy]
	}
	return said
}

// done wants a call to have succeeded.
func (w *world) done(_ any, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// database registers one with a proxy called "edge".
func (w *world) database(name string) Database {
	w.t.Helper()
	db, err := w.CreateDatabase(w.ctx, admin, NewDatabase{Name: name, Space: "acme", Hosts: []string{name + ".example.com"}, Proxies: []NewProxy{{Name: "edge"}}})
	w.done(db, err)
	return db
}

// operational is a database whose mutual TLS is in force.
func (w *world) operational(name string) Database {
	w.t.Helper()
	w.database(name)
	w.done(w.EnableMTLS(w.ctx, admin, name))
	return w.acknowledged(name)
}

// acknowledged has every proxy say that it follows the newest policy, and that no session is left.
func (w *world) acknowledged(name string) Database {
	w.t.Helper()
	db := w.is(name)
	for _, p := range db.Proxies {
		w.says(db, p.Name, api.Report{Applied: db.Generation, InForce: db.Generation})
	}
	return w.is(name)
}

func (w *world) says(db Database, proxy string, report api.Report) {
	w.t.Helper()
	if err := w.Acknowledge(w.ctx, db.ID, proxy, report); err != nil {
		w.t.Fatal(err)
	}
}

// is gives the database as it is.
func (w *world) is(name string) Database {
	w.t.Helper()
	db, err := w.Database(w.ctx, name)
	w.done(db, err)
	return db
}

// rule makes a rule.
func (w *world) rule(db, cidr string) Rule {
	w.t.Helper()
	rule, err := w.CreateRule(w.ctx, admin, db, NewRule{CIDR: cidr, Description: "test"})
	w.done(rule, err)
	return rule
}

// authorities are those of the space of every test.
func (w *world) authorities() []Authority {
	w.t.Helper()
	list, err := w.Authorities(w.ctx, "acme")
	w.done(list, err)
	return list
}

// due lets everything happen whose time has come.
func (w *world) due() (next time.Time) {
	w.t.Helper()
	next, err := w.Reconcile(w.ctx)
	w.done(next, err)
	return next
}

// policyText is the policy.yaml of a database.
func (w *world) policyText(db string) string {
	w.t.Helper()
	policy, err := w.Policy(w.ctx, w.is(db).ID)
	w.done(policy, err)
	w.done(nil, policyformat.Check(policy))
	return string(policy.Files[api.PolicyFile])
}

// refused wants a refusal with an id, and a text in its message.
func refused(t *testing.T, err error, id, text string) {
	t.Helper()
	var refusal *problem.Error
	if !errors.As(err, &refusal) || refusal.ID != id || !strings.Contains(refusal.Message, text) {
		t.Errorf("got error %v, want %s with %q", err, id, text)
	}
}

// actions are those of the audit trail, the oldest first.
func (w *world) actions() []string {
	w.t.Helper()
	records, err := w.trail.List(w.ctx, audit.Query{Limit: 1000})
	w.done(records, err)
	var actions []string
	for _, r := range records {
		actions = append(actions, r.Action)
	}
	slices.Reverse(actions)
	return actions
}

// certificate is a client certificate of a database as it is.
func (w *world) certificate(db, id string) Certificate {
	w.t.Helper()
	is := w.is(db)
	cert := is.certificate(id)
	if cert == nil {
		w.t.Fatalf("database %s has no certificate %s", db, id)
	}
	return *cert
}

// request is a certificate request of a client that keeps its key.
func request(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// publicKey is the key of the first certificate of a PEM text.
func publicKey(t *testing.T, text string) *ecdsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.PublicKey.(*ecdsa.PublicKey)
}
