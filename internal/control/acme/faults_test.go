package acme

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/acmetest"
)

// Whatever an authority answers, nothing breaks, the reason is told, and once it is well again the certificate comes.
func TestAnAuthorityThatMisbehavesOnlyDelaysACertificate(t *testing.T) {
	t.Parallel()
	type misbehaviour struct {
		name string
		path string
		do   acmetest.Fault
		text string // of the detail
	}
	foreign := `{"status":"pending","identifiers":[{"type":"dns","value":"%s"}],"authorizations":["https://192.0.2.1/a"],"finalize":"https://192.0.2.1/f"}`
	cases := []misbehaviour{
		{"connection cut at the directory", acmetest.DirectoryPath, acmetest.Cut, "ask the authority"},
		{"connection cut", acmetest.NewOrderPath, acmetest.Cut, "ask the authority"},
		{"answer to the order lost", acmetest.NewOrderPath, acmetest.Lose, "ask the authority"},
		{"answer to the challenge lost", acmetest.ChallengePath, acmetest.Lose, "ask the authority"},
		{"answer to the request lost", acmetest.FinalizePath, acmetest.Lose, "ask the authority"},
		{"answer with the chain lost", acmetest.CertificatePath, acmetest.Lose, "ask the authority"},
		{"challenge answered twice", acmetest.ChallengePath, twice, ""},
		{"request made twice", acmetest.FinalizePath, acmetest.Problem(http.StatusForbidden, "orderNotReady", "it is valid already"), ""},
		{"answer without a document", acmetest.NewOrderPath, acmetest.Answer(http.StatusOK, "application/json", "{}"), "an order without its URLs"},
		{"HTML", acmetest.NewOrderPath, acmetest.Answer(http.StatusOK, "text/html", "<h1>hello</h1>"), "text/html"},
		{"malformed JSON", acmetest.NewOrderPath, acmetest.Answer(http.StatusOK, "application/json", `{"status":`), "JSON"},
		{"another name", acmetest.NewOrderPath, acmetest.Answer(http.StatusCreated, "application/json", strings.ReplaceAll(foreign, "%s", "other.example.test"), "Location", "https://192.0.2.1/o"), "for other names"},
		{"a body of 400 MB", acmetest.NewOrderPath, acmetest.Endless("application/json", 400<<20), "more than 262144 bytes"},
		{"a redirect", acmetest.NewOrderPath, acmetest.Answer(http.StatusFound, "text/plain", "", "Location", "https://192.0.2.1/"), "302"},
		{"an internal error", acmetest.NewOrderPath, acmetest.Problem(http.StatusInternalServerError, "serverInternal", "we are sorry"), "we are sorry"},
		{"an error page", acmetest.NewOrderPath, acmetest.Answer(http.StatusBadGateway, "text/html", "<h1>bad gateway</h1>"), "status 502"},
		{"an authorization without a name", acmetest.AuthzPath, acmetest.Answer(http.StatusOK, "application/json", "{}"), "an authorization without"},
		{"an order without a status", acmetest.OrderPath, acmetest.Answer(http.StatusOK, "application/json", "{}"), "an order without a status"},
		{"a chain of another kind", acmetest.CertificatePath, acmetest.Answer(http.StatusOK, "application/json", "{}"), "application/json"},
		{"a body of 400 MB for a chain", acmetest.CertificatePath, acmetest.Endless("application/pem-certificate-chain", 400<<20), "more than 262144 bytes"},
		{"a broken endpoint for renewal information", acmetest.RenewalInfoPath, acmetest.Cut, ""},
	}
	w := newWorld(t, acmetest.Options{}, nil, nil)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			_ = w.authorities[0].client.current()
			if c.path == acmetest.DirectoryPath {
				w.faults.Fail(acmetest.NewNoncePath, 1, c.do) // the directory is remembered
			}
			w.faults.Fail(c.path, 1, c.do)
			orders := w.faults.Requests(acmetest.NewOrderPath)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			id := w.want(strings.Map(func(r rune) rune {
				if r == ' ' {
					return '-'
				}
				return r
			}, strings.ToLower(c.name)) + "." + zone)
			var seen []string
			for w.is(id).Reason != Issued || w.hasOrder(id) {
				p, err := w.Progress(w.ctx, w.is(id))
				w.done(err)
				seen = append(seen, p.Detail)
				if did, next := w.step(); !did {
					w.pass(max(next.Sub(w.now()), time.Millisecond))
				}
			}
			w.issued(id)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 100<<20 {
				t.Errorf("%d MB were allocated", grown>>20)
			}
			if c.text != "" && !slices.ContainsFunc(seen, func(s string) bool { return strings.Contains(s, c.text) }) {
				t.Errorf("no detail has %q: %q", c.text, slices.Compact(seen))
			}
			if n := w.faults.Requests(acmetest.NewOrderPath) - orders; n > 2 {
				t.Errorf("%d orders were asked for", n)
			}
			w.faults.Heal()
		})
	}
	if got := w.kinds(); slices.Contains(got, EventFailed) {
		t.Errorf("trouble of the authority counted as a failure of a certificate: %q", got)
	}
}

