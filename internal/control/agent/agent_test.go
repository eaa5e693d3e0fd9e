package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
)

func TestAnAgentEnrolsOnceAndDelivers(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	ready := make(chan struct{})
	s.Ready = func() { close(ready) }
	stop := s.start(t)
	<-ready
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.lies(t, 1)
	c.offer(space.Policy(t, policytest.Edition{Generation: 2}))
	s.lies(t, 2)
	c.told(t, "of generation 2", func(r api.Report) bool { return r.OnDisk == 2 })
	must.OK(t, stop())

	must.OK(t, filepath.WalkDir(s.StateDir, func(path string, d fs.DirEntry, err error) error {
		must.OK(t, err)
		info, err := d.Info()
		must.OK(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}))
	if strings.Contains(s.log.String(), theToken) || strings.Contains(s.log.String(), "PRIVATE") {
		t.Errorf("a secret is in the log:\n%s", s.log)
	}

	s.Token, s.CAFile = "", "" // both were kept as far as they are needed
	s.Ready = nil
	s.start(t)
	c.offer(space.Policy(t, policytest.Edition{Generation: 3}))
	s.lies(t, 3)
	if c.enrolled != 1 {
		t.Errorf("it has enrolled %d times", c.enrolled)
	}
}

func TestAnAgentServesItsOwnDatabaseOnly(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	s.start(t)
	other := space.Policy(t, policytest.Edition{Generation: 7})
	other.Database = "another"
	other.Files[api.PolicyFile] = []byte(strings.Replace(string(other.Files[api.PolicyFile]), database, "another", 1))
	must.OK(t, policyformat.Check(other))
	c.offer(other)
	c.told(t, "of the refused policy", func(r api.Report) bool { return strings.Contains(r.Error, "belongs to database another") })
	torn := space.Policy(t, policytest.Edition{Generation: 8})
	for name, content := range torn.Files {
		if strings.HasSuffix(name, ".key") {
			torn.Files[name] = content[:len(content)/2]
		}
	}
	c.offer(torn)
	c.told(t, "of the torn policy", func(r api.Report) bool { return strings.Contains(r.Error, "not named after its content") })
	if generation, err := readWhole(s.PolicyDir); generation != 0 || err != nil {
		t.Errorf("generation %d lies there: %v", generation, err)
	}
	c.set(func(c *control) { c.stubborn = true })
	c.offer(space.Policy(t, policytest.Edition{Generation: 3})) // what was refused does not count
	s.lies(t, 3)
}

func TestAnOlderGenerationIsNeverDelivered(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	stop := s.start(t)
	c.offer(space.Policy(t, policytest.Edition{Generation: 5}))
	s.lies(t, 5)
	must.OK(t, stop())
	must.OK(t, os.RemoveAll(s.PolicyDir)) // nothing but the agent's own memory is left
	s.Admin.Address += ".again"           // its reports can be told from those of before
	c.offer(space.Policy(t, policytest.Edition{Generation: 4}))
	stop = s.start(t)
	c.told(t, "of what it has had", func(r api.Report) bool {
		return r.OnDisk == 5 && strings.Contains(r.Error, s.Admin.Address)
	})
	if _, err := os.Stat(filepath.Join(s.PolicyDir, api.PolicyFile)); err == nil {
		t.Error("the older policy is in place")
	}
	if !strings.Contains(s.log.String(), "older policy") {
		t.Errorf("it is not logged:\n%s", s.log)
	}
	c.offer(space.Policy(t, policytest.Edition{Generation: 6}))
	s.lies(t, 6)
	must.OK(t, stop())
}

func TestAnAgentCatchesUpAfterTheControlPlaneWasAway(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	s.start(t)
	first := space.Policy(t, policytest.Edition{Generation: 1})
	c.offer(first)
	s.lies(t, 1)
	for generation := int64(2); generation < 5; generation++ {
		c.gate.set(true)
		path := filepath.Join(s.PolicyDir, api.PolicyFile)
		must.OK(t, os.WriteFile(path, []byte("ip_rules: []\n"), 0o644))
		must.OK(t, os.Remove(path)) // somebody edits, and the control plane is not there
		s.lies(t, generation-1)
		c.offer(space.Policy(t, policytest.Edition{Generation: generation}))
		c.gate.set(false)
		s.lies(t, generation)
	}
	c.told(t, "of the last generation", func(r api.Report) bool { return r.OnDisk == 4 })
	c.mu.Lock()
	defer c.mu.Unlock()
	if first := c.has[0]; first.Generation != 0 {
		t.Errorf("the first stream says %+v", first)
	}
	if last := c.has[len(c.has)-1]; last.Generation != 3 || last.Digest == "" {
		t.Errorf("the last stream says %+v", last)
	}
}

func TestAControlPlaneThatComesBackIsToldWhatTheProxyHas(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	s.start(t)
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.lies(t, 1)
	c.told(t, "of generation 1", func(r api.Report) bool { return r.OnDisk == 1 })
	eventually.OK(t, patience, func() error { // no report is on its way
		c.mu.Lock()
		defer c.mu.Unlock()
		if last := c.reports[len(c.reports)-1]; last.Error == "" {
			return errors.New("the proxy that is down is not reported")
		}
		return nil
	})
	c.gate.set(true)
	c.set(func(c *control) { c.reports = nil }) // restored, so to say
	c.gate.set(false)
	c.told(t, "of what it has", func(r api.Report) bool { return r.OnDisk == 1 })
}

func TestAQuestionIsAnswered(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	s.start(t)
	c.set(func(c *control) {
		c.question = &api.Question{ID: "q-1", Policy: space.Policy(t, policytest.Edition{Generation: 1})}
	})
	eventually.OK(t, patience, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.answers) != 1 || !strings.Contains(c.answers[0].Error, "query the running proxy") { // nobody is there
			return fmt.Errorf("the answers are %+v", c.answers)
		}
		return nil
	})
}

