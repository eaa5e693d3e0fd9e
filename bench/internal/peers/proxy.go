package peers

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// configureProxy is for this repository's program. Its log of single connections is off, as the others' are.
func configureProxy(s Site) ([]string, error) {
	text := fmt.Sprintf(`listen: [%q]
backend: {address: %q}
policy_dir: %q
admin: %q
ssl_min_protocol_version: TLSv1.3
limits: {sessions: %d}
drain: {grace: 0s}
log: {level: warn}
`, s.address(), "unix:"+s.socketPath(), s.Dir, "unix:"+s.path("admin"), s.Sessions)
	err := errors.Join(s.write("policy.yaml", s.policy("")), os.WriteFile(s.path("proxy.yaml"), []byte(text), 0o644))
	return []string{"--config", s.path("proxy.yaml")}, err
}

// policy is the text of the proxy's policy.
func (s Site) policy(revoked string) string {
	var policy strings.Builder
	policy.WriteString("client_ca: [ca.pem]\ncertificates:\n  - {cert: server.crt, key: server.key}\n")
	fmt.Fprintf(&policy, "revoked: [%s]\nip_rules:\n  - {id: loopback, cidr: 127.0.0.0/8}\n", revoked)
	for i := range s.Rules - 1 {
		fmt.Fprintf(&policy, "  - {id: other-%d, cidr: 10.%d.0.0/16}\n", i, i)
	}
	return policy.String()
}

// Revoke gives the running proxy of this repository a policy under which a client certificate is revoked.
func (s Site) Revoke(certificate *x509.Certificate) error {
	next := s.path("policy.yaml.next")
	text := s.policy(fmt.Sprintf("'%x'", certificate.SerialNumber))
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(next, s.path("policy.yaml"))
}
