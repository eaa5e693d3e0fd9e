package e2e

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/testpki"
)

// policy is policy.yaml, written as JSON, as a program would.
type policy struct {
	Generation   string       `json:"generation,omitempty"`
	ClientAuth   string       `json:"client_auth,omitempty"`
	ClientCA     []string     `json:"client_ca,omitempty"`
	ClientCRL    []string     `json:"client_crl,omitempty"`
	Revoked      []string     `json:"revoked,omitempty"`
	Certificates []servedPair `json:"certificates"`
	Identities   []identity   `json:"identities,omitempty"`
	OnRemoval    string       `json:"on_removal,omitempty"`
	EndGrace     string       `json:"end_grace,omitempty"`
	IPRules      []ipRule     `json:"ip_rules"`
}

// servedPair is an element of certificates.
type servedPair struct {
	Cert    string `json:"cert"`
	Key     string `json:"key"`
	Default bool   `json:"default,omitempty"`
}

// ipRule is an element of ip_rules.
type ipRule struct {
	ID          string `json:"id"`
	CIDR        string `json:"cidr"`
	Description string `json:"description,omitempty"`
	ExpiresAt   string `json:"expires_at,omitempty"`
}

// identity is an element of identities.
type identity struct {
	SubjectCN string   `json:"subject_cn,omitempty"`
	DNS       string   `json:"dns,omitempty"`
	URI       string   `json:"uri,omitempty"`
	Serial    string   `json:"serial,omitempty"`
	Users     []string `json:"users"`
}

// usualPolicy lets certificates of the space in from this machine, and serves the private certificate.
func usualPolicy() policy {
	return policy{
		Generation:   "1",
		ClientCA:     []string{"space-ca.pem"},
		Certificates: []servedPair{{Cert: "private.crt", Key: "private.key", Default: true}},
		IPRules:      []ipRule{{ID: "loopback", CIDR: "127.0.0.0/8"}},
	}
}

// bothCertificates makes a policy serve the public certificate beside the private one.
func bothCertificates(p *policy) {
	p.Certificates = append(p.Certificates, servedPair{Cert: "public.crt", Key: "public.key"})
}

// nobody makes a policy whose only rule is for another network: documentation addresses.
func nobody(p *policy) { p.IPRules = []ipRule{{ID: "elsewhere", CIDR: "192.0.2.0/24"}} }

// writePolicyDir fills a policy directory: the files that policies may name, and policy.yaml last.
func writePolicyDir(t testing.TB, dir string, p policy) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string]*testpki.Pair{"private": pki.private, "rsa": pki.rsa, "public": pki.public, "backend": pki.backend} {
		if err := pair.Write(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "space-ca.pem"), pki.spaceCA.PEM())
	writeFile(t, filepath.Join(dir, "policy.yaml"), p.text(t))
}

func (p policy) text(t testing.TB) []byte {
	t.Helper()
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// writeFile replaces a file by rename.
func writeFile(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := testpki.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// edit changes the policy, gives it the next generation, replaces policy.yaml by rename and waits until it is in force.
func (p *proxy) edit(t testing.TB, change func(*policy)) {
	t.Helper()
	change(&p.policy)
	p.writePolicy(t)
	p.waitGeneration(t, p.policy.Generation)
}

// writePolicy gives the policy the next generation and replaces policy.yaml by rename. It does not wait.
func (p *proxy) writePolicy(t testing.TB) {
	t.Helper()
	generation, err := strconv.Atoi(p.policy.Generation)
	if err != nil {
		t.Fatal(err)
	}
	p.policy.Generation = strconv.Itoa(generation + 1)
	writeFile(t, p.policyFile("policy.yaml"), p.policy.text(t))
}

// policyFile is the path of a file in the policy directory.
func (p *proxy) policyFile(name string) string { return filepath.Join(p.PolicyDir, name) }

// waitGeneration waits until the generation is in force.
func (p *proxy) waitGeneration(t testing.TB, generation string) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		status := p.status(t)
		if status.Policy == nil || status.Policy.Generation != generation {
			return fmt.Errorf("generation %s is not in force: %s", generation, status.Reload.Error)
		}
		return nil
	})
}

// serialText writes a serial number in hex pairs with colons.
func serialText(cert *x509.Certificate) string {
	var pairs []string
	for _, b := range cert.SerialNumber.Bytes() {
		pairs = append(pairs, fmt.Sprintf("%02x", b))
	}
	return strings.Join(pairs, ":")
}
