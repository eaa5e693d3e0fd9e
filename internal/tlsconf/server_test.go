package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// gate is a space's CA, a public CA, and the proxy's certificates from both.
type gate struct {
	space, public    *testpki.CA
	trust            *ClientVerifier
	ecdsa, rsa, wild *Certificate
	private          *Certificate
	roots            *x509.CertPool
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{space: testpki.MustCA(t, "Space CA"), public: testpki.MustCA(t, "Public CA"), roots: x509.NewCertPool()}
	g.roots.AddCert(g.space.Cert)
	g.roots.AddCert(g.public.Cert)
	g.trust = mustTrust(t, TrustFiles{CAs: []File{{"ca", g.space.PEM()}}})
	below := g.public.MustIntermediate(t, testpki.Authority("Public intermediate"))
	issue := func(ca *testpki.CA, key testpki.Key, names ...string) *Certificate {
		template := testpki.Server(names...)
		template.Key = key
		pair := ca.MustIssue(t, template)
		c, err := ParseServerCertificate(pair.CertPEM, pair.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	g.private = issue(g.space, testpki.P256, "db.internal", "192.0.2.1")
	g.rsa = issue(below, testpki.RSA2048, "db.example.com")
	g.ecdsa = issue(below, testpki.P256, "db.example.com")
	g.wild = issue(below, testpki.P256, "*.example.com")
	return g
}

// server has all certificates, the private one as default.
func (g *gate) server() Server {
	return Server{Certificates: []*Certificate{g.rsa, g.private, g.wild, g.ecdsa}, Default: 1, ClientCAs: g.trust}
}

func (g *gate) client(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true}
}

func TestOnlyModernVersionsAreServed(t *testing.T) {
	g := newGate(t)
	for _, row := range []struct {
		floor, version uint16
		want           bool
	}{
		{0, tls.VersionTLS10, false},
		{0, tls.VersionTLS11, false},
		{0, tls.VersionTLS12, true},
		{0, tls.VersionTLS13, true},
		{tls.VersionTLS10, tls.VersionTLS11, false}, // no setting goes below 1.2
		{tls.VersionTLS12, tls.VersionTLS12, true},
		{tls.VersionTLS13, tls.VersionTLS12, false},
		{tls.VersionTLS13, tls.VersionTLS13, true},
	} {
		server := g.server()
		server.MinVersion = row.floor
		client := g.client("db.example.com")
		client.MinVersion, client.MaxVersion = row.version, row.version
		got := handshake(t, server.Config(), client)
		if got.failed() == row.want {
			t.Errorf("floor %s, client %s: %v, %v", tls.VersionName(row.floor), tls.VersionName(row.version), got.clientErr, got.serverErr)
		}
		if row.want && got.server.Version != row.version {
			t.Errorf("client %s: agreed on %s", tls.VersionName(row.version), tls.VersionName(got.server.Version))
		}
	}
}

func TestOnlyAuthenticatedEncryptionIsServed(t *testing.T) {
	config := newGate(t).server().Config()
	g, served := newGate(t), 0
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			continue
		}
		client := g.client("db.example.com")
		client.MaxVersion, client.CipherSuites = tls.VersionTLS12, []uint16{suite.ID}
		got := handshake(t, config, client)
		if want := slices.Contains(suites, suite.ID); got.failed() == want {
			t.Errorf("%s: %v, %v", suite.Name, got.clientErr, got.serverErr)
		} else if want {
			served++
			if got.server.CipherSuite != suite.ID {
				t.Errorf("%s: agreed on %s", suite.Name, tls.CipherSuiteName(got.server.CipherSuite))
			}
		}
	}
	if served != 6 {
		t.Errorf("%d suites of TLS 1.2 served, want 6", served)
	}
}

