package registry

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// Somebody creates and deletes rules while a proxy is away: what is deleted waits for it in the document.
func TestDatabaseThatIsFullCanStillBeTakenFrom(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	rule := w.rule("orders", "192.0.2.0/24")
	cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "app"})
	w.done(cert, err)
	made := 0
	for {
		w.done(w.change(w.ctx, admin, "orders", func(c *change) error { // as so many creates and deletes would
			for range 50 {
				c.db.Rules = append(c.db.Rules, Rule{ID: newID(), CIDR: fmt.Sprintf("10.0.%d.0/24", made%256), Description: "waits for a proxy that is away",
					Status: Deauthorizing, Generation: c.newPolicy(), CreatedAt: c.now, UpdatedAt: c.now})
			}
			made += 50
			return nil
		}))
		if _, err = w.CreateRule(w.ctx, admin, "orders", NewRule{CIDR: fmt.Sprintf("198.51.%d.0/24", made/50)}); err != nil {
			break
		}
	}
	refused(t, err, problem.Conflict, "pgmtls proxies orders")
	if made < 400 {
		t.Errorf("only %d deleted rules may wait", made)
	}
	_, err = w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	refused(t, err, problem.Conflict, "deleting and revoking still work")
	_, err = w.AddProxy(w.ctx, admin, "orders", NewProxy{Name: "more"})
	refused(t, err, problem.Conflict, "deleting and revoking still work")

	// The database's list is as full as it can be, and its own proxies say as much as they may.
	w.fill(db.ID, maxIssuingList+200)
	w.says(db, "edge", api.Report{Error: fmt.Sprintf("%01000d", 1), Drift: fmt.Sprintf("%01000d", 1)})
	w.done(w.DeleteRule(w.ctx, admin, "orders", rule.ID))
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0))
	w.due()
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	if got := w.is("orders"); got.MTLS.Status != Deprovisioning {
		t.Errorf("mutual TLS is %s", got.MTLS.Status)
	}
}

// fill has a database with so many revoked certificates of the authority that signs, as if they had been issued and revoked.
func (w *world) fill(database string, n int) {
	w.t.Helper()
	ca := w.authorities()[0].ID
	const page = 100 // records of one transaction
	for from := 0; from < n; from += page {
		tx := new(store.Tx)
		for i := from; i < min(n, from+page); i++ {
			entry := Revoked{Serial: fmt.Sprintf("7f:00:00:00:00:00:00:00:00:00:00:00:%02x:%02x:%02x:%02x", i>>24, i>>16&255, i>>8&255, i&255),
				At: w.at.Add(123456 * time.Microsecond), ExpiresAt: w.at.AddDate(1, 1, 0)}
			w.done(nil, docstore.Put(tx, fmt.Sprintf("%s-%d", revokedKey(ca, database, 0), i), []Revoked{entry}))
		}
		w.done(w.docs.Commit(w.ctx, tx))
	}
}

// allRevoked is what the space's authority that signs has revoked.
func (w *world) allRevoked() []Revoked {
	w.t.Helper()
	a := w.authorities()[0]
	entries, err := w.revokedOfSpace(w.ctx, &a)
	w.done(entries, err)
	return entries
}

// One database revokes until it is issued nothing more: it can still revoke every certificate that it has, and the other
// databases of the space notice nothing.
func TestDatabaseWhoseListIsNearlyFullIsIssuedNothingAndRevokesEverything(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	w.database("bare")
	for range MaxCertificates - 1 {
		w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{}))
	}
	w.acknowledged("orders")
	w.fill(db.ID, maxIssuingList-1)
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", w.is("orders").Certificates[0].ID, 0))
	_, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	refused(t, err, problem.Conflict, "rotate the authority")
	w.done(w.EnableMTLS(w.ctx, admin, "bare"))
	w.done(w.CreateCertificate(w.ctx, admin, "bare", NewCertificate{}))
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	if revoked := len(w.allRevoked()); revoked != maxIssuingList+MaxCertificates-1 {
		t.Errorf("%d are revoked", revoked)
	}
	_, err = w.EnableMTLS(w.ctx, admin, "orders")
	refused(t, err, problem.Conflict, "rotate the authority")
	w.done(w.RotateCA(w.ctx, admin, "acme"))
	w.done(w.EnableMTLS(w.ctx, admin, "orders"))
}

