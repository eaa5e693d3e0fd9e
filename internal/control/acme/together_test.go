package acme

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/acmetest"
)

// A leader whose process stood still may take itself for the leader for a while. Two of them ask for each certificate
// once, and the commits of one are the other's conflicts.
func TestTwoLeadersAtOnceOrderNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	other, err := New(w.options)
	w.done(err)
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	ended := make(chan error, 2)
	for _, m := range []*Manager{w.Manager, other} {
		go func() { ended <- m.Run(ctx) }()
	}
	const many = 12
	for i := range many {
		_, err := w.Want(w.ctx, Want{ID: fmt.Sprint(i), Space: "acme", Names: []string{fmt.Sprintf("db%d.%s", i, zone)}})
		w.done(err)
	}
	w.await(func() bool {
		for i := range many {
			if id := fmt.Sprint(i); w.is(id).Reason != Issued || w.hasOrder(id) {
				return false
			}
		}
		return true
	})
	stop()
	for range 2 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}
	for i := range many {
		w.issued(fmt.Sprint(i))
	}
	// Both may ask for an order that one of them has committed, before either has committed the answer.
	if n := w.faults.Requests(acmetest.NewOrderPath); n > 2*many {
		t.Errorf("%d orders for %d certificates", n, many)
	}
	if keys, _, err := w.docs.List(w.ctx, keyLeaves); err != nil || len(keys) != many {
		t.Errorf("%d leaves for %d certificates, %v", len(keys), many, err)
	}
}

func TestThePreferredRootIsTakenByItsFingerprint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{Roots: 2}, nil, func(w *world, o *Options) {
		o.Roots = x509.NewCertPool()
		for n := range 3 {
			o.Roots.AppendCertsFromPEM(w.ca.Root(n))
		}
		block, _ := pem.Decode(w.ca.Root(2))
		if block == nil {
			t.Fatal("the root is no PEM")
		}
		root := sha256.Sum256(block.Bytes)
		o.PreferredRoot = hex.EncodeToString(root[:])
	})
	id := w.want("db." + zone)
	w.settle()
	chainPEM, _, err := w.LeafFiles(w.ctx, w.is(id).Leaf.ID)
	w.done(err)
	chain, err := parseChain(chainPEM)
	w.done(err)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(w.ca.Root(2))
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		t.Error(err)
	}
	// One that no chain leads to costs no certificate.
	w.options.PreferredRoot = hex.EncodeToString(make([]byte, 32))
	id = w.want("other." + zone)
	w.settle()
	w.issued(id)
}

func FuzzChain(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"))
	key, _, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if chain, err := parseChain(text); err == nil {
			_ = checkChain(chain, key, []string{"db.example.com"}, time.Now())
		}
	})
}
