package registry

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/testkit/acmetest"
	"pgmtls-proxy/internal/testkit/eventually"
)

// patience is for what goes through a real authority and a real name server.
const patience = time.Minute

// publicWorld is a registry with a real store, a real public authority, and what a leader runs. Its clock is the real one,
// moved.
type publicWorld struct {
	*world
	faults *acmetest.Faults
	root   []byte
	ahead  atomic.Int64 // of the real clock
	master []byte
	stop   func() // the leader's work
}

func (w *publicWorld) clock() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newPublicWorld(t *testing.T, names config.ACMENames) *publicWorld {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	w := &publicWorld{world: &world{t: t, ctx: ctx}}
	dns := acmetest.StartDNS(t, "example.test")
	ca := acmetest.StartCA(t, acmetest.Options{DNS: dns.Address, CAAIdentities: []string{"pebble.test"}})
	w.faults, w.root = acmetest.StartFaults(t, ca), ca.Root(0)
	w.faults.SetClock(w.clock)
	key, err := acme.ParseTSIGKey(fmt.Appendf(nil, `key "%s" { algorithm hmac-sha256; secret "%s"; };`, strings.TrimSuffix(dns.KeyName, "."), dns.KeySecret))
	w.done(key, err)

	docs := docstoretest.Open(t)
	w.master = seal.Generate()
	docs.Ring = docstoretest.Ring(t, w.master)
	log := docstoretest.Log(t)
	manager, err := acme.New(acme.Options{
		Docs: docs, CAs: []acme.CA{{Name: "pebble", Directory: w.faults.Directory}},
		Solver:   &acme.RFC2136{Server: dns.Address, Zone: dns.Zone, Key: key},
		Resolver: acme.Resolver{Servers: []string{dns.Address}}, Check: []string{dns.Address},
		Record:    func(tx *store.Tx, e acme.Event) error { return w.Registry.RecordPublic(tx, e) },
		Transport: w.faults.Client(), Now: w.clock, Log: log,
	})
	w.done(manager, err)
	trail := audit.New(docs, w.clock)
	w.Registry = New(Options{Docs: docs, Audit: trail, Outbox: outbox.New(outbox.Options{Docs: docs, Audit: trail, Now: w.clock, Log: log}),
		Now: w.clock, Log: log, Ask: w.reports, Public: Public{Manager: manager, Zone: "example.test", Names: names}})
	w.lead()
	return w
}

// lead starts what a leader runs for public certificates.
func (w *publicWorld) lead() {
	ctx, cancel := context.WithCancel(w.ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = w.public.Manager.Run(ctx) }) // its error is that of ctx
	running.Go(func() { _ = w.FollowPublic(ctx) })
	w.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	w.t.Cleanup(w.stop)
}

// enabled is a database whose public certificate every proxy has.
func (w *publicWorld) enabled(name string) Database {
	w.t.Helper()
	w.done(w.EnableEnhanced(w.ctx, admin, name))
	w.delivered(name)
	db := w.acknowledged(name)
	if db.Enhanced.Status != Enabled {
		w.t.Fatalf("database %s: %+v", name, db.Enhanced)
	}
	return db
}

// delivered waits until the public certificate is in the policy.
func (w *publicWorld) delivered(name string) Database {
	w.t.Helper()
	eventually.OK(w.t, patience, func() error {
		db := w.is(name)
		if db.Enhanced == nil || db.Enhanced.Leaf == nil {
			status, err := w.EnhancedStatus(w.ctx, db)
			return fmt.Errorf("not in the policy yet: %+v, %v", status, err)
		}
		return nil
	})
	return w.is(name)
}

// served gives the names of the certificates in a database's policy, the default first.
func (w *publicWorld) served(name string) (names [][]string) {
	w.t.Helper()
	policy, err := w.Policy(w.ctx, w.is(name).ID)
	w.done(policy, err)
	parsed, err := config.ParsePolicy(api.PolicyFile, policy.Files[api.PolicyFile])
	w.done(parsed, err)
	for _, c := range parsed.Certificates {
		block, _ := pem.Decode(policy.Files[c.Cert.Path])
		cert, err := x509.ParseCertificate(block.Bytes)
		w.done(cert, err)
		names = append(names, cert.DNSNames)
	}
	return names
}

// notices are those that wait to be sent, by kind.
func (w *publicWorld) notices(kind outbox.Kind) (list []outbox.Notice) {
	w.t.Helper()
	all, err := w.outbox.Pending(w.ctx)
	w.done(all, err)
	for _, n := range all {
		if n.Kind == kind {
			list = append(list, n)
		}
	}
	return list
}
