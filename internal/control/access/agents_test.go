package access

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/problem"
)

// holder is an agent's side: a key, and the certificate that it got for it.
type holder struct {
	keyPEM      []byte
	csr         []byte
	certificate *x509.Certificate
	pem         string
}

func newHolder(t *testing.T) *holder {
	t.Helper()
	key, keyPEM, err := authority.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &holder{keyPEM: keyPEM, csr: csr}
}

func (h *holder) take(t *testing.T, c Certified) {
	t.Helper()
	block, _ := pem.Decode([]byte(c.CertificatePEM))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	h.certificate, h.pem = certificate, c.CertificatePEM
}

// enrolled is an agent of db-1's proxy p.
func enrolled(t *testing.T, a *Access) (*holder, AgentInfo) {
	t.Helper()
	caller := invited(t, a)
	h := newHolder(t)
	certified, err := a.Agents.Enrol(t.Context(), caller, h.csr)
	if err != nil {
		t.Fatal(err)
	}
	h.take(t, certified)
	return h, certified.Agent
}

func invited(t *testing.T, a *Access) Caller {
	t.Helper()
	_, presented, err := a.Agents.Invite(t.Context(), Place{Database: "db-1", Proxy: "p"}, "admin")
	if err != nil {
		t.Fatal(err)
	}
	caller, err := a.Tokens.Check(t.Context(), presented)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

func TestAgentIsKnownByItsCertificateOnEveryDaemon(t *testing.T) {
	site := newSite(t)
	a, other := site.open(t), site.open(t)
	h, agent := enrolled(t, a)
	caller, err := other.Agents.Check(t.Context(), h.certificate)
	if err != nil || caller.Kind != Agent || caller.ID != agent.ID || caller.Database != "db-1" || caller.Proxy != "p" || caller.Name != "agent:"+agent.ID {
		t.Fatalf("got %+v, %v", caller, err)
	}
	if agents, err := a.Agents.List(t.Context()); err != nil || len(agents) != 1 || !agents[0].LastSeen.Equal(start) {
		t.Errorf("got %+v, %v", agents, err)
	}
	if _, err := a.Agents.Revoke(t.Context(), agent.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Agents.Check(t.Context(), h.certificate); !errors.Is(err, ErrUnknown) {
		t.Errorf("after it was revoked: %v", err)
	}
	_, err = a.Agents.Revoke(t.Context(), agent.ID)
	wantError(t, err, problem.NotFound)
}

func TestEnrolmentTokenIsGoodOnce(t *testing.T) {
	site := newSite(t)
	a, other := site.open(t), site.open(t)
	for range 10 {
		caller := invited(t, a)
		errs := make([]error, 6)
		var racing sync.WaitGroup
		for i := range errs {
			csr := newHolder(t).csr
			racing.Go(func() { _, errs[i] = []*Access{a, other}[i%2].Agents.Enrol(t.Context(), caller, csr) })
		}
		racing.Wait()
		in := 0
		for _, err := range errs {
			if err == nil {
				in++
			} else if !errors.Is(err, ErrUnknown) {
				t.Errorf("got %v", err)
			}
		}
		if in != 1 {
			t.Fatalf("%d got in", in)
		}
	}
	agents, err := a.Agents.List(t.Context())
	if err != nil || len(agents) != 1 {
		t.Errorf("the proxy has the agents %+v, %v; want the last one alone", agents, err)
	}
	if tokens, err := a.Tokens.List(t.Context()); err != nil || len(tokens) != 0 {
		t.Errorf("tokens are left: %+v, %v", tokens, err)
	}
}

func TestEnrolmentTokenEndsAfterAnHour(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	_, presented, err := a.Agents.Invite(t.Context(), Place{Database: "db-1", Proxy: "p"}, "admin")
	if err != nil {
		t.Fatal(err)
	}
	site.pass(time.Hour)
	if _, err := a.Tokens.Check(t.Context(), presented); !errors.Is(err, ErrExpired) {
		t.Errorf("got %v", err)
	}
}

func TestBadRequestLeavesTheEnrolmentToken(t *testing.T) {
	a := newSite(t).open(t)
	caller := invited(t, a)
	_, err := a.Agents.Enrol(t.Context(), caller, []byte("no request"))
	wantError(t, err, problem.InvalidParams)
	if _, err := a.Agents.Enrol(t.Context(), caller, newHolder(t).csr); err != nil {
		t.Errorf("with a good one: %v", err)
	}
}

func TestOtherCallersDoNotEnrolAndDoNotRenew(t *testing.T) {
	a := newSite(t).open(t)
	for _, caller := range []Caller{{}, {Kind: All, ID: "1"}, {Kind: Database, Database: "db-1"}, {Kind: Read}} {
		if _, err := a.Agents.Enrol(t.Context(), caller, newHolder(t).csr); err == nil {
			t.Errorf("%+v enrolled", caller)
		}
		if _, err := a.Agents.Renew(t.Context(), caller, newHolder(t).csr); err == nil {
			t.Errorf("%+v renewed", caller)
		}
	}
}

func TestRenewedCertificateReplacesTheOldOneWhenItIsUsed(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	old, agent := enrolled(t, a)
	check := func(h *holder) error { _, err := a.Agents.Check(t.Context(), h.certificate); return err }
	renew := func() *holder {
		t.Helper()
		caller, err := a.Agents.Check(t.Context(), old.certificate)
		if err != nil {
			t.Fatal(err)
		}
		h := newHolder(t)
		certified, err := a.Agents.Renew(t.Context(), caller, h.csr)
		if err != nil {
			t.Fatal(err)
		}
		h.take(t, certified)
		return h
	}
	site.pass(60 * 24 * time.Hour)
	lost := renew() // its answer never arrived
	fresh := renew()
	caller, err := a.Agents.Check(t.Context(), old.certificate)
	if err != nil {
		t.Fatalf("the old one, before the new one was used: %v", err)
	}
	if err := check(lost); !errors.Is(err, ErrUnknown) {
		t.Errorf("the one that was renewed over: %v", err)
	}
	held, stop := a.Hold(soon(t), caller)
	defer stop()
	if err := check(fresh); err != nil {
		t.Fatal(err)
	}
	<-held.Done() // what the old one has open ends
	if err := context.Cause(held); !errors.Is(err, ErrUnknown) {
		t.Errorf("what the old one has open: %v", err)
	}
	if err := check(old); !errors.Is(err, ErrUnknown) {
		t.Errorf("the old one, after the new one was used: %v", err)
	}
	agents, err := a.Agents.List(t.Context())
	if err != nil || len(agents) != 1 || agents[0].ID != agent.ID || agents[0].Serial != serialText(fresh.certificate) || !agents[0].ExpiresAt.Equal(fresh.certificate.NotAfter) {
		t.Errorf("got %+v, %v", agents, err)
	}
}

func TestNewEnrolmentEndsTheAgentBefore(t *testing.T) {
	site := newSite(t)
	a, other := site.open(t), site.open(t)
	first, _ := enrolled(t, a)
	caller, err := a.Agents.Check(t.Context(), first.certificate)
	if err != nil {
		t.Fatal(err)
	}
	held, stop := other.Hold(soon(t), caller)
	defer stop()
	second, _ := enrolled(t, a)
	<-held.Done()
	if err := context.Cause(held); !errors.Is(err, ErrUnknown) {
		t.Errorf("the first one's stream: %v", err)
	}
	if _, err := a.Agents.Check(t.Context(), first.certificate); !errors.Is(err, ErrUnknown) {
		t.Errorf("the first one: %v", err)
	}
	if _, err := a.Agents.Check(t.Context(), second.certificate); err != nil {
		t.Errorf("the second one: %v", err)
	}
}

func TestAgentsOfARemovedProxyEnd(t *testing.T) {
	a := newSite(t).open(t)
	h, _ := enrolled(t, a)
	if ended, err := a.Agents.RevokeFor(t.Context(), "db-1", []string{"p", "q"}); err != nil || len(ended) != 0 {
		t.Errorf("ended %v, %v", ended, err)
	}
	if ended, err := a.Agents.RevokeFor(t.Context(), "db-2", nil); err != nil || len(ended) != 0 {
		t.Errorf("ended %v, %v", ended, err)
	}
	if ended, err := a.Agents.RevokeFor(t.Context(), "db-1", []string{"q"}); err != nil || len(ended) != 1 {
		t.Errorf("ended %v, %v", ended, err)
	}
	if _, err := a.Agents.Check(t.Context(), h.certificate); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestAgentIsSeenOnceAMinute(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	h, agent := enrolled(t, a)
	revision := func() int64 {
		t.Helper()
		caller, err := a.Agents.Check(t.Context(), h.certificate)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Agents.Seen(t.Context(), caller); err != nil {
			t.Fatal(err)
		}
		item, err := site.docs.Get(t.Context(), keyAgents+agent.ID)
		if err != nil {
			t.Fatal(err)
		}
		return item.Revision
	}
	first := revision()
	site.pass(59 * time.Second)
	if revision() != first {
		t.Error("it was written again within the minute")
	}
	site.pass(time.Second)
	if revision() == first {
		t.Error("it was not written after a minute")
	}
}

func TestCertificatesThatNameNoAgentAreNobodys(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	h, _ := enrolled(t, a)
	server, err := a.Control.certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Agents.Check(t.Context(), server.Leaf); !errors.Is(err, ErrUnknown) {
		t.Errorf("the API's own certificate: %v", err)
	}
	site.pass(leafLife + time.Second)
	if _, err := a.Agents.Check(t.Context(), h.certificate); !errors.Is(err, ErrExpired) {
		t.Errorf("one that expired on an open connection: %v", err)
	}
}

func TestAPICertificateIsVerifiedAndRenewed(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	h, _ := enrolled(t, a)
	config := a.Control.TLSConfig(nil)
	first := dial(t, config, site, clientConfig(t, a, h))
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "control.example.com"} {
		if err := first.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	site.pass(59 * 24 * time.Hour)
	if again := dial(t, config, site, clientConfig(t, a, h)); !again.Equal(first) {
		t.Error("it was made new before its time")
	}
	site.pass(24 * time.Hour)
	if again := dial(t, config, site, clientConfig(t, a, nil)); again.Equal(first) || again.NotAfter.Sub(site.now()) != leafLife {
		t.Errorf("after two thirds of its life it ends at %s", again.NotAfter)
	}
	// Nothing outlives the CA.
	site.pass(10*365*24*time.Hour - 70*24*time.Hour)
	if last := dial(t, config, site, clientConfig(t, a, nil)); last.NotAfter.Sub(site.now()) >= leafLife {
		t.Errorf("it ends at %s", last.NotAfter)
	}
}

// The daemon's clock was ahead for a minute, in which an agent came: its certificate of the future is not shown to others.
func TestAPICertificateOfTheFutureIsReplacedAtOnce(t *testing.T) {
	site := newSite(t)
	a := site.open(t)
	config := a.Control.TLSConfig(nil)
	for _, ahead := range []time.Duration{10 * time.Minute, 61 * 24 * time.Hour} {
		site.pass(ahead)
		dial(t, config, site, clientConfig(t, a, nil))
		site.pass(-ahead)
		if leaf := dial(t, config, site, clientConfig(t, a, nil)); leaf.NotBefore.After(site.now()) {
			t.Errorf("%s after the clock was %s ahead: the API's certificate is valid from %s", site.now(), ahead, leaf.NotBefore)
		}
	}
}

func TestStrangersCertificatesEndInTheHandshake(t *testing.T) {
	site := newSite(t)
	a, elsewhere := site.open(t), newSite(t).open(t)
	h, _ := enrolled(t, elsewhere)
	config := clientConfig(t, a, h)
	client, server := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- tls.Server(server, a.Control.TLSConfig(nil)).HandshakeContext(soon(t)) }()
	connection := tls.Client(client, config)
	go connection.HandshakeContext(soon(t))
	if err := <-done; err == nil {
		t.Error("a certificate of another control plane was taken")
	}
	client.Close()
	server.Close()
}

func clientConfig(t *testing.T, a *Access, h *holder) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.Control.CertificatePEM()))
	config := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Time: a.now}
	if h != nil {
		pair, err := tls.X509KeyPair([]byte(h.pem), h.keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config
}

// dial makes a handshake on both sides, and gives the server's certificate.
func dial(t *testing.T, config *tls.Config, site *site, client *tls.Config) *x509.Certificate {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	done := make(chan error, 1)
	go func() { done <- tls.Server(far, config).HandshakeContext(soon(t)) }()
	connection := tls.Client(near, client)
	if err := connection.HandshakeContext(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return connection.ConnectionState().PeerCertificates[0]
}
