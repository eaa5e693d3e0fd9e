package e2e

import (
	"crypto/x509"
	"path/filepath"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// Names in the server certificates. All of them are reached at 127.0.0.1: psql is given hostaddr with host.
const (
	privateName = "db.private.test"
	publicName  = "db.public.test"
	backendName = "backend.private.test"
)

// certificates are those of all tests, as values and as files for psql.
type certificates struct {
	dir string

	spaceCA, privateCA, publicCA, backendCA *testpki.CA

	private *testpki.Pair // ECDSA, for the private name and 127.0.0.1; the default
	rsa     *testpki.Pair // RSA, for the private name, to stand beside the ECDSA one
	public  *testpki.Pair // RSA, issued by an intermediate, for the public name
	backend *testpki.Pair // PostgreSQL's own, for TLS behind the proxy, and for the private name as well
	toPG    *testpki.Pair // the proxy's client certificate at PostgreSQL, for the user "proxied"

	clients map[string]*testpki.Pair
}

// newCertificates makes all of them. Client certificates go by the name of what is special with them.
func newCertificates(dir string) (*certificates, error) {
	m := maker{}
	c := &certificates{dir: dir, clients: map[string]*testpki.Pair{}}
	c.spaceCA = m.ca(testpki.Authority("Space CA"))
	c.privateCA = m.ca(testpki.Authority("Private Server CA"))
	c.publicCA = m.ca(testpki.Authority("Public Root"))
	c.backendCA = m.ca(testpki.Authority("Backend CA"))
	strangers := m.ca(testpki.Authority("Strangers"))
	if m.err != nil {
		return nil, m.err
	}

	c.private = m.issue(c.privateCA, testpki.Server(privateName, "127.0.0.1", "::1"))
	rsa := testpki.Server(privateName)
	rsa.Key = testpki.RSA2048
	c.rsa = m.issue(c.privateCA, rsa)
	public := testpki.Server(publicName, "*.apps.public.test")
	public.Key = testpki.RSA2048
	c.public = m.issue(m.below(c.publicCA, "Public Intermediate"), public)
	c.backend = m.issue(c.backendCA, testpki.Server(backendName, privateName, "127.0.0.1"))
	c.toPG = m.issue(c.backendCA, testpki.Client("proxied"))

	app := testpki.Client("app")
	app.DNSNames, app.URIs = []string{"app.clients.test"}, []string{"spiffe://space/app"}
	c.clients["app"] = m.issue(c.spaceCA, app)
	c.clients["other"] = m.issue(c.spaceCA, testpki.Client("other"))
	c.clients["revoked"] = m.issue(c.spaceCA, testpki.Client("revoked"))
	c.clients["below"] = m.issue(m.below(c.spaceCA, "Space Intermediate"), testpki.Client("below"))
	c.clients["stranger"] = m.issue(strangers, testpki.Client("stranger"))

	expired := testpki.Client("expired")
	expired.NotBefore, expired.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	c.clients["expired"] = m.issue(c.spaceCA, expired)
	early := testpki.Client("early")
	early.NotBefore, early.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	c.clients["early"] = m.issue(c.spaceCA, early)
	purpose := testpki.Client("purpose")
	purpose.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	c.clients["purpose"] = m.issue(c.spaceCA, purpose)
	weak := testpki.Client("weak")
	weak.Key = testpki.RSA1024
	c.clients["weak"] = m.issue(c.spaceCA, weak)
	flat := testpki.Authority("Flat")
	flat.PathLen = new(int)
	c.clients["deep"] = m.issue(m.below(m.belowAs(c.spaceCA, flat), "Deep"), testpki.Client("deep"))
	if m.err == nil {
		c.clients["grandchild"] = m.issue(c.clients["app"].Issuer(), testpki.Client("grandchild"))
	}
	if m.err != nil {
		return nil, m.err
	}
	return c, c.write()
}

// maker keeps the first error of a row of certificates.
type maker struct{ err error }

func (m *maker) ca(template testpki.Template) *testpki.CA {
	ca, err := testpki.NewCA(template)
	m.note(err)
	return ca
}

func (m *maker) issue(ca *testpki.CA, template testpki.Template) *testpki.Pair {
	if m.err != nil {
		return nil
	}
	pair, err := ca.Issue(template)
	m.note(err)
	return pair
}

func (m *maker) below(ca *testpki.CA, commonName string) *testpki.CA {
	return m.belowAs(ca, testpki.Authority(commonName))
}

func (m *maker) belowAs(ca *testpki.CA, template testpki.Template) *testpki.CA {
	if m.err != nil {
		return nil
	}
	below, err := ca.Intermediate(template)
	m.note(err)
	return below
}

func (m *maker) note(err error) {
	if m.err == nil {
		m.err = err
	}
}

// write makes the files that psql needs.
func (c *certificates) write() error {
	for name, pair := range c.clients {
		if err := pair.Write(filepath.Join(c.dir, name)); err != nil {
			return err
		}
	}
	for name, ca := range map[string]*testpki.CA{"private": c.privateCA, "public": c.publicCA, "backend": c.backendCA} {
		if err := testpki.WriteFile(c.root(name), ca.PEM(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// root is the file of a CA for sslrootcert: private, public or backend.
func (c *certificates) root(name string) string { return filepath.Join(c.dir, name+"-ca.pem") }

// serial is a client certificate's serial number as policy.yaml, the log and the refusals write it.
func (c *certificates) serial(client string) string { return serialText(c.clients[client].Cert) }

// pairs are all certificates whose keys the tests hold.
func (c *certificates) pairs() []*testpki.Pair {
	all := []*testpki.Pair{c.private, c.rsa, c.public, c.backend, c.toPG}
	for _, pair := range c.clients {
		all = append(all, pair)
	}
	return all
}
