package policyformat

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
)

const (
	// MaxFile is the size of the largest file of a policy, in bytes: the proxy reads no larger one.
	MaxFile = 1 << 20
	// maxTotal is the size of the largest policy, in bytes.
	maxTotal = 16 << 20
)

// Check returns an error that says what is wrong with a policy by itself. A policy that came over a network, or that was just
// rendered, is checked before anything is done with it. Whether certificates fit their keys is left to the proxy.
func Check(p api.Policy) error {
	text, there := p.Files[api.PolicyFile]
	switch {
	case !goodDatabase(p.Database):
		return fmt.Errorf("a policy for database %.80q: an id has at most %d letters, digits, dashes and underscores", p.Database, maxDatabase)
	case p.Generation < 1:
		return fmt.Errorf("a policy of generation %d: generations start at 1", p.Generation)
	case !there:
		return fmt.Errorf("the %v lacks %s", p, api.PolicyFile)
	}
	if err := checkSizes(p); err != nil {
		return fmt.Errorf("the %v: %w", p, err)
	}
	if database, generation, ok := ParseHeader(text); !ok || database != p.Database || generation != p.Generation {
		return fmt.Errorf("the %v: the first line of %s is not its header", p, api.PolicyFile)
	}
	parsed, err := config.ParsePolicy(api.PolicyFile, text)
	if err != nil {
		return fmt.Errorf("the proxy would refuse the %v: %w", p, err)
	}
	if parsed.Generation != strconv.FormatInt(p.Generation, 10) {
		return fmt.Errorf("the %v: %s says generation %q", p, api.PolicyFile, parsed.Generation)
	}
	if err := checkNames(p, parsed); err != nil {
		return fmt.Errorf("the %v: %w", p, err)
	}
	return nil
}

func checkSizes(p api.Policy) error {
	total := 0
	for name, content := range p.Files {
		if len(content) > MaxFile {
			return fmt.Errorf("%.120q is larger than %d KiB, the most that the proxy accepts", name, MaxFile>>10)
		}
		total += len(content)
	}
	if total > maxTotal {
		return fmt.Errorf("it is larger than %d MiB", maxTotal>>20)
	}
	return nil
}

// checkNames checks that the files are exactly those that the policy names, each named after its content.
func checkNames(p api.Policy, parsed *config.Policy) error {
	wanted := References(parsed)
	for name, key := range wanted {
		content, there := p.Files[name]
		switch {
		case !there:
			return fmt.Errorf("%.120q, which %s names, is missing", name, api.PolicyFile)
		case !IsNameOf(name, content):
			return fmt.Errorf("%.120q is not named after its content: its name has to end in the first %d digits of the content's SHA-256, and .crt, .key or .pem", name, hashDigits)
		case key != IsKey(name):
			return fmt.Errorf("%.120q: private keys, and only they, have the extension key", name)
		}
	}
	for name := range p.Files {
		if _, used := wanted[name]; !used && name != api.PolicyFile {
			return fmt.Errorf("%s does not name %.120q", api.PolicyFile, name)
		}
	}
	return nil
}

// References returns the names of the files that a policy reads, and for each whether it is a private key.
func References(p *config.Policy) map[string]bool {
	names := map[string]bool{}
	for _, list := range [][]config.File{p.ClientCA, p.ClientCRL} {
		for _, f := range list {
			names[f.Path] = false
		}
	}
	for _, c := range p.Certificates {
		names[c.Cert.Path], names[c.Key.Path] = false, true
	}
	return names
}

// IsKey reports whether the file of this name holds a private key.
func IsKey(name string) bool { return strings.HasSuffix(name, ".key") }

// Digest returns the digest that the proxy's /status and dry runs show for these very bytes (package policy, view.seal): SHA-256
// over policy.yaml and then the files that it names, in the order of their names, each with its lengths. It makes an
// acknowledgement one of the bytes that were published, rather than of a number that somebody else may have written too.
func Digest(p api.Policy) string {
	hash := sha256.New()
	put := func(name string) {
		io.WriteString(hash, fmt.Sprintf("%d %s %d ", len(name), name, len(p.Files[name])))
		hash.Write(p.Files[name])
	}
	put(api.PolicyFile)
	for _, name := range slices.Sorted(maps.Keys(p.Files)) {
		if name != api.PolicyFile {
			put(name)
		}
	}
	return hex.EncodeToString(hash.Sum(nil))
}
