package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

func TestServerCertificateIsChosenByName(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address, Policy: bothCertificates})
	for name, want := range map[string]*testpki.Pair{
		privateName:                      pki.private,
		publicName:                       pki.public,
		"DB.Public.Test":                 pki.public,
		"shop.apps.public.test":          pki.public, // by wildcard
		"a.b.apps.public.test":           pki.private,
		"unknown.test":                   pki.private,
		"xn--bcher-kva.apps.public.test": pki.public,
		"":                               pki.private, // an address, or a driver without SNI
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := clientTLS("app")
			config.ServerName, config.MinVersion, config.MaxVersion = name, version, version
			config.InsecureSkipVerify = true // it is looked at below
			served := dial(t, p).negotiate(t, config).state().PeerCertificates
			if !sameChain(served, want.Chain) {
				t.Errorf("%s, %q: served is %s with %d certificates", tls.VersionName(version), name, served[0].Subject, len(served))
			}
		}
	}
}

// sameChain wants the whole chain, and in its order.
func sameChain(got, want []*x509.Certificate) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if !bytes.Equal(got[i].Raw, want[i].Raw) {
			return false
		}
	}
	return true
}

func TestServerCertificateIsChosenByTheClientsAlgorithms(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address, Policy: func(p *policy) {
		p.Certificates = append(p.Certificates, servedPair{Cert: "rsa.crt", Key: "rsa.key"})
	}})
	for suite, want := range map[uint16]*testpki.Pair{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: pki.private,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   pki.rsa,
	} {
		config := clientTLS("app")
		config.MaxVersion, config.CipherSuites = tls.VersionTLS12, []uint16{suite}
		w := dial(t, p).negotiate(t, config)
		if served := w.state().PeerCertificates; !sameChain(served, want.Chain) {
			t.Errorf("%s: served is the certificate with a key of type %v", tls.CipherSuiteName(suite), served[0].PublicKeyAlgorithm)
		}
		w.login(t, asPostgres())
	}
}

// psql verifies the private name against the private CA, the public one against the public root, which needs the
// intermediate to be served. Neither name is a way around the client certificate.
func TestPsqlVerifiesBothNames(t *testing.T) {
	t.Parallel()
	server(t)
	p := start(t, options{Policy: bothCertificates})
	for _, place := range []string{
		"host=" + privateName + " sslrootcert=" + pki.root("private"),
		"host=127.0.0.1 sslrootcert=" + pki.root("private"),
		"host=" + publicName + " sslrootcert=" + pki.root("public"),
		"host=shop.apps.public.test sslrootcert=" + pki.root("public"),
	} {
		for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
			p.succeeds(t, place+" ssl_max_protocol_version="+version)
		}
		if text, _ := p.refused(t, place+" "+clientCertificate("")); text[:len("FATAL:  "+invalidCertificate)] != "FATAL:  "+invalidCertificate {
			t.Errorf("%s: without a certificate psql shows %s", place, text)
		}
	}
}

// Every good kind of client certificate comes in, and the log and /sessions say which it was.
func TestSessionIsRecordedWithItsCertificateAndRule(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address})
	for _, client := range []string{"app", "other", "below"} {
		w := dial(t, p).negotiate(t, clientTLS(client))
		w.login(t, startup(protocol30, "user", "postgres", "application_name", "e2e "+client))
		live := p.sessions(t)
		if len(live) != 1 || live[0].Certificate == nil || live[0].Certificate.Serial != pki.serial(client) ||
			live[0].Rule != "loopback" || live[0].User != "postgres" || live[0].Policy != "1" || live[0].Addr != "127.0.0.1" {
			t.Fatalf("/sessions has %+v", live)
		}
		w.Close()
		e := p.connection(t, live[0].Connection)
		for field, want := range map[string]string{
			"outcome": "served", "end": "client_closed", "addr": "127.0.0.1", "user": "postgres", "database": "postgres", "rule": "loopback", "policy": "1",
			"application": "e2e " + client, "serial": pki.serial(client), "certificate": "CN=" + client, "sni": privateName, "tls": "TLS 1.3",
		} {
			if e.text(field) != want {
				t.Errorf("%s: the log's %s is %q, want %q", client, field, e.text(field), want)
			}
		}
		p.waitSessions(t, 0)
	}
}

