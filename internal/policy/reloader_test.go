package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/testkit/testpki"
)

// kept is a keeper that is given what was read, and what it does and says.
type kept struct {
	t    *testing.T
	log  bytes.Buffer
	done []string // the callbacks, in order
	*Reloader
}

func newKept(t *testing.T) *kept {
	k := &kept{t: t}
	k.Reloader = &Reloader{
		Live:        &Live{},
		Builder:     Builder{Backend: &backend.Target{}},
		Log:         zerolog.New(&k.log),
		OnApplied:   func(_, s *Snapshot) { k.done = append(k.done, "applied "+s.Generation) },
		OnUnchanged: func() { k.done = append(k.done, "unchanged") },
		OnRefused:   func(error) { k.done = append(k.done, "refused") },
	}
	return k
}

// look gives the keeper what a look at the directory found, and wants what comes of it.
func (k *kept) look(files *Files, err error, want string) {
	k.t.Helper()
	k.done = nil
	k.receive(context.Background(), files, err)
	if len(k.done) != 1 || k.done[0] != want {
		k.t.Errorf("the look ends as %q, want %q", k.done, want)
	}
}

// events empties the log.
func (k *kept) events() []map[string]any {
	k.t.Helper()
	var events []map[string]any
	for line := range strings.Lines(k.log.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			k.t.Fatal(err)
		}
		events = append(events, event)
	}
	k.log.Reset()
	return events
}

func TestFailedLoadKeepsTheLastGoodPolicyAndSaysSinceWhen(t *testing.T) {
	p := newPKI(t)
	k := newKept(t)
	if k.Live.Current() != nil || k.Live.Status() != (Status{}) {
		t.Error("there is a policy before the first look")
	}
	k.look(p.files(t, required+threeRules), nil, "applied test")
	good := k.Live.Current()
	if status := k.Live.Status(); status.Error != "" || !status.FailedAt.IsZero() || status.CheckedAt.IsZero() {
		t.Errorf("status is %+v", status)
	}
	k.events()

	planted := errors.New("policy.yaml:3: planted")
	k.look(nil, planted, "refused")
	first := k.Live.Status()
	if k.Live.Current() != good || first.Error != planted.Error() || first.FailedAt.IsZero() || !first.FailedAt.Equal(first.CheckedAt) {
		t.Errorf("status is %+v", first)
	}
	k.look(nil, planted, "refused")
	k.look(nil, errors.New("policy.yaml:4: another"), "refused")
	last := k.Live.Status()
	if !last.FailedAt.Equal(first.FailedAt) || !last.CheckedAt.After(first.CheckedAt) || last.Error != "policy.yaml:4: another" {
		t.Errorf("status is %+v, since %v", last, first.FailedAt)
	}
	events := k.events()
	if len(events) != 2 || events[0]["error"] != planted.Error() || events[0]["generation_in_force"] != "test" || events[0]["level"] != "error" {
		t.Errorf("an error that stays is logged once, and another once: %v", events)
	}

	k.look(p.files(t, required+threeRules), nil, "unchanged")
	if status := k.Live.Status(); status.Error != "" || !status.FailedAt.IsZero() || k.Live.Current() != good {
		t.Errorf("what is on disk is in force again, and status is %+v", status)
	}
	if events := k.events(); len(events) != 1 || !strings.Contains(events[0]["message"].(string), "in force again") {
		t.Errorf("the recovery is logged as %v", events)
	}
	k.look(nil, planted, "refused")
	if events := k.events(); len(events) != 1 {
		t.Errorf("the error that is back is logged as %v", events)
	}
	k.look(p.files(t, required+sixtyRules()), nil, "applied test")
	if status := k.Live.Status(); status.Error != "" || k.Live.Current() == good {
		t.Errorf("a new policy is in force, and status is %+v", status)
	}
}

func TestPolicyThatDoesNotBuildIsRefused(t *testing.T) {
	p := newPKI(t)
	k := newKept(t)
	bad := p.files(t, required+threeRules)
	bad.Contents = map[string][]byte{"ca.pem": p.contents["ca.pem"], "server.crt": p.contents["server.crt"], "server.key": {}}
	k.look(bad, nil, "refused")
	if status := k.Live.Status(); k.Live.Current() != nil || !strings.Contains(status.Error, `"server.key" is refused: the file is empty`) {
		t.Errorf("status is %+v", status)
	}
	if events := k.events(); len(events) != 1 || !strings.Contains(events[0]["message"].(string), "every connection is refused") {
		t.Errorf("logged as %v", events)
	}
}

func TestSameDigestIsNotBuiltAgain(t *testing.T) {
	p := newPKI(t)
	k := newKept(t)
	files := p.files(t, required+threeRules)
	k.look(files, nil, "applied test")
	files.Contents = nil // nothing could be built of it
	k.look(files, nil, "unchanged")
}

func TestCallbacksAreOptional(t *testing.T) {
	p := newPKI(t)
	k := &Reloader{Live: &Live{}, Builder: Builder{Backend: &backend.Target{}}, Log: zerolog.Nop()}
	for _, err := range []error{nil, nil, errors.New("planted")} {
		k.receive(context.Background(), p.files(t, required+threeRules), err)
	}
	if k.Live.Current() == nil || k.Live.Status().Error != "planted" {
		t.Errorf("status is %+v", k.Live.Status())
	}
}

func TestKeeperThatIsStoppedSaysNothing(t *testing.T) {
	k := newKept(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	k.receive(ctx, nil, ctx.Err())
	if len(k.done) > 0 || k.Live.Status() != (Status{}) || k.log.Len() > 0 {
		t.Errorf("%q, %+v, %s", k.done, k.Live.Status(), k.log.String())
	}
}

func TestPolicyWithoutRulesIsSaidAloud(t *testing.T) {
	p := newPKI(t)
	k := newKept(t)
	k.look(p.files(t, required), nil, "applied test")
	events := k.events()
	if len(events) != 2 || events[0]["ip_rules"] != 0.0 || events[1]["level"] != "warn" || !strings.Contains(events[1]["message"].(string), "nobody can connect") {
		t.Errorf("logged as %v", events)
	}
}

// Load and Check read the same directory, and Check puts nothing in force.
func TestLoadAndCheckReadTheDirectory(t *testing.T) {
	p := newPKI(t)
	dir := t.TempDir()
	for name, text := range p.contents {
		if err := testpki.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := "generation: '7'\ncertificates: [{cert: server.crt, key: server.key, default: true}]\n" + required + threeRules
	if err := testpki.WriteFile(filepath.Join(dir, policyName), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	k := newKept(t)
	k.Dir = dir
	checked, err := Check(context.Background(), dir, k.Builder)
	if err != nil || checked.Generation != "7" || k.Live.Current() != nil {
		t.Fatalf("checked %+v, %v", checked, err)
	}
	k.Load(context.Background())
	if s := k.Live.Current(); s == nil || s.Digest != checked.Digest || len(k.done) != 1 {
		t.Errorf("loaded %+v, %q", s, k.done)
	}
	if err := os.Remove(filepath.Join(dir, "server.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(context.Background(), dir, k.Builder); err == nil || !strings.Contains(err.Error(), "server.key") {
		t.Errorf("without a key: %v", err)
	}
	began := time.Now()
	k.Load(context.Background())
	if status := k.Live.Status(); !strings.Contains(status.Error, "server.key") || status.FailedAt.Before(began) || k.Live.Current().Generation != "7" {
		t.Errorf("status is %+v", status)
	}
}
