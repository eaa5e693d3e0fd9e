package registry

import (
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/authority"
)

// inPolicy reads what a database's proxies have of what is signed.
func (w *world) inPolicy(db string) (server *x509.Certificate, cas []*x509.Certificate, lists []*x509.RevocationList) {
	w.t.Helper()
	policy, err := w.Policy(w.ctx, w.is(db).ID)
	w.done(policy, err)
	for _, name := range slices.Sorted(maps.Keys(policy.Files)) {
		block, _ := pem.Decode(policy.Files[name])
		var err error
		switch {
		case strings.HasPrefix(name, "server-") && strings.HasSuffix(name, ".crt"):
			server, err = x509.ParseCertificate(block.Bytes)
		case strings.HasPrefix(name, "client-ca-"):
			var ca *x509.Certificate
			ca, err = x509.ParseCertificate(block.Bytes)
			cas = append(cas, ca)
		case strings.HasPrefix(name, "client-crl-"):
			var list *x509.RevocationList
			list, err = x509.ParseRevocationList(block.Bytes)
			lists = append(lists, list)
		}
		w.done(nil, err)
	}
	if server == nil || len(cas) == 0 || len(lists) != len(cas) {
		w.t.Fatalf("the policy of %s has the server certificate %v, %d CAs and %d lists", db, server != nil, len(cas), len(lists))
	}
	return server, cas, lists
}

// usableAt wants everything in a policy to be good at a moment, by a clock that shows it.
func (w *world) usableAt(db string, at time.Time) {
	w.t.Helper()
	server, _, lists := w.inPolicy(db)
	if at.Before(server.NotBefore) || at.After(server.NotAfter) {
		w.t.Errorf("%s: the server certificate of %s is valid from %s to %s", at, db, server.NotBefore, server.NotAfter)
	}
	for _, list := range lists {
		if at.Before(list.ThisUpdate) || at.After(list.NextUpdate) {
			w.t.Errorf("%s: the list of %s is of %s to %s", at, list.Issuer, list.ThisUpdate, list.NextUpdate)
		}
	}
}

// revoked wants a certificate to be on a list of a database's policy.
func (w *world) revoked(db string, cert Certificate) {
	w.t.Helper()
	_, _, lists := w.inPolicy(db)
	serial, _ := new(big.Int).SetString(strings.ReplaceAll(cert.Serial, ":", ""), 16)
	for _, list := range lists {
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(serial) == 0 {
				return
			}
		}
	}
	w.t.Errorf("certificate %s was revoked, and is on no list", cert.Serial)
}

// moved lets something happen while the clock is wrong by a while.
func (w *world) moved(by time.Duration, f func()) {
	at := w.at
	w.at = at.Add(by)
	f()
	w.at = at
}

func TestClockThatIsTenMinutesWrongMakesNothingThatIsOutOfForce(t *testing.T) {
	for _, by := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(by.String(), func(t *testing.T) {
			w := newWorld(t)
			var gone Certificate
			w.moved(by, func() {
				gone = w.operational("orders").Certificates[0]
				w.done(w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "stays"}))
				w.done(w.DeleteCertificate(w.ctx, admin, "orders", gone.ID, 0))
				w.due()
			})
			w.usableAt("orders", w.at)
			w.revoked("orders", gone)
			before := w.is("orders").Generation
			w.due()
			if after := w.is("orders").Generation; after != before {
				t.Errorf("a clock that is right makes generation %d of %d", after, before)
			}
		})
	}
}

