package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/seal"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/testkit/acmetest"
)

const zone = "example.test"

// world is a manager with a real store, a real authority and a real name server. Its clock moves on only when there is
// nothing to do before its next moment.
type world struct {
	*Manager
	t      testing.TB
	ctx    context.Context
	dns    *acmetest.DNS
	ca     *acmetest.CA
	faults *acmetest.Faults
	q      *queue
	master []byte // the key file

	mu     sync.Mutex
	moment time.Time
	events []Event
}

// newWorld starts all of it. Adjust changes what the manager is made of.
func newWorld(t testing.TB, authority acmetest.Options, records []string, adjust func(*world, *Options)) *world {
	t.Helper()
	w := &world{t: t, moment: time.Now().UTC()}
	w.dns = acmetest.StartDNS(t, zone, records...)
	authority.DNS = w.dns.Address
	if authority.CAAIdentities == nil {
		authority.CAAIdentities = []string{"pebble.test"}
	}
	w.ca = acmetest.StartCA(t, authority)
	w.faults = acmetest.StartFaults(t, w.ca)
	w.faults.SetClock(w.clock)
	options := Options{
		CAs:       []CA{{Name: "pebble", Directory: w.faults.Directory, Contact: "ops@example.com"}},
		Solver:    w.solver(),
		Resolver:  Resolver{Servers: []string{w.dns.Address}},
		Check:     []string{w.dns.Address},
		Transport: w.faults.Client(),
	}
	if adjust != nil {
		adjust(w, &options)
	}
	w.open(options)
	return w
}

// open makes the manager on a store of its own.
func (w *world) open(options Options) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	w.t.Cleanup(cancel)
	w.ctx = ctx
	log := docstoretest.Log(w.t)
	options.Docs = docstoretest.Open(w.t)
	w.master = seal.Generate()
	options.Docs.Ring = docstoretest.Ring(w.t, w.master)
	options.Now, options.Log = w.clock, log
	options.Record = func(_ *store.Tx, e Event) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
		return nil
	}
	m, err := New(options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Manager = m
	w.restart()
}

func (w *world) solver() *RFC2136 {
	return &RFC2136{Server: w.dns.Address, Zone: w.dns.Zone, Key: TSIGKey{Name: w.dns.KeyName, Algorithm: w.dns.KeyAlgorithm, secret: w.dns.KeySecret}}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moment
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moment = w.moment.Add(d)
}

// restart forgets all that a leader has in memory, as its end and the next one's start would.
func (w *world) restart() {
	w.t.Helper()
	for _, a := range w.authorities {
		a.budget.forget()
		w.done(a.budget.load(w.ctx))
	}
	w.q = newQueue(w.Manager)
	_, err := w.fill(w.ctx, w.q)
	w.done(err)
}

// step does the next thing that is due, one worker's, and reports whether there was one; if not, next is when there
// will be.
func (w *world) step() (did bool, next time.Time) {
	w.t.Helper()
	w.done(w.ctx.Err())
	j, next := w.q.next(w.now())
	if j == nil {
		return false, next
	}
	j.running = true
	w.finish(w.q, w.work(w.ctx, j))
	return true, time.Time{}
}

// settle does all that is due now, and gives when there will be more to do. Pauses of seconds, for polls, go by.
func (w *world) settle() (next time.Time) {
	w.t.Helper()
	for {
		did, next := w.step()
		switch wait := next.Sub(w.now()); {
		case did:
		case next.IsZero() || wait > 10*time.Second:
			return next
		default:
			w.pass(max(wait, time.Millisecond))
			// A poll of the real authority, which takes real time.
			<-time.After(time.Millisecond)
		}
	}
}

// want has a certificate wanted for a host of the zone, and gives its id.
func (w *world) want(names ...string) string {
	w.t.Helper()
	return w.wantIn("acme", names...)
}

func (w *world) wantIn(space string, names ...string) string {
	w.t.Helper()
	cert, err := w.Want(w.ctx, Want{ID: "id-of-" + strings.ReplaceAll(names[0], "*", "star"), Space: space, Names: slices.Clone(names)})
	w.done(err)
	w.noted(cert.ID)
	return cert.ID
}

// noted has the queue hear of a change, as it does of the store.
func (w *world) noted(id string) {
	w.t.Helper()
	item, err := w.docs.Get(w.ctx, keyCertificates+id)
	w.done(err)
	w.learn(w.q, store.Event{Item: item})
}

// is gives a certificate as it is.
func (w *world) is(id string) Certificate {
	w.t.Helper()
	cert, err := w.Certificate(w.ctx, id)
	w.done(err)
	return cert
}

func (w *world) done(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// issued wants a certificate to have a leaf that its authority's root vouches for, and nothing to be left of its order.
func (w *world) issued(id string) Certificate {
	w.t.Helper()
	cert := w.is(id)
	if cert.Reason != Issued || cert.Leaf == nil {
		w.t.Fatalf("certificate %s is %s: %s", id, cert.Reason, cert.Detail)
	}
	chainPEM, keyPEM, err := w.LeafFiles(w.ctx, cert.Leaf.ID)
	w.done(err)
	chain, err := parseChain(chainPEM)
	w.done(err)
	key, err := parseKey(keyPEM)
	w.done(err)
	w.done(checkChain(chain, key, cert.Names, w.now()))
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM(w.ca.Root(0))
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	name := strings.Replace(cert.Names[0], "*", "any", 1)
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name}); err != nil {
		w.t.Errorf("certificate %s: %v", id, err)
	}
	w.clean(cert)
	return cert
}

// clean wants nothing to be left of a certificate's order, in the DNS or in the store.
func (w *world) clean(cert Certificate) {
	w.t.Helper()
	for _, name := range cert.Names {
		if left := w.dns.TXT(challengeName(name)); len(left) > 0 {
			w.t.Errorf("records are left at %s: %q", challengeName(name), left)
		}
	}
	for _, key := range []string{keyOrders + cert.ID, keyOrderKeys + cert.ID} {
		if _, err := w.docs.Get(w.ctx, key); !errors.Is(err, store.ErrNotFound) {
			w.t.Errorf("%s is left: %v", key, err)
		}
	}
}

// waits wants a certificate to wait for a reason, with a text in its detail.
func (w *world) waits(id string, reason Reason, text string) Progress {
	w.t.Helper()
	p, err := w.Progress(w.ctx, w.is(id))
	w.done(err)
	if p.Reason != reason || !strings.Contains(p.Detail, text) {
		w.t.Errorf("certificate %s waits for %s: %q, want %s: %q", id, p.Reason, p.Detail, reason, text)
	}
	return p
}

// kinds are those of the events so far.
func (w *world) kinds() (kinds []EventKind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// contents are all values of the store.
func (w *world) contents() []byte {
	w.t.Helper()
	items, _, err := w.docs.List(w.ctx, "")
	w.done(err)
	var all bytes.Buffer
	for _, item := range items {
		all.WriteString(item.Key)
		all.Write(item.Value)
	}
	return all.Bytes()
}

func keyDER(t testing.TB, keyPEM []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		t.Fatal("the key is no PEM")
	}
	return block.Bytes
}
