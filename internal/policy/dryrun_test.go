package policy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/testkit/testpki"
)

// directory writes the files of a policy, and gives the keeper of them after its first look.
func (p *pkiFiles) directory(t *testing.T, lines string) *Reloader {
	t.Helper()
	k := &Reloader{Dir: t.TempDir(), Live: &Live{}, Builder: Builder{Backend: &backend.Target{}}, Log: zerolog.Nop()}
	for name, text := range p.contents {
		if err := testpki.WriteFile(filepath.Join(k.Dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := testpki.WriteFile(filepath.Join(k.Dir, policyName), draft(lines).Text, 0o600); err != nil {
		t.Fatal(err)
	}
	k.Load(t.Context())
	if k.Live.Current() == nil {
		t.Fatal(k.Live.Status().Error)
	}
	return k
}

func draft(lines string) Draft {
	return Draft{Name: "new.yaml", Text: []byte("generation: test\ncertificates: [{cert: server.crt, key: server.key, default: true}]\n" + lines)}
}

func TestTryBuildsWhatTheDirectoryWould(t *testing.T) {
	p := newPKI(t)
	k := p.directory(t, required+threeRules)
	inForce := k.Live.Current()
	same, err := k.Try(t.Context(), draft(required+threeRules))
	if err != nil {
		t.Fatal(err)
	}
	if same.Digest != inForce.Digest || same.Trust != inForce.Trust {
		t.Error("the same text gives another digest or other verdicts")
	}
	next, err := k.Try(t.Context(), draft(required+"ip_rules: [{id: office, cidr: 203.0.113.0/24}, {id: new, cidr: 10.0.0.0/8}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if k.Live.Current() != inForce {
		t.Fatal("the draft is in force")
	}
	c := Diff(inForce, next)
	if strings.Join(c.RulesAdded, ",") != "new 10.0.0.0/8" || len(c.RulesRemoved) != 2 || c.TrustChanged {
		t.Errorf("the draft changes %+v", c)
	}
	if err := os.WriteFile(filepath.Join(k.Dir, policyName), draft(required+"ip_rules: [{id: office, cidr: 203.0.113.0/24}, {id: new, cidr: 10.0.0.0/8}]\n").Text, 0o600); err != nil {
		t.Fatal(err)
	}
	k.Load(t.Context())
	if k.Live.Current().Digest != next.Digest {
		t.Error("in the directory the text has another digest than as a draft")
	}
}

func TestTryRefusesWithLines(t *testing.T) {
	p := newPKI(t)
	k := p.directory(t, required+threeRules)
	for _, row := range []struct{ lines, want string }{
		{required + "ip_rules:\n  - {id: a, cidr: 10.0.0.1/8}\n", "new.yaml:6: ip_rules[0].cidr: \"10.0.0.1/8\" has host bits set"},
		{"client_ca: [absent.pem]\nip_rules: []\n", "new.yaml:3: client_ca[0]: \"absent.pem\" does not exist"},
		{"client_ca: [server.key]\nip_rules: []\n", "new.yaml:3: client_ca[0]: \"server.key\" is refused: there is a private key"},
		{"client_ca: [../policy.yaml]\nip_rules: []\n", "new.yaml:3: client_ca[0]:"},
	} {
		_, err := k.Try(t.Context(), draft(row.lines))
		problems := ProblemsIn(err)
		if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), row.want) {
			t.Errorf("%s: %v, want %s", row.lines, err, row.want)
		}
	}
}

func TestTryEndsWithItsContext(t *testing.T) {
	k := newPKI(t).directory(t, required+threeRules)
	cause := errors.New("the operator has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := k.Try(ctx, draft("client_ca: [absent.pem]\nip_rules: []\n")); err != cause || ProblemsIn(err) != nil {
		t.Errorf("%v, want %v", err, cause)
	}
}
