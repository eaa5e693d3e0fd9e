package policysync

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// serialOf is a certificate's serial as reports have it.
func serialOf(t *testing.T, pair *testpki.Pair) string {
	serial, err := config.ParseSerial(fmt.Sprintf("%x", pair.Cert.SerialNumber.Bytes()))
	must.OK(t, err)
	return serial.String()
}

func TestARevocationIsInForceWhenItsLastSessionHasEnded(t *testing.T) {
	p := startProxy(t, filepath.Join(t.TempDir(), "policy"), map[string]any{"backend": map[string]any{"address": startDatabase(t)}})
	s, c := policytest.NewSpace(t), p.courier()
	const grace = "400ms"
	deliver(t, c, s.Policy(t, edition{Generation: 1, EndGrace: grace}))
	gone, stays := s.CA.MustIssue(t, testpki.Client("gone")), s.CA.MustIssue(t, testpki.Client("stays"))
	visit(t, p, s, stays)
	busy := visit(t, p, s, gone)
	busy.query(t)

	revoked := s.Policy(t, edition{Generation: 2, EndGrace: grace, Revoked: []string{serialOf(t, gone)}})
	effect, err := c.DryRun(soon(t), revoked)
	must.OK(t, err)
	if !effect.OK || effect.Ended != 1 || effect.Kept != 1 || effect.ByCertificate[serialOf(t, gone)] != 1 ||
		effect.ByReason["certificate_revoked"] != 1 || len(effect.Sessions) != 1 || effect.Sessions[0].Serial != serialOf(t, gone) || effect.Sessions[0].User != "app" {
		t.Errorf("the dry run says %+v", effect)
	}

	reports := deliver(t, c, revoked)
	busy.goodbye()
	if len(reports) != 2 {
		t.Fatalf("got %d reports: %+v", len(reports), reports)
	}
	applied, inForce := reports[0], reports[1]
	if applied.Applied != 2 || applied.InForce != 1 {
		t.Errorf("first: %+v", applied)
	}
	if inForce.InForce != 2 || inForce.InForceAt.Sub(inForce.AppliedAt) < 300*time.Millisecond || inForce.Ended["certificate_revoked"] != 1 || inForce.Kept != 1 {
		t.Errorf("last: %+v", inForce)
	}
	if used := inForce.Certificates[serialOf(t, stays)]; used.Sessions != 1 || used.LastSeen.IsZero() {
		t.Errorf("the other certificate: %+v of %+v", used, inForce.Certificates)
	}
}