func TestSessionsAreNeverResumed(t *testing.T) {
	g := newGate(t)
	config := g.server().Config()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := g.client("db.example.com")
		client.MaxVersion = version
		client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		client.Certificates = []tls.Certificate{g.space.MustIssue(t, testpki.Client("app")).TLS()}
		for range 3 {
			got := handshake(t, config, client)
			if got.failed() {
				t.Fatal(got.clientErr, got.serverErr)
			}
			if got.client.DidResume || got.server.DidResume || len(got.server.PeerCertificates) != 1 {
				t.Errorf("%s: resumed, with %d certificates", tls.VersionName(version), len(got.server.PeerCertificates))
			}
		}
	}
}

func TestNameChoosesTheCertificateInTheHandshake(t *testing.T) {
	g := newGate(t)
	config := g.server().Config()
	for name, want := range map[string]*Certificate{
		"db.example.com":  g.ecdsa,
		"DB.Example.COM":  g.ecdsa,
		"db.example.com.": g.ecdsa, // Go's client drops the dot
		"db2.example.com": g.wild,
		"db.internal":     g.private,
		"elsewhere.test":  g.private,
		"192.0.2.1":       g.private, // Go's client sends no name
		"":                g.private,
	} {
		got := handshake(t, config, g.client(name))
		if got.failed() {
			t.Errorf("%q: %v, %v", name, got.clientErr, got.serverErr)
			continue
		}
		if !got.client.PeerCertificates[0].Equal(want.Leaf) {
			t.Errorf("%q: got %v, want %v", name, got.client.PeerCertificates[0].DNSNames, want.Names())
		}
	}
}

func TestWholeChainIsServed(t *testing.T) {
	g := newGate(t)
	client := &tls.Config{ServerName: "db.example.com", RootCAs: g.roots} // verifies
	got := handshake(t, g.server().Config(), client)
	if got.failed() {
		t.Fatal(got.clientErr, got.serverErr)
	}
	if len(got.client.PeerCertificates) != 2 || !got.client.PeerCertificates[1].Equal(g.ecdsa.Chain[1]) {
		t.Errorf("%d certificates came", len(got.client.PeerCertificates))
	}
}

func TestAlgorithmsOfTheClientChooseAmongCertificatesOfAName(t *testing.T) {
	g := newGate(t)
	config := g.server().Config()
	for _, row := range []struct {
		suite uint16
		want  *Certificate
	}{
		{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, g.rsa},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, g.ecdsa},
	} {
		client := g.client("db.example.com")
		client.MaxVersion, client.CipherSuites = tls.VersionTLS12, []uint16{row.suite}
		got := handshake(t, config, client)
		if got.failed() || !got.client.PeerCertificates[0].Equal(row.want.Leaf) {
			t.Errorf("%s: %v, %v", tls.CipherSuiteName(row.suite), got.clientErr, got.serverErr)
		}
	}
}

func TestDefaultHasTheAlgorithmsOfItsName(t *testing.T) {
	g := newGate(t)
	server := Server{Certificates: []*Certificate{g.private, g.rsa, g.ecdsa}, Default: 1}
	client := g.client("")
	if got := handshake(t, server.Config(), client); got.failed() || !got.client.PeerCertificates[0].Equal(g.ecdsa.Leaf) {
		t.Errorf("any algorithm: %v", got.clientErr)
	}
	client.MaxVersion, client.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if got := handshake(t, server.Config(), client); got.failed() || !got.client.PeerCertificates[0].Equal(g.rsa.Leaf) {
		t.Errorf("RSA only: %v", got.clientErr)
	}
}

func TestALPNIsPostgreSQLOrNothing(t *testing.T) {
	g := newGate(t)
	config := g.server().Config()
	for _, row := range []struct {
		offered []string
		want    string
		fails   bool
	}{
		{nil, "", false},
		{[]string{"postgresql"}, "postgresql", false},
		{[]string{"h2", "postgresql"}, "postgresql", false},
		{[]string{"h2"}, "", true},
		{[]string{"http/1.1"}, "", true},
		{[]string{"PostgreSQL"}, "", true},
	} {
		client := g.client("db.example.com")
		client.NextProtos = row.offered
		got := handshake(t, config, client)
		if got.failed() != row.fails || got.server.NegotiatedProtocol != row.want {
			t.Errorf("%q: agreed on %q: %v, %v", row.offered, got.server.NegotiatedProtocol, got.clientErr, got.serverErr)
		}
	}
}

