package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
)

// Every refusal has an id of the closed set, and a text that says what is wrong. Nothing is changed by one: the trail has
// no record of it.
func TestEveryRefusalSaysWhyAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	w.done(w.AddProxy(w.ctx, admin, "orders", beside("near", "here", "/policies/orders")))
	w.database("bare")
	rule := w.rule("orders", "192.0.2.0/24")
	cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "app"})
	w.done(cert, err)
	revoked, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "gone"})
	w.done(revoked, err)
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", revoked.ID, 0))
	active := w.authorities()[0]
	expired, err := w.makeCA("acme")
	w.done(nil, err)
	w.done(w.RemoveProxy(w.ctx, admin, "bare", "edge"))

	hosts := []string{"a.example.com"}
	create := func(n NewDatabase) error { return second(w.CreateDatabase(w.ctx, admin, n)) }
	add := func(n NewProxy) error { return second(w.AddProxy(w.ctx, admin, "orders", n)) }
	newRule := func(n NewRule) error { return second(w.CreateRule(w.ctx, admin, "orders", n)) }
	before := len(w.actions())
	for name, test := range map[string]struct {
		err  error
		id   string
		text string
	}{
		"no such database":            {second(w.Database(w.ctx, "nothing")), problem.NotFound, `"nothing"`},
		"no such id":                  {second(w.Database(w.ctx, newID())), problem.NotFound, "no database"},
		"what is not a valid name":    {second(w.Database(w.ctx, "../x")), problem.NotFound, "no database"},
		"a name that is taken":        {create(NewDatabase{Name: "orders", Hosts: hosts}), problem.InvalidParams, "already"},
		"a name that is none":         {create(NewDatabase{Name: "1x", Hosts: hosts}), problem.InvalidParams, "is not a valid name"},
		"a space that is none":        {create(NewDatabase{Name: "new-1", Space: "A", Hosts: hosts}), problem.InvalidParams, "space"},
		"no host":                     {create(NewDatabase{Name: "new-1"}), problem.InvalidParams, "host name"},
		"too many hosts":              {create(NewDatabase{Name: "new-1", Hosts: make([]string, MaxHosts+1)}), problem.InvalidParams, "at most 32"},
		"a port that is none":         {create(NewDatabase{Name: "new-1", Hosts: hosts, Port: -1}), problem.InvalidParams, "port -1"},
		"a note that is too long":     {create(NewDatabase{Name: "new-1", Hosts: hosts, BackendNote: strings.Repeat("x", 1025)}), problem.InvalidParams, "1025 bytes"},
		"several at once":             {create(NewDatabase{Name: "1x", Port: -1}), problem.InvalidParams, "; port -1"},
		"a proxy that is there":       {add(NewProxy{Name: "edge"}), problem.InvalidParams, "already exists"},
		"a proxy's name":              {add(NewProxy{Name: "E"}), problem.InvalidParams, "is not a valid name"},
		"half of a local proxy":       {add(NewProxy{Name: "p1", Admin: "127.0.0.1:1"}), problem.InvalidParams, "needs both"},
		"a relative directory":        {add(beside("p1", "here", "x")), problem.InvalidParams, "absolute"},
		"a directory that is taken":   {add(beside("p1", "here", "/policies/orders")), problem.Conflict, "already uses this directory"},
		"no such proxy":               {second(w.RemoveProxy(w.ctx, admin, "orders", "none")), problem.NotFound, "no proxy"},
		"an agent of no proxy":        {db.WantsAgent("none"), problem.NotFound, "no proxy"},
		"an agent of a local proxy":   {ptr(w.is("orders")).WantsAgent("near"), problem.Conflict, "not an agent"},
		"a report of no proxy":        {w.Acknowledge(w.ctx, db.ID, "none", api.Report{}), problem.NotFound, "no proxy"},
		"a report that can't be":      {w.Acknowledge(w.ctx, db.ID, "edge", api.Report{Applied: -1}), problem.InvalidParams, "inconsistent report"},
		"a report far ahead":          {w.Acknowledge(w.ctx, db.ID, "edge", api.Report{OnDisk: 1 << 40}), problem.InvalidParams, "the newest is"},
		"mutual TLS twice":            {second(w.EnableMTLS(w.ctx, admin, "orders")), problem.Conflict, "already"},
		"mutual TLS of nothing":       {second(w.EnableMTLS(w.ctx, admin, "nothing")), problem.NotFound, "nothing"},
		"no mutual TLS to destroy":    {second(w.DisableMTLS(w.ctx, admin, "bare")), problem.NotFound, "no mutual TLS"},
		"no mutual TLS for a rule":    {second(w.CreateRule(w.ctx, admin, "bare", NewRule{CIDR: "10.0.0.0/8"})), problem.NotFound, "create it first"},
		"no mutual TLS to issue":      {second(w.CreateCertificate(w.ctx, admin, "bare", NewCertificate{})), problem.NotFound, "create it first"},
		"no policy":                   {second(w.Policy(w.ctx, w.is("bare").ID)), problem.NotFound, "create its mutual TLS first"},
		"a database that is in use":   {w.DeleteDatabase(w.ctx, admin, "orders"), problem.Conflict, "destroy it first"},
		"no database to delete":       {w.DeleteDatabase(w.ctx, admin, "nothing"), problem.NotFound, "nothing"},
		"a network that is none":      {newRule(NewRule{CIDR: "x"}), problem.InvalidParams, "cidr"},
		"a network twice":             {newRule(NewRule{CIDR: "192.0.2.0/24"}), problem.InvalidParams, rule.ID},
		"a rule that is over":         {newRule(NewRule{CIDR: "10.0.0.0/8", ExpiresAt: w.at}), problem.InvalidParams, "is in the past"},
		"a description":               {newRule(NewRule{CIDR: "10.0.0.0/8", Description: "\n"}), problem.InvalidParams, "unprintable character"},
		"no such rule":                {second(w.DeleteRule(w.ctx, admin, "orders", newID())), problem.NotFound, "no IP rule"},
		"no such rule to be without":  {second(w.WithoutRule(w.ctx, "orders", newID())), problem.NotFound, "no IP rule"},
		"no database to be without":   {second(w.WithoutRule(w.ctx, "nothing", rule.ID)), problem.NotFound, "nothing"},
		"a certificate's name":        {second(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "A b"})), problem.InvalidParams, "is not a valid name"},
		"a request that is none":      {second(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Request: []byte("x")})), problem.InvalidParams, ""},
		"no such certificate":         {second(w.DeleteCertificate(w.ctx, admin, "orders", newID(), 0)), problem.NotFound, "no client certificate"},
		"files of no certificate":     {second(w.CertificateFiles(w.ctx, "orders", newID())), problem.NotFound, "no client certificate"},
		"files of no database":        {second(w.CertificateFiles(w.ctx, "nothing", cert.ID)), problem.NotFound, "nothing"},
		"a delete long before":        {second(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, -time.Second)), problem.InvalidParams, "not possible"},
		"a delete in years":           {second(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 9000*time.Hour)), problem.InvalidParams, "366 days"},
		"what is revoked is not kept": {second(w.KeepCertificate(w.ctx, admin, "orders", revoked.ID)), problem.Conflict, "can't be reinstated"},
		"no such space":               {second(w.Authorities(w.ctx, "nothing")), problem.NotFound, "nothing"},
		"a space that can't be":       {second(w.Chain(w.ctx, "../x")), problem.NotFound, "no space"},
		"a space to rotate":           {second(w.RotateCA(w.ctx, admin, "nothing")), problem.NotFound, "nothing"},
		"a space to import into":      {second(w.ImportCA(w.ctx, admin, "A", ImportedCA{})), problem.InvalidParams, "is not a valid name"},
		"an authority that is none":   {second(w.ImportCA(w.ctx, admin, "acme", ImportedCA{CertificatePEM: []byte("x")})), problem.InvalidParams, ""},
		"an authority of another key": {second(w.ImportCA(w.ctx, admin, "acme", ImportedCA{CertificatePEM: []byte(active.ChainPEM), KeyPEM: expired.KeyPEM()})), problem.InvalidParams, ""},
		"no such authority":           {second(w.RetireCA(w.ctx, admin, "acme", newID(), true)), problem.NotFound, "no authority"},
		"an authority that signs":     {second(w.RetireCA(w.ctx, admin, "acme", active.ID, true)), problem.Conflict, "rotate first"},
		"an authority of no space":    {second(w.RetireCA(w.ctx, admin, "nothing", active.ID, true)), problem.NotFound, "nothing"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, test.err, test.id, test.text) })
	}
	if after := len(w.actions()); after != before {
		t.Errorf("%d records were added by refusals: %q", after-before, w.actions()[before:])
	}
}