func TestAProxyThatStartsAnewAcknowledgesWhatItFinds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	p := startProxy(t, dir, nil)
	c, policy := p.courier(), policytest.NewSpace(t).Policy(t, edition{Generation: 5})
	deliver(t, c, policy)
	p.stop()
	if r, err := c.Observe(t.Context()); err == nil || r.OnDisk != 5 || r.Applied != 0 || !strings.Contains(r.Error, "refused") {
		t.Errorf("of a proxy that is down: %+v, %v", r, err)
	}
	p = startProxy(t, dir, nil)
	c.Admin = p.Admin
	for name, courier := range map[string]*Publisher{"the same courier": c, "a fresh one, which reads the directory": p.courier()} {
		if err := await(soon(t), courier, 5, func(api.Report) {}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAPolicyOfAnotherDatabaseWithTheSameNumberIsNotOurs(t *testing.T) {
	p := startProxy(t, filepath.Join(t.TempDir(), "policy"), nil)
	s, c := policytest.NewSpace(t), p.courier()
	foreign := s.Policy(t, edition{Generation: 5})
	foreign.Database = "another"
	foreign.Files[api.PolicyFile] = []byte(strings.Replace(string(foreign.Files[api.PolicyFile]), database, "another", 1))
	theirs := &Publisher{Database: "another", Dir: p.Dir, Admin: p.Admin}
	deliver(t, theirs, foreign)

	r, err := c.Observe(t.Context())
	if err != nil || r.Applied != 0 || r.InForce != 0 || r.OnDisk != 0 || !strings.Contains(r.Drift, "belongs to database another") {
		t.Errorf("observed %+v, %v", r, err)
	}
	c.TakeOver = true
	ours := s.Policy(t, edition{Generation: 5})
	reports := deliver(t, c, ours)
	if last := reports[len(reports)-1]; last.InForceAt.Before(c.published.Add(-time.Second)) {
		t.Errorf("the other's acknowledgement was taken for ours: %+v", last)
	}
}

func TestWhatTheProxyRefusesIsReported(t *testing.T) {
	p := startProxy(t, filepath.Join(t.TempDir(), "policy"), nil)
	s, c := policytest.NewSpace(t), p.courier()
	deliver(t, c, s.Policy(t, edition{Generation: 1}))
	torn := &testpki.Pair{CertPEM: s.Server.CertPEM, KeyPEM: policytest.NewSpace(t).Server.KeyPEM} // the key of another certificate
	bad := s.Policy(t, edition{Generation: 2, Server: torn})
	effect, err := c.DryRun(soon(t), bad)
	if err != nil || effect.OK || len(effect.Problems) == 0 {
		t.Errorf("the dry run says %+v, %v", effect, err)
	}
	_, err = c.Publish(t.Context(), bad)
	must.OK(t, err)

	reports := make(chan api.Report, 10)
	awaited := make(chan error, 1)
	go func() { awaited <- await(soon(t), c, 3, func(r api.Report) { reports <- r }) }()
	if r := <-reports; r.Error == "" || r.Applied != 1 {
		t.Errorf("of the refusal: %+v", r)
	}
	_, err = c.Publish(t.Context(), s.Policy(t, edition{Generation: 3}))
	must.OK(t, err)
	must.OK(t, <-awaited)
	close(reports)
	var last api.Report
	for last = range reports {
		if last.Error != "" || last.Applied != 3 {
			t.Errorf("behind it: %+v", last)
		}
	}
	if last.InForce != 3 {
		t.Errorf("at the end: %+v", last)
	}
}

func TestAHandEditIsDriftAndNoAcknowledgement(t *testing.T) {
	p := startProxy(t, filepath.Join(t.TempDir(), "policy"), nil)
	s, c := policytest.NewSpace(t), p.courier()
	policy := s.Policy(t, edition{Generation: 1})
	deliver(t, c, policy)
	// The same generation, with a network more.
	edited := strings.Replace(string(policy.Files[api.PolicyFile]), "127.0.0.0/8", "0.0.0.0/0", 1)
	must.OK(t, testpki.WriteFile(filepath.Join(p.Dir, api.PolicyFile), []byte(edited), 0o644))
	eventually.OK(t, patience, func() error {
		r, err := c.Observe(t.Context())
		if err != nil || r.Applied != 0 || r.InForce != 0 || r.Drift == "" {
			return fmt.Errorf("observed %+v, %w", r, err)
		}
		return nil
	})
	deliver(t, c, policy)
	if r, err := c.Observe(t.Context()); err != nil || r.InForce != 1 || r.Drift != "" {
		t.Errorf("put right: %+v, %v", r, err)
	}
}

func TestADryRunLeavesTheDirectoryAsItWas(t *testing.T) {
	p := startProxy(t, filepath.Join(t.TempDir(), "policy"), nil)
	s, c := policytest.NewSpace(t), p.courier()
	current := s.Policy(t, edition{Generation: 1})
	deliver(t, c, current)
	before := fmt.Sprint(names(t, p.Dir))

	effect, err := c.DryRun(soon(t), current)
	if err != nil || !effect.OK || !effect.Unchanged {
		t.Errorf("of what is in force: %+v, %v", effect, err)
	}
	other := policytest.NewSpace(t).Policy(t, edition{Generation: 2, CIDRs: []string{"10.0.0.0/8"}})
	effect, err = c.DryRun(soon(t), other)
	if err != nil || !effect.OK || effect.Unchanged {
		t.Errorf("of another: %+v, %v", effect, err)
	}
	if after := fmt.Sprint(names(t, p.Dir)); after != before {
		t.Errorf("it held %s, and holds %s", before, after)
	}
	r, err := c.Observe(t.Context())
	if err != nil || r.InForce != 1 || r.Drift != "" {
		t.Errorf("observed %+v, %v", r, err)
	}
}

func TestADryRunsFilesOutliveAPublicationMeanwhile(t *testing.T) {
	s := policytest.NewSpace(t)
	c := &Publisher{Database: database, Dir: t.TempDir()}
	draft := policytest.NewSpace(t).Policy(t, edition{Generation: 2})
	staged, err := c.stage(t.Context(), draft)
	must.OK(t, err)
	publish(t, c, s.Policy(t, edition{Generation: 1}))
	for name := range draft.Files {
		if _, err := os.Stat(filepath.Join(c.Dir, name)); err != nil {
			t.Errorf("swept: %v", err)
		}
	}
	c.need(draft, -1)
	must.OK(t, c.tidy(t.Context(), staged))
	if left := names(t, c.Dir); len(left) != 4 {
		t.Errorf("left: %v", left)
	}
	staged, err = c.stage(t.Context(), draft)
	must.OK(t, err)
	publish(t, c, draft)
	c.need(draft, -1)
	must.OK(t, c.tidy(t.Context(), staged))
	if generation, err := readWhole(c.Dir); generation != 2 || err != nil {
		t.Errorf("the files of what was tried and then published are gone: %d, %v", generation, err)
	}
}

func TestAForeignDirectoryGetsNoDryRunsFiles(t *testing.T) {
	p := startProxy(t, filepath.Join(t.TempDir(), "policy"), nil)
	must.OK(t, os.MkdirAll(p.Dir, 0o755))
	must.OK(t, os.WriteFile(filepath.Join(p.Dir, api.PolicyFile), []byte("ip_rules: []\n"), 0o644))
	if _, err := p.courier().DryRun(soon(t), policytest.NewSpace(t).Policy(t, edition{Generation: 1})); err == nil || len(names(t, p.Dir)) != 1 {
		t.Errorf("%v, %v", err, names(t, p.Dir))
	}
}
