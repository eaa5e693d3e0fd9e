package policysync

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
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
	maxFile  = 1 << 20  // bytes of one file: the proxy takes no larger one
	maxTotal = 16 << 20 // bytes of a policy
)

// Check returns what is wrong with a policy by itself, before it is given to anyone: one that came over a network, or that
// was rendered wrongly, touches no directory. Whether certificates fit their keys is the proxy's to judge.
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
		if len(content) > maxFile {
			return fmt.Errorf("%.120q is larger than %d KiB, the most that the proxy accepts", name, maxFile>>10)
		}
		total += len(content)
	}
	if total > maxTotal {
		return fmt.Errorf("it is larger than %d MiB", maxTotal>>20)
	}
	return nil
}

// checkNames wants exactly the files that the policy names, each named by its content.
func checkNames(p api.Policy, parsed *config.Policy) error {
	wanted := references(parsed)
	for name, key := range wanted {
		content, there := p.Files[name]
		switch {
		case !there:
			return fmt.Errorf("%.120q, which %s names, is missing", name, api.PolicyFile)
		case !named(name, content):
			return fmt.Errorf("%.120q is not named after its content, as policysync.FileName requires", name)
		case key != isKey(name):
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

// references are the files that a policy names, and whether each is a private key.
func references(p *config.Policy) map[string]bool {
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

func isKey(name string) bool { return strings.HasSuffix(name, ".key") }

// digestOf is what the proxy's /status and dry run show as digest for these very bytes (package policy, view.seal):
// SHA-256 over policy.yaml and then the files that it names, in the order of their names, each with its lengths. With
// it an acknowledgement is of the bytes that were published, not of a number that somebody else may have written too.
func digestOf(p api.Policy) string {
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

// The errors that callers of [Publisher.Publish] distinguish.
var (
	// ErrOlder: the directory, or this courier, has had a later generation of the database.
	ErrOlder = errors.New("an older generation of the policy")
	// ErrForeign: the policy.yaml in the directory is another database's, or nobody's of ours.
	ErrForeign = errors.New("the policy directory belongs to another writer")
)