func ptr[T any](v T) *T { return &v }

func TestFullListsRefuseWhatWouldBeOneMore(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.done(w.change(w.ctx, admin, "orders", func(c *change) error {
		for len(c.db.Proxies) < MaxProxies {
			c.db.Proxies = append(c.db.Proxies, Proxy{Name: "p-" + newID()})
		}
		for len(c.db.Certificates) < MaxCertificates {
			c.db.Certificates = append(c.db.Certificates, Certificate{ID: newID(), Status: Ready, ExpiresAt: c.now.AddDate(1, 0, 0)})
		}
		return nil
	}))
	_, err := w.AddProxy(w.ctx, admin, "orders", NewProxy{Name: "more"})
	refused(t, err, problem.InvalidParams, "can have at most 64 proxies")
	_, err = w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	refused(t, err, problem.InvalidParams, "delete an unused one")
}

// Of many users an error names five.
func TestRetirementNamesWhoStillUsesAnAuthority(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	for range 7 {
		w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{}))
	}
	old := w.authorities()[0]
	w.done(w.RotateCA(w.ctx, admin, "acme"))
	_, err := w.RetireCA(w.ctx, admin, "acme", old.ID, false)
	refused(t, err, problem.Conflict, "and 3 more")
	w.done(w.RetireCA(w.ctx, admin, "acme", old.ID, true))
	again, err := w.RetireCA(w.ctx, admin, "acme", old.ID, false) // it is
	if err != nil || again.State != RetiredCA {
		t.Errorf("got %+v, %v", again, err)
	}
}