// The clock was 61 days ahead for a minute. All that was signed in that minute is replaced by the first look after it, and
// once.
func TestWhatWasSignedInTheFutureIsReplacedAtOnce(t *testing.T) {
	w := newWorld(t)
	early := w.operational("orders").Certificates[0]
	ending := w.certificateThatEnds("orders", 30*day)
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", early.ID, 0))
	w.done(w.DeleteCertificate(w.ctx, admin, "orders", ending.ID, 0))
	var made Certificate
	w.moved(61*day, func() {
		w.due() // the server certificate and the list end in less than their time
		cert, err := w.CreateCertificate(w.ctx, admin, "orders", NewCertificate{Name: "made-ahead"})
		w.done(cert, err)
		made = cert
		w.due()
	})
	server, _, lists := w.inPolicy("orders")
	if !server.NotBefore.After(w.at) || !lists[0].ThisUpdate.After(w.at) {
		t.Fatalf("nothing was signed in the future: the certificate is of %s, the list of %s", server.NotBefore, lists[0].ThisUpdate)
	}

	before := w.is("orders")
	if at := w.NextDue(&before); at.After(w.at) {
		t.Errorf("something is due at %s, and it is %s", at, w.at)
	}
	w.due()
	w.usableAt("orders", w.at)
	w.revoked("orders", early)
	w.revoked("orders", ending)
	successor := w.certificate("orders", w.certificate("orders", made.ID).Successor)
	files, err := w.CertificateFiles(w.ctx, "orders", successor.ID)
	w.done(files, err)
	block, _ := pem.Decode([]byte(files.CertificatePEM))
	leaf, err := x509.ParseCertificate(block.Bytes)
	w.done(leaf, err)
	if leaf.NotBefore.After(w.at) {
		t.Errorf("the successor of what was made ahead is valid from %s", leaf.NotBefore)
	}

	generation, actions := w.is("orders").Generation, len(w.actions())
	for range 3 {
		if next := w.due(); !next.After(w.at) {
			t.Errorf("due again at %s", next)
		}
	}
	if now := w.is("orders").Generation; now != generation || len(w.actions()) != actions {
		t.Errorf("generation %d became %d, and there are new records: %q", generation, now, w.actions()[actions:])
	}
}

// certificateThatEnds is a client certificate with less time than usual.
func (w *world) certificateThatEnds(db string, in time.Duration) Certificate {
	w.t.Helper()
	cert, err := w.CreateCertificate(w.ctx, admin, db, NewCertificate{Name: "ending"})
	w.done(cert, err)
	w.done(w.change(w.ctx, admin, db, func(c *change) error {
		c.db.certificate(cert.ID).ExpiresAt = c.now.Add(in)
		return nil
	}))
	return w.certificate(db, cert.ID)
}

// An authority that was made in the future is replaced, by one that signs at once, whoever made it and when.
func TestAuthorityOfTheFutureIsReplaced(t *testing.T) {
	t.Run("rotated", func(t *testing.T) {
		w := newWorld(t)
		w.operational("orders")
		good := w.authorities()[0]
		w.moved(61*day, func() { w.done(w.RotateCA(w.ctx, admin, "acme")) })
		w.due()
		w.usableAt("orders", w.at)
		list := w.authorities()
		if len(list) != 3 || list[0].NotBefore.After(w.at) || list[0].State != ActiveCA {
			t.Errorf("the authorities are %+v", list)
		}
		if db := w.is("orders"); db.Server.CA != good.ID {
			t.Errorf("the server certificate is of %s, and its clients know %s", db.Server.CA, good.ID)
		}
		for _, cert := range w.is("orders").Certificates {
			if cert.CA == list[1].ID && cert.Successor == "" {
				t.Errorf("certificate %s of the authority of the future has no successor", cert.Name)
			}
		}
	})
	t.Run("first of its space", func(t *testing.T) {
		w := newWorld(t)
		w.moved(61*day, func() { w.operational("orders") })
		w.due()
		w.usableAt("orders", w.at)
		_, cas, _ := w.inPolicy("orders")
		if !slices.ContainsFunc(cas, func(ca *x509.Certificate) bool { return !ca.NotBefore.After(w.at) }) {
			t.Error("no CA of the policy is valid")
		}
		ready := 0
		for _, cert := range w.is("orders").Certificates {
			if cert.Usable() && cert.CA == w.authorities()[0].ID {
				ready++
			}
		}
		if ready != 1 {
			t.Errorf("%d certificates of the new authority", ready)
		}
	})
}

// An authority from outside that begins later is its owner's choice: nothing is signed over and over meanwhile.
func TestAuthorityFromOutsideThatBeginsLaterIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	begin := w.at.Add(60 * day)
	ca, err := authority.NewCA(authority.Subject{CommonName: "outside"}, begin, begin.AddDate(5, 0, 0))
	w.done(ca, err)
	w.moved(61*day, func() {
		w.done(w.ImportCA(w.ctx, admin, "acme", ImportedCA{CertificatePEM: ca.ChainPEM(), KeyPEM: ca.KeyPEM()}))
	})
	w.due()
	w.usableAt("orders", w.at)
	if a := w.authorities()[0]; !a.External || a.CertificatePEM != string(ca.CertificatePEM()) {
		t.Errorf("the authority is %+v", a)
	}
	generation := w.is("orders").Generation
	for range 3 {
		w.due()
	}
	if now := w.is("orders").Generation; now != generation {
		t.Errorf("generation %d became %d", generation, now)
	}
}