// The handshake asks for a certificate and takes any, so that Judge can refuse readably; for every name alike.
func TestEveryNameVerifiesTheSameClients(t *testing.T) {
	g := newGate(t)
	stranger := testpki.MustCA(t, "Foreign CA")
	config := g.server().Config()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, name := range []string{"db.internal", "db.example.com", "db2.example.com", "elsewhere.test", ""} {
			for _, row := range []struct {
				ca   *testpki.CA
				want refusal.Reason
			}{
				{nil, refusal.NoClientCertificate},
				{g.space, ok},
				{g.public, refusal.CertificateUnknownCA},
				{stranger, refusal.CertificateUnknownCA},
			} {
				client := g.client(name)
				client.MaxVersion = version
				asked, offered := false, tls.Certificate{}
				if row.ca != nil {
					offered = row.ca.MustIssue(t, testpki.Client("app")).TLS()
				}
				client.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
					asked = len(request.AcceptableCAs) == 1 && bytes.Equal(request.AcceptableCAs[0], g.space.Cert.RawSubject)
					return &offered, nil
				}
				got := handshake(t, config, client)
				if got.failed() {
					t.Errorf("%q: %v, %v", name, got.clientErr, got.serverErr)
					continue
				}
				if !asked {
					t.Errorf("%q: not asked for a certificate of the space's CA", name)
				}
				judged{name, got.server.PeerCertificates, row.want, ""}.check(t, g.trust, time.Now())
			}
		}
	}
}

func TestClientAuthDecidesWhoIsAsked(t *testing.T) {
	g := newGate(t)
	for auth, want := range map[ClientAuth]bool{Required: true, Optional: true, Off: false} {
		server := g.server()
		server.ClientAuth = auth
		client, asked := g.client("db.internal"), false
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &tls.Certificate{}, nil
		}
		if got := handshake(t, server.Config(), client); got.failed() || asked != want {
			t.Errorf("client auth %d: asked is %v: %v", auth, asked, got.serverErr)
		}
	}
}

// RFC 6066 section 3 has no trailing dot in a name, and crypto/tls refuses such a ClientHello.
func TestTrailingDotInAClientHelloIsRefused(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		tls.Client(near, &tls.Config{ServerName: "db.example.comX", InsecureSkipVerify: true}).Handshake()
		near.Close()
	}()
	hello := make([]byte, 5)
	if _, err := io.ReadFull(far, hello); err != nil {
		t.Fatal(err)
	}
	hello = append(hello, make([]byte, int(hello[3])<<8|int(hello[4]))...)
	if _, err := io.ReadFull(far, hello[5:]); err != nil {
		t.Fatal(err)
	}
	far.Close()
	dotted := bytes.Replace(hello, []byte("db.example.comX"), []byte("db.example.com."), 1)
	if bytes.Equal(dotted, hello) {
		t.Fatal("the ClientHello does not hold the name")
	}
	client, server := net.Pipe()
	go func() {
		client.Write(dotted)
		io.Copy(io.Discard, client)
	}()
	chosen := false
	config := newGate(t).server().Config()
	get := config.GetCertificate
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		chosen = true
		return get(hello)
	}
	if err := tls.Server(server, config).Handshake(); err == nil || chosen {
		t.Errorf("chose a certificate: %v; %v", chosen, err)
	}
	server.Close()
	client.Close()
}

func TestConfigWithoutCertificatesFailsTheHandshake(t *testing.T) {
	if got := handshake(t, Server{}.Config(), &tls.Config{InsecureSkipVerify: true}); !got.failed() {
		t.Error("a handshake without a certificate")
	}
}
