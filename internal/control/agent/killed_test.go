package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/testkit/must"
)

// victim is the environment's name for the file with the options of the agent that is killed.
const victim = "AGENT_TEST_OPTIONS"

func TestMain(m *testing.M) {
	if path := os.Getenv(victim); path != "" {
		if err := beVictim(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return // it is killed before, or the test fails
	}
	m.Run()
}

// errand is what of the options goes to another process.
type errand struct {
	Database, Control, CAFile, Token, PolicyDir, StateDir string
	Admin                                                 config.Address
}

func beVictim(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var e errand
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	return Run(context.Background(), Options{
		Database: e.Database, Control: e.Control, CAFile: e.CAFile, Token: e.Token, PolicyDir: e.PolicyDir, StateDir: e.StateDir,
		Admin: e.Admin, Log: zerolog.New(os.Stderr),
	})
}

// spawn runs the agent in a process of its own.
func (s *site) spawn(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(errand{s.Database, s.Control, s.CAFile, s.Token, s.PolicyDir, s.StateDir, s.Admin})
	must.OK(t, err)
	path := filepath.Join(t.TempDir(), "options.json")
	must.OK(t, os.WriteFile(path, text, 0o600))
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), victim+"="+path)
	process.Stderr = s.log
	must.OK(t, process.Start())
	t.Cleanup(func() { // most have ended by then
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	return process
}

func TestAKilledAgentLeavesWholePoliciesAndGoesOn(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	changes := int64(100)
	if testing.Short() {
		changes = 20
	}
	process := s.spawn(t)
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.lies(t, 1) // the token is used, and what came of it is kept
	policies, other := []api.Policy{}, policytest.NewSpace(t)
	for generation := int64(2); generation <= changes; generation += 2 { // every file differs from one to the next
		policies = append(policies, other.Policy(t, policytest.Edition{Generation: generation}), space.Policy(t, policytest.Edition{Generation: generation + 1}))
	}

	quit, read := make(chan struct{}), make(chan error, 1)
	go func() { read <- keepReading(s.PolicyDir, quit) }()
	changed := make(chan struct{})
	go func() { // the changes come whether the agent is there or not
		defer close(changed)
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for _, p := range policies {
			c.offer(p)
			<-tick.C
		}
	}()
	kills := 0
	for ongoing := true; ongoing; kills++ {
		must.OK(t, retry.Sleep(t.Context(), rand.N(400*time.Millisecond)))
		must.OK(t, process.Process.Signal(syscall.SIGKILL))
		_ = process.Wait() // killed
		if _, err := readWhole(s.PolicyDir); err != nil {
			t.Errorf("after a kill: %v", err)
		}
		process = s.spawn(t)
		select {
		case <-changed:
			ongoing = false
		default:
		}
	}
	t.Logf("%d kills in %d changes", kills, len(policies))
	s.lies(t, policies[len(policies)-1].Generation)
	must.OK(t, process.Process.Signal(syscall.SIGKILL))
	_ = process.Wait() // killed
	close(quit)
	if err := <-read; err != nil {
		t.Errorf("a reader saw %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.enrolled != 1 {
		t.Errorf("it has enrolled %d times", c.enrolled)
	}
	if t.Failed() {
		t.Logf("the agents logged:\n%s", s.log)
	}
}

// keepReading reads a directory until it is to quit, or finds half a policy, or an older one than before.
func keepReading(dir string, quit chan struct{}) error {
	for last := int64(0); ; {
		generation, err := readWhole(dir)
		switch {
		case err != nil:
			return err
		case generation < last:
			return fmt.Errorf("generation %d behind %d", generation, last)
		}
		last = generation
		select {
		case <-quit:
			return nil
		default:
		}
	}
}