// twice passes a request on, and answers as an authority does that was told before.
func twice(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	forward.ServeHTTP(httptest.NewRecorder(), r)
	acmetest.Problem(http.StatusBadRequest, "malformed", "Cannot update challenge with status processing, only status pending")(w, r, forward)
}

// hasOrder reports whether an order of a certificate is under way.
func (w *world) hasOrder(id string) bool {
	w.t.Helper()
	o, err := w.order(w.ctx, id)
	w.done(err)
	return o != nil
}

func TestNothingIsAskedBeforeRetryAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		path   string
		do     acmetest.Fault
		reason Reason
		wait   time.Duration
	}{
		{"429 for three seconds", acmetest.NewOrderPath, acmetest.Problem(429, "rateLimited", "too many", "Retry-After", "3"), RateLimited, 3 * time.Second},
		{"429 for an hour", acmetest.NewOrderPath, acmetest.Problem(429, "rateLimited", "too many", "Retry-After", "3600"), RateLimited, time.Hour},
		{"503 for an hour", acmetest.NewOrderPath, acmetest.Answer(503, "text/plain", "later", "Retry-After", "3600"), CAUnavailable, time.Hour},
		{"429 within a challenge", acmetest.ChallengePath, acmetest.Problem(429, "rateLimited", "too many", "Retry-After", "86400"), RateLimited, 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, acmetest.Options{}, nil, nil)
			w.want("warm-up." + zone)
			w.settle()
			w.faults.Fail(c.path, 1, c.do)
			id := w.want("db." + zone)
			for w.is(id).Reason != c.reason && w.authorities[0].budget.awaySince().IsZero() {
				if did, next := w.step(); !did {
					w.pass(max(next.Sub(w.now()), time.Millisecond))
				}
			}
			limited := w.now()
			until := limited.Add(c.wait).Add(-time.Second) // dates in headers are of whole seconds
			p := w.waits(id, c.reason, "")
			if p.NextAttempt.Before(until) {
				t.Errorf("next attempt %s after the answer, want %s", p.NextAttempt.Sub(limited), c.wait)
			}
			w.restart() // the next leader knows it as well
			// When other certificates are to be renewed may be asked: what was limited is this one.
			count := func() int { return w.faults.Requests("/") - w.faults.Requests(acmetest.RenewalInfoPath) }
			asked := count()
			for {
				did, next := w.step()
				if !did && next.After(until) || w.now().After(until) {
					break
				}
				if !did {
					w.pass(max(next.Sub(w.now()), time.Millisecond))
				}
			}
			if n := count() - asked; n > 0 {
				t.Errorf("%d requests before the time that the authority asked for", n)
			}
			for w.is(id).Leaf == nil && w.now().Before(limited.Add(c.wait+2*time.Hour)) {
				if did, next := w.step(); !did {
					w.pass(max(next.Sub(w.now()), time.Millisecond))
				}
			}
			w.settle()
			w.issued(id)
		})
	}
}

// What the authority refuses for good is told in its words, costs one try a day at most, and holds up nobody else.
func TestARefusalIsToldAndNotRepeatedInALoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{Blocked: []string{"blocked." + zone}}, nil, nil)
	blocked := w.want("blocked." + zone)
	fine := w.want("fine." + zone)
	w.settle()
	w.issued(fine)
	p := w.waits(blocked, Rejected, "forbidden")
	if wait := p.NextAttempt.Sub(w.now()); wait < 23*time.Hour {
		t.Errorf("tried again after %s", wait)
	}
	w.clean(w.is(blocked))
}

func TestAFailedChallengeWaitsLongerEachTimeAndLeavesNoRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	solver := w.options.Solver
	w.options.Solver = solverFunc(func(ctx context.Context, present bool, record TXT) error {
		record.Value = "wrong"
		if present {
			return solver.Present(ctx, record)
		}
		return solver.Remove(ctx, record)
	})
	id := w.want("db." + zone)
	for _, want := range []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour, 24 * time.Hour} {
		w.settle()
		for w.hasOrder(id) { // two minutes are for name servers that are slow
			if did, next := w.step(); !did {
				w.pass(max(next.Sub(w.now()), time.Millisecond))
			}
		}
		cert := w.is(id)
		w.waits(id, DNSFailed, "")
		if wait := cert.NotBefore.Sub(cert.Since); wait != want {
			t.Errorf("failure %d: waits for %s, want %s", cert.Failures, wait, want)
		}
		w.clean(cert)
		w.pass(cert.NotBefore.Sub(w.now()))
	}
	w.options.Solver = solver
	w.settle()
	w.issued(id)
}

