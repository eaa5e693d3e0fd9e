package tlsconf

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// weakenings are the GODEBUG settings of Go 1.26 that take security from crypto/tls and crypto/x509:
// internal/godebugs/table.go. A setting that a later Go removed stays listed: it does no harm.
var weakenings = []struct {
	name, value string
	effect      string
}{
	{"cryptocustomrand", "1", "lets keys be made from a custom source of randomness"},
	{"fips140ems", "0", "drops the extended master secret"},
	{"rsa1024min", "0", "allows RSA keys below 1024 bits"},
	{"tls10default", "1", "allows TLS 1.0"},
	{"tls10server", "1", "allows TLS 1.0 and 1.1"},
	{"tls3des", "1", "allows 3DES"},
	{"tlsmlkem", "0", "drops the post-quantum key exchange"},
	{"tlsrsakex", "1", "allows key exchange without forward secrecy"},
	{"tlssecpmlkem", "0", "drops a post-quantum key exchange"},
	{"tlssha1", "1", "allows SHA-1 signatures in TLS 1.2"},
	{"tlsunsafeekm", "1", "allows exported keys that are not bound to the handshake"},
	{"x509negativeserial", "1", "allows certificates with a negative serial number"},
	{"x509rsacrt", "0", "skips the check of an RSA key's CRT values"},
	{"x509sha1", "1", "allows SHA-1 signatures in certificates"},
	{"x509usepolicies", "0", "skips the check of certificate policies"},
}

// maxRSAHandshake is the RSA size above which crypto/tls gives up on a peer, in bits: its own default.
const maxRSAHandshake = 8192

// CheckGODEBUG refuses a value of the environment variable GODEBUG that weakens TLS. All such settings are named.
func CheckGODEBUG(value string) error {
	var problems []error
	for setting := range strings.SplitSeq(value, ",") {
		name, rest, _ := strings.Cut(strings.TrimSpace(setting), "=")
		chosen, _, _ := strings.Cut(rest, "#") // "name=value#pattern" applies to some callers only
		if name == "tlsmaxrsasize" {
			if bits, err := strconv.Atoi(chosen); err == nil && bits > maxRSAHandshake {
				problems = append(problems, weakens(name, chosen, "lets a client's RSA key keep the proxy busy"))
			}
		}
		for _, w := range weakenings {
			if w.name == name && w.value == chosen {
				problems = append(problems, weakens(name, chosen, w.effect))
			}
		}
	}
	return errors.Join(problems...)
}

func weakens(name, value, effect string) error {
	return fmt.Errorf("GODEBUG %s=%s %s; remove it from the environment", name, value, effect)
}