func TestClientAuthSaysWhoNeedsACertificate(t *testing.T) {
	t.Parallel()
	server(t)
	p := start(t, options{Policy: func(p *policy) { p.ClientAuth = "off" }})
	comesIn := func(client string) bool {
		result := p.psql(t, clientCertificate(client), "-c", querySQL)
		return result.ExitCode == 0 && result.Stdout == queryAnswer
	}
	for _, mode := range []struct {
		auth string
		in   map[string]bool // by client certificate
	}{
		{"off", map[string]bool{"": true, "app": true, "stranger": true, "expired": true}}, // nobody is asked
		{"optional", map[string]bool{"": true, "app": true, "stranger": false, "expired": false}},
		{"required", map[string]bool{"": false, "app": true, "stranger": false, "expired": false}},
	} {
		p.edit(t, func(policy *policy) { policy.ClientAuth = mode.auth })
		for client, want := range mode.in {
			if got := comesIn(client); got != want {
				t.Errorf("client_auth %s, certificate %q: comes in is %v, want %v", mode.auth, client, got, want)
			}
		}
		asked := false
		config := clientTLS("")
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &tls.Certificate{}, nil
		}
		dial(t, p).negotiate(t, config).Close()
		if asked != (mode.auth != "off") {
			t.Errorf("client_auth %s: a certificate is asked for: %v", mode.auth, asked)
		}
	}
}

// Which certificate may log in as which user, by every name that a certificate can go by.
func TestIdentitiesMapCertificatesToUsers(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address})
	users := []string{"app", "app_ro"}
	for _, entry := range []identity{
		{SubjectCN: "app", Users: users},
		{DNS: "app.clients.test", Users: users},
		{URI: "spiffe://space/app", Users: users},
		{Serial: pki.serial("app"), Users: users},
	} {
		p.edit(t, func(p *policy) { p.Identities = []identity{{SubjectCN: "nobody", Users: []string{"postgres"}}, entry} })
		for _, c := range []struct {
			client, user string
			in           bool
		}{
			{"app", "app", true}, {"app", "app_ro", true}, {"app", "postgres", false}, {"app", "APP", false}, {"app", "nobody", false},
			{"other", "app", false}, {"other", "other", false},
		} {
			w := dial(t, p).negotiate(t, clientTLS(c.client))
			packet := startup(protocol30, "user", c.user, "database", "postgres")
			if c.in {
				w.login(t, packet)
				w.Close()
				continue
			}
			w.send(t, packet)
			if e := w.fatal(t); withoutID(e.Message) != fmt.Sprintf("certificate authentication failed for user %q", c.user) {
				t.Errorf("%+v: %s as %s reads %s", entry, c.client, c.user, e.Message)
			}
		}
	}
}

// A certificate that goes while others come and go: what counts is the policy at the time of the connection.
func TestRevocationHoldsFromTheNextConnectionOn(t *testing.T) {
	t.Parallel()
	server(t)
	p := start(t, options{Policy: func(p *policy) { p.OnRemoval = "keep" }})
	p.succeeds(t, clientCertificate("revoked"))
	p.edit(t, func(p *policy) { p.Revoked = []string{pki.serial("revoked")} })
	p.refused(t, clientCertificate("revoked"))
	p.succeeds(t, "")
	p.edit(t, func(p *policy) { p.Revoked = nil })
	p.succeeds(t, clientCertificate("revoked"))
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address})
	only13 := start(t, options{Backend: backend.Address, Config: map[string]any{"ssl_min_protocol_version": "TLSv1.3"}})
	for _, c := range []struct {
		proxy   *proxy
		version uint16
	}{{p, tls.VersionTLS10}, {p, tls.VersionTLS11}, {only13, tls.VersionTLS12}} {
		config := clientTLS("app")
		config.MinVersion, config.MaxVersion = c.version, c.version
		w := dial(t, c.proxy)
		w.ask(t, sslRequest, 'S')
		if w.handshake(config) == nil {
			t.Errorf("%s succeeds", tls.VersionName(c.version))
		}
	}
	backend.untouched(t)
}

// A session ticket would let a client in that shows no certificate any more.
func TestSessionsAreNeverResumed(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := clientTLS("app")
		config.MinVersion, config.MaxVersion = version, version
		config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		for range 2 {
			w := dial(t, p).negotiate(t, config)
			w.login(t, asPostgres()) // reads, so that a ticket would have come
			if w.state().DidResume {
				t.Errorf("%s resumes", tls.VersionName(version))
			}
			w.Close()
		}
	}
}