func TestTheNextAuthorityIsTriedAfterThreeFailuresAndTheFirstAtTheNextRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{Blocked: nil}, nil, func(w *world, o *Options) {
		second := acmetest.StartCA(t, acmetest.Options{DNS: w.dns.Address, CAAIdentities: []string{"second.test"}})
		front := acmetest.StartFaults(t, second)
		front.SetClock(w.clock)
		o.CAs = append(o.CAs, CA{Name: "second", Directory: front.Directory})
		o.Transport = both{w.faults, front}
	})
	w.faults.Fail(acmetest.NewOrderPath, -1, acmetest.Problem(http.StatusForbidden, "unauthorized", "not today"))
	id := w.want("db." + zone)
	for w.is(id).Leaf == nil {
		w.settle()
		if cert := w.is(id); cert.Leaf == nil {
			w.pass(cert.NotBefore.Sub(w.now()))
		}
	}
	if n := w.faults.Requests(acmetest.NewOrderPath); n != 3 {
		t.Errorf("the first authority was asked %d times", n)
	}
	if leaf := w.is(id).Leaf; leaf.CA != "second" {
		t.Errorf("issued by %s", leaf.CA)
	}
	w.faults.Heal()
	w.done(w.Renew(w.ctx, id, false))
	w.noted(id)
	w.settle()
	if cert := w.issued(id); cert.Leaf.CA != "pebble" {
		t.Errorf("renewed by %s", cert.Leaf.CA)
	}
}

// both is a transport that trusts two authorities, each by its own.
type both struct{ first, second *acmetest.Faults }

func (b both) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(b.first.Directory, r.URL.Host) {
		return b.first.Client().RoundTrip(r)
	}
	return b.second.Client().RoundTrip(r)
}

func TestAnAccountThatTheAuthorityForgotIsMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	w.want("a." + zone)
	w.settle()
	before, err := w.Authorities(w.ctx)
	w.done(err)
	w.faults.Fail(acmetest.NewOrderPath, 1, acmetest.Problem(http.StatusBadRequest, "accountDoesNotExist", "who are you"))
	id := w.want("b." + zone)
	accounts := w.faults.Requests(acmetest.NewAccountPath)
	w.settle()
	w.pass(time.Minute)
	w.settle()
	w.issued(id)
	if n := w.faults.Requests(acmetest.NewAccountPath) - accounts; n != 1 {
		t.Errorf("%d requests for an account", n)
	}
	after, err := w.Authorities(w.ctx)
	w.done(err)
	if after[0].Account != before[0].Account { // Pebble still knows the key
		t.Errorf("account %q became %q", before[0].Account, after[0].Account)
	}
}

func TestExternalAccountBindingIsUsedWhereItIsNeeded(t *testing.T) {
	t.Parallel()
	const mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	for _, c := range []struct {
		name string
		eab  *EAB
		text string // of the problem; empty: none
	}{
		{"right", &EAB{KeyID: "kid-1", MACKey: mac}, ""},
		{"wrong", &EAB{KeyID: "kid-1", MACKey: strings.Repeat("A", 64)}, "external account binding"},
		{"none", nil, "external account binding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, acmetest.Options{EAB: map[string]string{"kid-1": mac}}, nil, func(_ *world, o *Options) { o.CAs[0].EAB = c.eab })
			id := w.want("db." + zone)
			next := w.settle()
			if c.text == "" {
				w.issued(id)
				return
			}
			p, err := w.Progress(w.ctx, w.is(id))
			w.done(err)
			if p.Reason != AccountProblem || !strings.Contains(strings.ToLower(p.Detail), c.text) {
				t.Errorf("%+v", p)
			}
			if wait := next.Sub(w.now()); wait < 50*time.Second {
				t.Errorf("tried again after %s", wait)
			}
			if strings.Contains(p.Detail, mac) {
				t.Error("the key is shown")
			}
		})
	}
}

func TestAWrongClockOrdersNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	w.faults.SetClock(func() time.Time { return w.clock().Add(-48 * time.Hour) })
	id := w.want("db." + zone)
	w.settle()
	if n := w.faults.Requests(acmetest.NewOrderPath); n != 0 {
		t.Errorf("%d orders", n)
	}
	w.faults.SetClock(w.clock)
	w.pass(troubleWait)
	w.settle()
	w.pass(troubleWait)
	w.settle()
	w.issued(id)
}

// A chain that a proxy would refuse is not kept: the policy with it would be refused as a whole.
func TestAChainThatCantBeServedIsNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	first := w.want("first." + zone)
	w.settle()
	foreign, _, err := w.LeafFiles(w.ctx, w.issued(first).Leaf.ID)
	w.done(err)
	w.faults.Fail(acmetest.CertificatePath, 1, acmetest.Answer(http.StatusOK, "application/pem-certificate-chain", string(foreign)))
	id := w.want("db." + zone)
	w.settle()
	w.waits(id, BadChain, "another key")
	w.clean(w.is(id))
	if cert := w.is(id); cert.Leaf != nil {
		t.Error("it was kept")
	}
	w.pass(time.Minute)
	w.settle()
	w.issued(id)
}
