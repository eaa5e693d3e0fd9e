package registry

import (
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
	refused(t, err, problem.Conflict, "deleting and revoking go on")
	_, err = w.AddProxy(w.ctx, admin, "orders", NewProxy{Name: "more"})
	refused(t, err, problem.Conflict, "deleting and revoking go on")

	// The list of the space is as full as a neighbour can make it, and this database's own proxies say as much as they may.
	w.fill(maxIssuingList + 200)
	w.says(db, "edge", api.Report{Error: fmt.Sprintf("%01000d", 1), Drift: fmt.Sprintf("%01000d", 1)})
	w.done(w.DeleteRule(w.ctx, admin, "orders", rule.ID))
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", cert.ID, 0))
	w.due()
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	if got := w.is("orders"); got.MTLS.Status != Deprovisioning {
		t.Errorf("mutual TLS is %s", got.MTLS.Status)
	}
}

// fill revokes certificates of other databases of the space, so many that its list has n.
func (w *world) fill(n int) {
	w.t.Helper()
	a := w.authorities()[0]
	for i := len(a.Revoked); i < n; i++ {
		a.Revoked = append(a.Revoked, Revoked{Serial: fmt.Sprintf("7f:00:00:00:00:00:00:00:00:00:00:00:%02x:%02x:%02x:%02x", i>>24, i>>16&255, i>>8&255, i&255),
			At: w.at.Add(123456 * time.Microsecond), ExpiresAt: w.at.AddDate(1, 1, 0)})
	}
	ca, err := w.signer(w.ctx, &a)
	w.done(ca, err)
	tx := new(store.Tx)
	w.done(nil, w.putCRL(tx, ca, &a, w.at))
	w.done(w.docs.Commit(w.ctx, tx))
}

// One database of a space revokes until nothing is issued any more: the others can still revoke every certificate that they have.
func TestSpaceWhoseListIsNearlyFullIssuesNothingAndRevokesEverything(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	w.database("bare")
	for range MaxCertificates - 1 {
		w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{}))
	}
	w.acknowledged("orders")
	w.fill(maxIssuingList - 1)
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", w.is("orders").Certificates[0].ID, 0))
	_, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{})
	refused(t, err, problem.Conflict, "rotate it")
	_, err = w.EnableMTLS(w.ctx, admin, "bare")
	refused(t, err, problem.Conflict, "rotate it")
	w.done(w.DisableMTLS(w.ctx, admin, "orders"))
	if revoked := len(w.authorities()[0].Revoked); revoked != maxIssuingList+MaxCertificates-1 {
		t.Errorf("%d are revoked", revoked)
	}
	w.done(w.RotateCA(w.ctx, admin, "acme"))
	w.done(w.EnableMTLS(w.ctx, admin, "bare"))
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
	w.fill(maxIssuingList)
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
	slices.Sort(serials) // as lists are, whichever was revoked first
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
