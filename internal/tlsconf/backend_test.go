package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

func TestBackendModesVerifyWhatTheySay(t *testing.T) {
	ca, stranger := testpki.MustCA(t, "Backend CA"), testpki.MustCA(t, "Stranger")
	below := ca.MustIntermediate(t, testpki.Authority("Intermediate"))
	named := below.MustIssue(t, testpki.Server("pg.internal", "127.0.0.1"))
	foreign := stranger.MustIssue(t, testpki.Server("pg.internal"))
	template := testpki.Authority("self-signed")
	template.KeyUsage, template.DNSNames = 0, []string{"pg.internal"}
	own, err := testpki.MustNewCA(t, template).Pair()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name    string
		backend BackendTLS
		server  *testpki.Pair
		want    bool
	}{
		{"require, anybody", BackendTLS{Mode: Require}, foreign, true},
		{"verify-ca, its own", BackendTLS{Mode: VerifyCA, CA: ca.PEM()}, named, true},
		{"verify-ca, another name", BackendTLS{Mode: VerifyCA, CA: ca.PEM(), ServerName: "other.internal"}, named, true},
		{"verify-ca, a stranger", BackendTLS{Mode: VerifyCA, CA: ca.PEM()}, foreign, false},
		{"verify-ca, pinned", BackendTLS{Mode: VerifyCA, CA: own.CertPEM}, own, true},
		{"verify-ca, another pinned", BackendTLS{Mode: VerifyCA, CA: own.CertPEM}, named, false},
		{"verify-full, its own", BackendTLS{Mode: VerifyFull, CA: ca.PEM(), ServerName: "pg.internal"}, named, true},
		{"verify-full, an address", BackendTLS{Mode: VerifyFull, CA: ca.PEM(), ServerName: "127.0.0.1"}, named, true},
		{"verify-full, another name", BackendTLS{Mode: VerifyFull, CA: ca.PEM(), ServerName: "other.internal"}, named, false},
		{"verify-full, a stranger of the name", BackendTLS{Mode: VerifyFull, CA: ca.PEM(), ServerName: "pg.internal"}, foreign, false},
		{"verify-full, pinned", BackendTLS{Mode: VerifyFull, CA: own.CertPEM, ServerName: "pg.internal"}, own, true},
	} {
		config, err := Backend(row.backend)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		got := handshake(t, &tls.Config{Certificates: []tls.Certificate{row.server.TLS()}, NextProtos: []string{"postgresql"}}, config)
		if got.failed() == row.want {
			t.Errorf("%s: %v, %v", row.name, got.clientErr, got.serverErr)
		}
		if row.want && got.client.NegotiatedProtocol != "postgresql" {
			t.Errorf("%s: ALPN %q", row.name, got.client.NegotiatedProtocol)
		}
	}
}

func TestBackendSeesTheProxysCertificate(t *testing.T) {
	ca := testpki.MustCA(t, "Backend CA")
	below := ca.MustIntermediate(t, testpki.Authority("Intermediate"))
	template := testpki.Client("proxy")
	template.Key = testpki.Ed25519
	proxy := below.MustIssue(t, template)
	config, err := Backend(BackendTLS{Mode: VerifyFull, CA: ca.PEM(), Cert: proxy.CertPEM, Key: proxy.KeyPEM, ServerName: "pg.internal"})
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{
		Certificates: []tls.Certificate{ca.MustIssue(t, testpki.Server("pg.internal")).TLS()},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	}
	if got := handshake(t, server, config); got.failed() || len(got.server.PeerCertificates) != 2 {
		t.Errorf("%d certificates came: %v, %v", len(got.server.PeerCertificates), got.clientErr, got.serverErr)
	}
}

func TestBackendRefusesOldVersions(t *testing.T) {
	ca := testpki.MustCA(t, "Backend CA")
	config, err := Backend(BackendTLS{Mode: Require})
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{ca.MustIssue(t, testpki.Server("pg")).TLS()}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if got := handshake(t, server, config); !got.failed() {
		t.Error("TLS 1.1 was agreed on")
	}
}

func TestBackendNamesEveryFault(t *testing.T) {
	ca := testpki.MustCA(t, "Backend CA")
	proxy := ca.MustIssue(t, testpki.Client("proxy"))
	other := ca.MustIssue(t, testpki.Client("proxy"))
	for _, row := range []struct {
		name    string
		backend BackendTLS
		want    string
	}{
		{"no mode", BackendTLS{}, `"" is not a TLS mode; use require, verify-ca or verify-full`},
		{"off", BackendTLS{Mode: "off"}, `"off" is not a TLS mode`},
		{"require with a CA", BackendTLS{Mode: Require, CA: ca.PEM()}, "require verifies nothing, so ca would be ignored; use verify-ca or verify-full, or remove ca"},
		{"verify-ca without one", BackendTLS{Mode: VerifyCA}, "verify-ca needs the CA that issued the backend's certificate; set ca"},
		{"verify-full without anything", BackendTLS{Mode: VerifyFull}, "verify-full needs the CA that issued the backend's certificate; set ca\nverify-full needs the name to verify; set server_name"},
		{"a CA that is none", BackendTLS{Mode: VerifyCA, CA: proxy.KeyPEM}, "ca: there is a private key where certificates are expected"},
		{"certificate without key", BackendTLS{Mode: Require, Cert: proxy.CertPEM}, "a client certificate for the backend needs both cert and key; set both or neither"},
		{"key without certificate", BackendTLS{Mode: Require, Key: proxy.KeyPEM}, "needs both cert and key"},
		{"another key", BackendTLS{Mode: Require, Cert: proxy.CertPEM, Key: other.KeyPEM}, `key: the key does not belong to the certificate "CN=proxy"`},
		{"encrypted key", BackendTLS{Mode: Require, Cert: proxy.CertPEM, Key: testpki.EncryptedPKCS8}, "key: the private key is encrypted"},
	} {
		config, err := Backend(row.backend)
		if err == nil || config != nil {
			t.Errorf("%s: accepted", row.name)
		} else if !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", row.name, err, row.want)
		}
	}
}

func TestBackendCACutAnywhereIsAnErrorOrTheSame(t *testing.T) {
	one := testpki.MustCA(t, "One").PEM()
	bundle := append(bytes.Clone(one), testpki.MustCA(t, "Two").PEM()...)
	for cut := range bundle {
		config, err := Backend(BackendTLS{Mode: VerifyFull, CA: bundle[:cut], ServerName: "pg"})
		if err != nil || cut == len(one) || cut == len(one)-1 {
			continue // exactly between two certificates nothing shows the cut
		}
		want := x509.NewCertPool()
		want.AppendCertsFromPEM(bundle)
		if !config.RootCAs.Equal(want) {
			t.Errorf("cut at byte %d of %d: a smaller bundle, and no error", cut, len(bundle))
		}
	}
}