func TestDatabaseIsIssuedSoManyCertificatesADay(t *testing.T) {
	w := newWorld(t)
	first := w.operational("orders").Certificates[0]
	w.done(w.change(w.ctx, admin, "orders", func(c *change) error {
		if c.db.Issues == nil || c.db.Issues.Count != 1 {
			t.Errorf("counted %+v for the first certificate", c.db.Issues)
		}
		c.db.Issues.Count = MaxIssuesPerDay - 1
		return nil
	}))
	cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	w.done(cert, err)
	_, err = w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	refused(t, err, problem.Conflict, "200 client certificates today")
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0)) // it does not give the budget back
	_, err = w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	refused(t, err, problem.Conflict, "00:00 UTC")
	w.operational("other") // has its own
	w.at = w.at.Add(14*time.Hour - time.Second)
	_, err = w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	refused(t, err, problem.Conflict, "today")
	w.at = w.at.Add(time.Second)
	w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{}))

	// What the control plane renews by itself is never refused.
	w.at = first.ExpiresAt.Add(-75 * day)
	w.done(w.change(w.ctx, admin, "orders", func(c *change) error {
		c.db.Issues = &Issues{Day: w.at.Format(time.DateOnly), Count: MaxIssuesPerDay}
		return nil
	}))
	w.fill(w.is("orders").ID, maxIssuingList)
	w.due()
	if got := w.certificate("orders", first.ID); got.Successor == "" {
		t.Error("a certificate that ends has no successor")
	}
}

// What a release before this one wrote has no count, and is read as it was.
func TestDocumentWithoutACountIsOneThatWasIssuedNothing(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	w.done(w.change(w.ctx, admin, "orders", func(c *change) error { c.db.Issues = nil; return nil }))
	got, _, err := docstore.Get[Database](w.ctx, w.docs.Store, KeyDatabases+db.ID)
	if err != nil || got.Issues != nil {
		t.Fatalf("got %+v, %v", got.Issues, err)
	}
	w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{}))
	if got := w.is("orders").Issues; got == nil || got.Count != 1 {
		t.Errorf("counted %+v", got)
	}
}

// Third parties that trust an authority verify its list, and find every certificate of the space that was revoked.
func TestListForThirdPartiesHasTheWholeSpace(t *testing.T) {
	w := newWorld(t)
	var serials []string
	for _, name := range []string{"orders", "other"} {
		w.operational(name)
		cert, err := w.CreateCertificate(w.ctx, admin, name, NewCertificate{})
		w.done(cert, err)
		w.done(w.DeleteCertificate(w.ctx, admin, name, cert.ID, 0))
		serials = append(serials, cert.Serial)
	}
	slices.SortFunc(serials, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) }) // as a list has them
	a := w.authorities()[0]
	for _, id := range []string{"", a.ID} {
		list, err := w.RevocationList(w.ctx, "acme", id)
		w.done(list, err)
		block, _ := pem.Decode([]byte(list.PEM))
		crl, err := x509.ParseRevocationList(block.Bytes)
		w.done(crl, err)
		authority, _ := pem.Decode([]byte(a.CertificatePEM))
		issuer, err := x509.ParseCertificate(authority.Bytes)
		w.done(issuer, err)
		w.done(nil, crl.CheckSignatureFrom(issuer))
		if list.Revoked != 2 || len(crl.RevokedCertificateEntries) != 2 || crl.Number.Int64() != list.Number || !list.NextUpdate.After(w.at.Add(14*day)) {
			t.Errorf("got %+v", list)
		}
		for i, entry := range crl.RevokedCertificateEntries {
			if got := fmt.Sprintf("%x", entry.SerialNumber); got != strings.TrimLeft(strings.ReplaceAll(serials[i], ":", ""), "0") {
				t.Errorf("entry %d is %s, want %s", i, got, serials[i])
			}
		}
	}
	_, err := w.RevocationList(w.ctx, "acme", newID())
	refused(t, err, problem.NotFound, "no authority")
	_, err = w.RevocationList(w.ctx, "nothing", "")
	refused(t, err, problem.NotFound, "nothing")
	w.done(w.RotateCA(w.ctx, admin, "acme"))
	w.done(w.RetireCA(w.ctx, admin, "acme", a.ID, true))
	_, err = w.RevocationList(w.ctx, "acme", a.ID)
	refused(t, err, problem.Conflict, "was retired")
}

func TestMutualTLSCountsAsAnIssueOfItsDay(t *testing.T) {
	w := newWorld(t)
	w.database("orders")
	w.done(w.change(w.ctx, admin, "orders", func(c *change) error {
		c.db.Issues = &Issues{Day: w.at.Format(time.DateOnly), Count: MaxIssuesPerDay}
		return nil
	}))
	_, err := w.EnableMTLS(w.ctx, admin, "orders")
	refused(t, err, problem.Conflict, "the daily limit")
	w.at = w.at.AddDate(0, 0, 1)
	w.done(w.EnableMTLS(w.ctx, admin, "orders"))
}
