package acme

import (
	"bytes"
	"context"
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/testkit/acmetest"
)

func TestACertificateIsIssuedAndNothingIsLeftOfItsOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, []string{"db A 127.0.0.1"}, nil)
	id := w.want("db." + zone)
	next := w.settle()
	cert := w.issued(id)
	if got := w.kinds(); !slices.Equal(got, []EventKind{EventAccount, EventOrdered, EventIssued}) {
		t.Errorf("events: %q", got)
	}
	if n := w.faults.Requests(acmetest.NewOrderPath); n != 1 {
		t.Errorf("%d orders were made", n)
	}
	if at := w.now().Add(askInterval); next.After(at) {
		t.Errorf("next look at %s, want renewal information to be asked for by %s", next, at)
	}
	life := cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore)
	if left := cert.Leaf.NotAfter.Sub(cert.RenewAt()); left < life/3 || left > life/3+life/30 {
		t.Errorf("renewed %s before its end, of a life of %s", left, life)
	}
	_, keyPEM, err := w.LeafFiles(w.ctx, cert.Leaf.ID)
	w.done(err)
	kept := w.contents()
	for _, secret := range [][]byte{keyDER(t, keyPEM), []byte(base64.StdEncoding.EncodeToString(keyDER(t, keyPEM))[:40]), []byte("PRIVATE KEY")} {
		if bytes.Contains(kept, secret) {
			t.Error("a private key is in the store as it is")
		}
	}
}

func TestAWildcardAndSeveralNamesAreIssued(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{BadNonces: 30}, nil, nil)
	star := w.want("*.space." + zone)
	several := w.want("a."+zone, "*.a."+zone, "b."+zone)
	w.settle()
	w.issued(star)
	w.issued(several)
}

func TestAChallengeMayBeDelegatedToAnotherName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, []string{"_acme-challenge.db CNAME db.challenges"}, nil)
	id := w.want("db." + zone)
	var made []string
	solver := w.options.Solver
	w.options.Solver = solverFunc(func(ctx context.Context, present bool, record TXT) error {
		made = append(made, record.Name)
		if present {
			return solver.Present(ctx, record)
		}
		return solver.Remove(ctx, record)
	})
	w.settle()
	w.issued(id)
	if at := "db.challenges." + zone + "."; !slices.Equal(made, []string{at, at}) {
		t.Errorf("records were made and removed at %q", made)
	}
}

// solverFunc is a solver of one function.
type solverFunc func(ctx context.Context, present bool, record TXT) error

func (f solverFunc) Present(ctx context.Context, record TXT) error { return f(ctx, true, record) }
func (f solverFunc) Remove(ctx context.Context, record TXT) error  { return f(ctx, false, record) }

func TestNamesAreProvedByALastingRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, func(_ *world, o *Options) { o.Solver = nil })
	star := w.want("*." + zone)
	w.settle()
	p := w.waits(star, DNSFailed, "no record proves")
	if n := w.faults.Requests(acmetest.NewOrderPath); n != 0 {
		t.Errorf("%d orders were made without the record", n)
	}
	status, err := w.Authorities(w.ctx)
	w.done(err)
	record := PersistRecord(zone, "pebble.test", status[0].Account)
	if want := record.Name + ` TXT "` + record.Value + `"`; !bytes.Contains([]byte(w.is(star).Detail), []byte(record.Name)) {
		t.Errorf("%q does not say %s", w.is(star).Detail, want)
	}
	w.done(w.solver().Present(w.ctx, record))
	w.pass(p.NextAttempt.Sub(w.now()))
	w.settle()
	if cert := w.is(star); cert.Reason != Issued {
		t.Errorf("%s: %s", cert.Reason, cert.Detail)
	}
}

