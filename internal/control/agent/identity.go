package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
)

// identity is who an agent is. It is kept, and holds private keys: nothing prints it.
type identity struct {
	Agent    string `json:"agent"`
	Database string `json:"database"` // id
	Called   string `json:"called"`   // as the database was called at the enrolment: its name, or its id
	Proxy    string `json:"proxy"`
	Token    string `json:"token_sha256"` // of the token that it enrolled with

	CA        string `json:"ca,omitempty"` // PEM, as it was given; empty: the system's
	ControlCA string `json:"control_ca"`   // PEM, as the control plane said: trusted beside CA

	Current certificate  `json:"current"`
	Next    *certificate `json:"next,omitempty"` // renewed, and not yet known to work
}

// certificate is a client certificate with its key.
type certificate struct {
	Certificate string    `json:"certificate"` // PEM
	Key         string    `json:"key"`         // PKCS #8 in PEM
	RenewAt     time.Time `json:"renew_at"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// inUse is the certificate to show.
func (i identity) inUse() certificate {
	if i.Next != nil {
		return *i.Next
	}
	return i.Current
}

// check refuses what was read and can't be.
func (i identity) check(kept *state) error {
	_, err := tls.X509KeyPair([]byte(i.Current.Certificate), []byte(i.Current.Key))
	if err == nil && (i.Agent == "" || i.Database == "") {
		err = errors.New("it does not identify the agent")
	}
	if err != nil {
		return kept.damaged(identityFile, err)
	}
	return nil
}

// client shows the certificate in use.
func (i identity) client(o Options) (*apiclient.Client, error) {
	shown := i.inUse()
	pair, err := tls.X509KeyPair([]byte(shown.Certificate), []byte(shown.Key))
	if err != nil {
		return nil, fmt.Errorf("the agent's own certificate: %w", err)
	}
	return apiclient.New(apiclient.Options{
		URL: o.Control, CA: i.roots(), UserAgent: o.UserAgent,
		Certificate: func() (*tls.Certificate, error) { return &pair, nil },
	})
}

// roots are what the control plane is verified with; nil: the system's.
func (i identity) roots() []byte {
	if i.CA == "" {
		return nil
	}
	return []byte(i.CA + "\n" + i.ControlCA)
}

// newKey makes a private key, in PEM, and the request for its certificate. Who the agent is, the control plane writes
// into the certificate.
func newKey() (key, request []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private)
	if err != nil {
		return nil, nil, err
	}
	return encode("PRIVATE KEY", der), encode("CERTIFICATE REQUEST", csr), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// accept makes a certificate of an answer, if it is one for the key.
func accept(answer api.Certified, key []byte) (certificate, error) {
	pair, err := tls.X509KeyPair([]byte(answer.Certificate), key)
	switch {
	case err != nil:
		return certificate{}, fmt.Errorf("the certificate that the control plane issued to this agent: %w", err)
	case answer.Agent == "" || answer.Database == "" || answer.Proxy == "":
		return certificate{}, errors.New("the control plane's answer does not identify this agent")
	case bytes.Equal(pair.Leaf.RawIssuer, pair.Leaf.RawSubject):
		return certificate{}, errors.New("the certificate that the control plane issued to this agent is self-signed")
	}
	return certificate{Certificate: answer.Certificate, Key: string(key), RenewAt: answer.RenewAt, ExpiresAt: answer.ExpiresAt}, nil
}
