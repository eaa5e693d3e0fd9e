package main

import (
	"encoding/pem"
	"errors"
	"time"

	"pgmtls-proxy/internal/testpki"
)

// The demo may stay up for weeks, so its certificates live longer than testpki's, which are for tests.
const (
	caLifetime   = 365 * 24 * time.Hour
	leafLifetime = 90 * 24 * time.Hour
)

// spaceCA issues the certificates of one database's space: the server's, and those of its clients.
type spaceCA struct{ *testpki.CA }

func newSpaceCA() (spaceCA, error) {
	template := testpki.Authority("Space CA of the demo")
	template.NotAfter = time.Now().Add(caLifetime)
	ca, err := testpki.NewCA(template)
	return spaceCA{ca}, err
}

// server issues a certificate for the proxy.
func (ca spaceCA) server() (*testpki.Pair, error) {
	template := testpki.Server("localhost", "127.0.0.1")
	template.NotAfter = time.Now().Add(leafLifetime)
	return ca.Issue(template)
}

// client issues a client certificate.
func (ca spaceCA) client(name string) (*testpki.Pair, error) {
	template := testpki.Client(name)
	template.NotAfter = time.Now().Add(leafLifetime)
	return ca.Issue(template)
}

// writeServerSide writes what policy.yaml refers to.
func (d *demo) writeServerSide() error {
	if err := testpki.WriteFile(d.path("policy", "space-ca.pem"), d.ca.PEM(), 0o644); err != nil {
		return err
	}
	return d.writeServerCertificate()
}

// writeServerCertificate puts a new certificate and key in the place of those that the proxy serves. As with
// most tools, key and certificate are replaced one after the other, each by rename.
func (d *demo) writeServerCertificate() error {
	pair, err := d.ca.server()
	if err != nil {
		return err
	}
	return pair.Write(d.path("policy", "server"))
}

// writeClientSide writes what the owner of the database hands to its users: the CA to verify the server with, and the
// certificate app. JDBC wants the key in another encoding.
func (d *demo) writeClientSide() error {
	app, err := d.ca.client("app")
	if err != nil {
		return err
	}
	key, _ := pem.Decode(app.KeyPEM)
	return errors.Join(
		testpki.WriteFile(d.path("client", "space-ca.pem"), d.ca.PEM(), 0o644),
		testpki.WriteFile(d.path("client", "app.pk8"), key.Bytes, 0o600),
		app.Write(d.path("client", "app")),
	)
}