func TestWhoeverWantsACertificateAgainWithinAWeekNeedsNoOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	id := w.want("db." + zone)
	w.settle()
	leaf := w.issued(id).Leaf.ID
	w.done(w.Unwant(w.ctx, id, false))
	w.noted(id)
	w.pass(6 * 24 * time.Hour)
	w.settle()
	w.want("db." + zone)
	w.settle()
	if got := w.issued(id).Leaf.ID; got != leaf || w.faults.Requests(acmetest.NewOrderPath) != 1 {
		t.Errorf("another order was made")
	}
	w.done(w.Unwant(w.ctx, id, false))
	w.noted(id)
	w.pass(7 * 24 * time.Hour)
	w.settle()
	if _, err := w.Certificate(w.ctx, id); !problem.Is(err, problem.NotFound) {
		t.Errorf("after a week the certificate is still there: %v", err)
	}
	if items, _, err := w.docs.List(w.ctx, keyLeaves); err != nil || len(items) > 0 {
		t.Errorf("%d leaves are left, %v", len(items), err)
	}
}

func TestAPurgeDuringAnOrderRemovesItsRecordFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	id := w.want("db." + zone)
	w.faults.Fail(acmetest.ChallengePath, -1, acmetest.Cut)
	for len(w.dns.TXT("_acme-challenge.db."+zone)) == 0 {
		if did, next := w.step(); !did {
			w.pass(max(next.Sub(w.now()), time.Millisecond))
		}
	}
	cert := w.is(id)
	w.done(w.Unwant(w.ctx, id, true))
	w.noted(id)
	w.settle()
	w.clean(cert)
	if _, err := w.Certificate(w.ctx, id); !problem.Is(err, problem.NotFound) {
		t.Errorf("the certificate is still there: %v", err)
	}
}

func TestOtherNamesReplaceACertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	id := w.want("a." + zone)
	w.settle()
	first := w.issued(id)
	cert, err := w.Want(w.ctx, Want{ID: id, Space: "acme", Names: []string{"b." + zone}})
	w.done(err)
	w.noted(cert.ID)
	w.settle()
	second := w.issued(id)
	if second.Leaf.ID == first.Leaf.ID || second.Previous != first.Leaf.ID || !slices.Equal(second.Leaf.Names, []string{"b." + zone}) {
		t.Errorf("%+v", second)
	}
}

func TestAccountKeyRolloverKeepsTheAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	w.want("a." + zone)
	w.settle()
	before, err := w.Authorities(w.ctx)
	w.done(err)
	// The answer is lost, and it is not known whether the authority has the new key: the next order finds out.
	w.faults.Fail(acmetest.KeyChangePath, 1, acmetest.Lose)
	if err := w.Rollover(w.ctx, "pebble"); err == nil {
		t.Fatal("a rollover without an answer succeeded")
	}
	id := w.want("b." + zone)
	w.settle()
	w.issued(id)
	w.done(w.Rollover(w.ctx, "pebble"))
	after, err := w.Authorities(w.ctx)
	w.done(err)
	if before[0].Account != after[0].Account || after[0].Account == "" {
		t.Errorf("account %q became %q", before[0].Account, after[0].Account)
	}
	keys, _, err := w.docs.List(w.ctx, keyAccountKeys)
	w.done(err)
	if len(keys) != 1 || keys[0].Key != keyAccountKeys+"pebble/3" {
		t.Errorf("keys of the account: %d, %q", len(keys), keys[0].Key)
	}
	id = w.want("c." + zone)
	w.settle()
	w.issued(id)
}

func TestKeysAreSealedAnewUnderANewMasterKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	id := w.want("a." + zone)
	w.settle()
	leaf := w.issued(id).Leaf.ID
	_, before, err := w.LeafFiles(w.ctx, leaf)
	w.done(err)
	w.docs.Ring = docstoretest.Ring(t, append(seal.Generate(), w.master...))
	n, err := Reseal(w.ctx, w.docs)
	w.done(err)
	if n != 2 { // of the account and of the leaf
		t.Errorf("%d keys were sealed anew", n)
	}
	if n, err = Reseal(w.ctx, w.docs); n != 0 || err != nil {
		t.Errorf("a second time: %d, %v", n, err)
	}
	if _, after, err := w.LeafFiles(w.ctx, leaf); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key is not the same afterwards: %v", err)
	}
}