func TestDisabledCertificatesAreListedUpToABoundTheOldestGoFirst(t *testing.T) {
	db := &Database{Name: "orders"}
	for n := range maxDisabled + 3 {
		db.Certificates = append(db.Certificates, Certificate{ID: fmt.Sprint(n), Status: Disabled})
	}
	db.Certificates = append(db.Certificates, Certificate{ID: "live", Status: Ready})
	newChange(db).advance()
	if first, last := db.Certificates[0].ID, db.Certificates[len(db.Certificates)-1].ID; len(db.Certificates) != maxDisabled+1 || first != "3" || last != "live" {
		t.Errorf("%d are listed, from %s to %s", len(db.Certificates), first, last)
	}
}

func TestHostIsListedOnceHoweverItIsWritten(t *testing.T) {
	w := newWorld(t)
	db, err := w.CreateDatabase(w.ctx, admin, NewDatabase{Name: "orders", Hosts: []string{"DB.Example.com.", "db.example.com", "::ffff:192.0.2.1", "192.0.2.1"}})
	if want := []string{"db.example.com", "192.0.2.1"}; err != nil || !slices.Equal(db.Hosts, want) {
		t.Errorf("got %q, %v", db.Hosts, err)
	}
	if _, waits := db.WaitingSince(); waits {
		t.Error("a database without proxies waits for somebody")
	}
	if db := w.database("second"); db.WantsAgent("edge") != nil {
		t.Error("an agent is refused where one is wanted")
	}
}

// A master key is replaced by the daemon's own housekeeping; whoever lacks the old one learns which secret needs it.
func TestKeysAreSealedAnewInTheHousekeeping(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	own, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "own", Request: request(t)})
	w.done(own, err)
	stranger := w.another(&docstore.Docs{Store: w.docs.Store, Ring: docstoretest.Ring(t, seal.Generate())})
	_, err = stranger.CertificateFiles(w.ctx, "orders", db.Certificates[0].ID)
	if err == nil || !strings.Contains(err.Error(), db.Certificates[0].ID) {
		t.Errorf("with another master key: %v", err)
	}
	if _, err := stranger.Policy(w.ctx, db.ID); err == nil || problem.Is(err, problem.NotFound) {
		t.Errorf("with another master key: %v", err)
	}
	// A client's own key can't be gone on with when its certificate can't be read.
	item, err := w.docs.Get(w.ctx, keyLeaves+own.ID)
	w.done(nil, err)
	for _, text := range []string{"no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		tx := new(store.Tx)
		w.done(nil, docstore.Put(tx, item.Key, leafRecord{Certificate: text}))
		w.done(w.docs.Commit(w.ctx, tx))
		w.at = own.ExpiresAt.Add(-70 * day)
		if _, err := w.Reconcile(w.ctx); err == nil || !strings.Contains(err.Error(), own.ID) {
			t.Errorf("of %q: %v", text, err)
		}
	}
	w.done(w.docs.Commit(w.ctx, new(store.Tx).Put(item.Key, item.Value)))
	w.due()
}

func TestRegistryWithoutAClockHasTheRealOne(t *testing.T) {
	w := newWorld(t)
	r := New(Options{Docs: w.docs, Audit: w.trail, Outbox: w.outbox})
	before := time.Now().Add(-time.Millisecond)
	db, err := r.CreateDatabase(w.ctx, admin, NewDatabase{Name: "orders", Hosts: []string{"a.example.com"}})
	if w.done(db, err); db.CreatedAt.Before(before) || db.CreatedAt.After(time.Now()) {
		t.Errorf("created at %s", db.CreatedAt)
	}
	if _, err := r.Policy(w.ctx, newID()); !problem.Is(err, problem.NotFound) {
		t.Errorf("policy of no database: %v", err)
	}
}