// The answer has the question's kind, by which the control plane knows an agent that has taken it for a dry run.
func TestAQuestionIsAnsweredAsOfItsKind(t *testing.T) {
	for kind, words := range map[string]string{api.AskReport: "can't be reached at ", "weather": "does not know the question \"weather\"; upgrade it"} {
		t.Run(kind, func(t *testing.T) {
			c := newControl(t)
			s := newSite(t, c)
			s.start(t)
			c.set(func(c *control) { c.question = &api.Question{ID: "q-1", Kind: kind} })
			eventually.OK(t, patience, func() error {
				c.mu.Lock()
				defer c.mu.Unlock()
				if len(c.answers) != 1 || c.answers[0].Kind != kind || !strings.Contains(c.answers[0].Error, words) { // nobody is there
					return fmt.Errorf("the answers are %+v", c.answers)
				}
				return nil
			})
		})
	}
}

func TestARevokedAgentEndsAndItsProxyGoesOn(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	ended := make(chan error, 1)
	ctx := soon(t)
	go func() { ended <- Run(ctx, s.Options) }()
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.lies(t, 1)
	c.set(func(c *control) { c.current = "nobody's" })
	if err := <-ended; !errors.Is(err, ErrRefused) {
		t.Errorf("it ended with %v", err)
	}
	s.lies(t, 1)
}

func TestOneProcessHasAState(t *testing.T) {
	c := newControl(t)
	s := newSite(t, c)
	ready := make(chan struct{})
	s.Ready = func() { close(ready) }
	s.start(t)
	<-ready
	if err := s.run(t); err == nil || !strings.Contains(err.Error(), "another running agent") {
		t.Errorf("the second agent ended with %v", err)
	}
}

func TestADamagedStateIsNotGuessedAt(t *testing.T) {
	c := newControl(t)
	s := newSite(t, c)
	must.OK(t, os.Mkdir(s.StateDir, 0o700))
	path := filepath.Join(s.StateDir, identityFile)
	must.OK(t, os.WriteFile(path, []byte("{"), 0o600))
	if err := s.run(t); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("it ended with %v", err)
	}
	must.OK(t, os.WriteFile(path, []byte("{}"), 0o600))
	if err := s.run(t); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("it ended with %v", err)
	}
	must.OK(t, os.Chmod(path, 0o644))
	if err := s.run(t); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("it ended with %v", err)
	}
	must.OK(t, os.Chmod(s.StateDir, 0o777))
	if err := s.run(t); err == nil || !strings.Contains(err.Error(), "chmod 0700") {
		t.Errorf("it ended with %v", err)
	}
}

// Nobody scrapes an agent: its control plane counts for it.
func TestLostLinesOfTheLogAreReported(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	s.LogLinesDropped = func() uint64 { return 7 }
	stop := s.start(t)
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	c.told(t, "of lost lines", func(r api.Report) bool { return r.LogLinesDropped == 7 })
	must.OK(t, stop())
}

func TestWhatIsToBeReportedFits(t *testing.T) {
	r := api.Report{Error: strings.Repeat("ä", 4096), Ended: map[string]int{strings.Repeat("x", 65): 1, "revoked": 2}, Certificates: map[string]api.Usage{}}
	for i := range 3000 {
		r.Certificates[fmt.Sprintf("%04x", i)] = api.Usage{Sessions: i}
	}
	got := bounded(r)
	text, err := json.Marshal(got)
	must.OK(t, err)
	if len(got.Error) > maxSaid || strings.ContainsRune(got.Error, '\uFFFD') || len(got.Ended) != 1 || len(got.Certificates) != maxCertificates || len(text) > api.MaxReport {
		t.Errorf("%d bytes of error, %d reasons, %d certificates, %d bytes", len(got.Error), len(got.Ended), len(got.Certificates), len(text))
	}
	if len(r.Ended) != 2 || len(r.Certificates) != 3000 {
		t.Error("the report itself was changed")
	}
}
