package peers

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// configureProxy is for this repository's program. Its log of single connections is off, as the others' are.
func configureProxy(s Site) ([]string, error) {
	var policy strings.Builder
	policy.WriteString("client_ca: [ca.pem]\ncertificates:\n  - {cert: server.crt, key: server.key}\nip_rules:\n")
	policy.WriteString("  - {id: loopback, cidr: 127.0.0.0/8}\n")
	for i := range s.Rules - 1 {
		fmt.Fprintf(&policy, "  - {id: other-%d, cidr: 10.%d.0.0/16}\n", i, i)
	}
	text := fmt.Sprintf(`listen: [%q]
backend: {address: %q}
policy_dir: %q
admin: %q
ssl_min_protocol_version: TLSv1.3
limits: {sessions: %d}
drain: {grace: 0s}
log: {level: warn}
`, s.address(), "unix:"+s.socketPath(), s.Dir, "unix:"+s.path("admin"), s.Sessions)
	err := errors.Join(s.write("policy.yaml", policy.String()), os.WriteFile(s.path("proxy.yaml"), []byte(text), 0o644))
	return []string{"--config", s.path("proxy.yaml")}, err
}
