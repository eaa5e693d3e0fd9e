package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// Lifetimes of what the control CA signs, and of itself.
const (
	controlLife = 10 // years
	leafLife    = 90 * 24 * time.Hour
	renewAfter  = 60 * 24 * time.Hour // two thirds of a leaf's life
	backdated   = time.Hour           // for clocks that are behind
)

// loopbackNames are in every certificate of the API.
var loopbackNames = []string{"localhost", "127.0.0.1", "::1"}

// Control is the control CA, and the API's own certificate of it. The CA signs for the API and for agents, and for
// no database.
type Control struct {
	ca    *authority.CA
	pool  *x509.CertPool
	hosts []string
	now   func() time.Time

	mu      sync.Mutex
	leaf    *tls.Certificate // in memory only: each daemon, and each start, has its own
	begin   time.Time        // of its validity
	renewAt time.Time
}

// controlRecord is what is stored. It is written once, and again when its key is sealed anew.
type controlRecord struct {
	Certificate string `json:"certificate"` // PEM
	Key         []byte `json:"key"`         // PEM, sealed
}

func openControl(ctx context.Context, o Options, now func() time.Time) (*Control, error) {
	hosts := slices.Clone(loopbackNames)
	for _, name := range o.Names {
		if err := authority.CheckHost(name); err != nil {
			return nil, err
		}
		if !slices.Contains(hosts, name) {
			hosts = append(hosts, name)
		}
	}
	ca, err := loadControl(ctx, o)
	if errors.Is(err, store.ErrNotFound) {
		ca, err = makeControl(ctx, o, now())
	}
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.CertificatePEM())
	return &Control{ca: ca, pool: pool, hosts: hosts, now: now}, nil
}

// loadControl returns the CA that there is. Its key is sealed again when the first master key has changed.
func loadControl(ctx context.Context, o Options) (*authority.CA, error) {
	item, err := o.Docs.Get(ctx, keyControl)
	if err != nil {
		return nil, err
	}
	record, err := docstore.Decode[controlRecord](item)
	if err != nil {
		return nil, err
	}
	keyPEM, err := o.Docs.Ring.Open(keyControl, record.Key)
	if err != nil {
		return nil, fmt.Errorf("%w; is this the master key file that this control plane was created with?", err)
	}
	ca, err := authority.ParseCA([]byte(record.Certificate), keyPEM)
	if err != nil || !o.Docs.Ring.Stale(record.Key) {
		return ca, err
	}
	err = saveControl(ctx, o, ca, item.Revision)
	if errors.Is(err, store.ErrConflict) {
		err = nil // another daemon has done it
	}
	return ca, err
}

// makeControl makes the CA, unless another daemon does so at the same time: then it gives that one's.
func makeControl(ctx context.Context, o Options, now time.Time) (*authority.CA, error) {
	ca, err := authority.NewCA(authority.Subject{CommonName: "pgmtls control"}, now.Add(-backdated), now.AddDate(controlLife, 0, 0))
	if err != nil {
		return nil, err
	}
	switch err := saveControl(ctx, o, ca, 0); {
	case errors.Is(err, store.ErrConflict):
		return loadControl(ctx, o)
	case err != nil:
		return nil, err
	}
	return ca, nil
}

func saveControl(ctx context.Context, o Options, ca *authority.CA, revision int64) error {
	tx := new(store.Tx)
	tx.If(keyControl, revision)
	err := docstore.Put(tx, keyControl, controlRecord{Certificate: string(ca.CertificatePEM()), Key: o.Docs.Ring.Seal(keyControl, ca.KeyPEM())})
	if err != nil {
		return err
	}
	_, err = o.Docs.Commit(ctx, tx)
	return err
}

// CertificatePEM is the control CA's certificate: what clients of the API trust.
func (c *Control) CertificatePEM() string { return string(c.ca.CertificatePEM()) }

// TLSConfig is for the API's listeners. With own, the daemon has a certificate of its operator's; else it is of the
// control CA. Who has a client certificate of the control CA may show it; what it is good for, [Agents.Check] says.
func (c *Control) TLSConfig(own func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	if own == nil {
		own = c.certificate
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: own,
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      c.pool,
		Time:           c.now,
		NextProtos:     []string{"h2", "http/1.1"},
		// A resumed session would be one that was verified earlier. Handshakes here are rare.
		SessionTicketsDisabled: true,
	}
}

// certificate returns the API's own certificate, and makes it new after two thirds of its life, and when it is not valid
// yet: this clock was ahead.
func (c *Control) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if early := now.Before(c.begin) && !now.Before(c.ca.NotBefore()); c.leaf != nil && !early && now.Before(c.renewAt) {
		return c.leaf, nil
	}
	key, keyPEM, err := authority.GenerateKey()
	if err != nil {
		return nil, err
	}
	issued, err := c.ca.IssueServer(authority.Request{
		CommonName: "pgmtls API", Hosts: c.hosts, PublicKey: key.Public(),
		NotBefore: now.Add(-backdated), NotAfter: now.Add(leafLife),
	})
	if err != nil {
		return nil, fmt.Errorf("API certificate: %w", err)
	}
	leaf, err := tls.X509KeyPair(issued.CertificatePEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("API certificate: %w", err)
	}
	c.leaf, c.begin, c.renewAt = &leaf, issued.NotBefore, renewalOf(now, issued.NotAfter)
	return c.leaf, nil
}

// renewalOf is when a certificate that was issued at a time is to be renewed: at two thirds of its life, which can be
// short near the end of the CA's.
func renewalOf(issued, notAfter time.Time) time.Time {
	if life := notAfter.Sub(issued); life < leafLife {
		return issued.Add(life * 2 / 3)
	}
	return issued.Add(renewAfter)
}

// serialText writes a certificate's serial number as authority does: lower-case hex pairs with colons.
func serialText(certificate *x509.Certificate) string {
	raw := certificate.SerialNumber.Bytes()
	pairs := make([]string, len(raw))
	for i, b := range raw {
		pairs[i] = fmt.Sprintf("%02x", b)
	}
	return strings.Join(pairs, ":")
}
