package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/syncbuf"
)

const database = policytest.Database

// patience is how long a test waits for what should happen at once. Nothing waits it out when all is well.
const patience = time.Minute

// site is where an agent runs.
type site struct {
	Options
	log *syncbuf.Buffer
}

func newSite(t *testing.T, c *control) *site {
	dir := t.TempDir()
	must.OK(t, os.Mkdir(filepath.Join(dir, "policy"), 0o750))
	l := &syncbuf.Buffer{}
	return &site{Options{
		Database: database, Control: c.URL, CAFile: c.CAFile, Token: theToken,
		PolicyDir: filepath.Join(dir, "policy"), StateDir: filepath.Join(dir, "state"),
		Admin:        config.Address{Network: "unix", Address: filepath.Join(dir, "nobody.sock")},
		ObserveEvery: 50 * time.Millisecond, Log: zerolog.New(l),
	}, l}
}

// start runs an agent until it is stopped. Stop gives what Run gave.
func (s *site) start(t *testing.T) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, s.Options) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("the agent ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the agent logged:\n%s", s.log)
		}
	})
	return stop
}

// run runs an agent that ends by itself.
func (s *site) run(t *testing.T) error {
	t.Helper()
	ctx := soon(t)
	err := Run(ctx, s.Options)
	if ctx.Err() != nil {
		t.Errorf("the agent does not end; it logged:\n%s", s.log)
	}
	return err
}

// lies waits until a generation lies in the policy directory, whole.
func (s *site) lies(t *testing.T, generation int64) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		if got, err := readWhole(s.PolicyDir); err != nil || got != generation {
			return fmt.Errorf("generation %d lies there, want %d: %w", got, generation, err)
		}
		return nil
	})
}

// readWhole reads a directory as a reader without locks would: it takes what it found when policy.yaml is still the same
// behind it. The generation is 0 when there is none.
func readWhole(dir string) (generation int64, err error) {
	for range 1000 {
		first, err := os.ReadFile(filepath.Join(dir, api.PolicyFile))
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		p, wrong := readPolicy(dir, first)
		again, err := os.ReadFile(filepath.Join(dir, api.PolicyFile))
		if err != nil {
			return 0, err
		}
		if bytes.Equal(first, again) {
			return p.Generation, wrong
		}
	}
	return 0, errors.New("policy.yaml keeps changing")
}

func readPolicy(dir string, text []byte) (api.Policy, error) {
	p := api.Policy{Files: map[string][]byte{api.PolicyFile: text}}
	p.Database, p.Generation, _ = policyformat.ParseHeader(text)
	parsed, err := config.ParsePolicy(api.PolicyFile, text)
	if err != nil {
		return p, err
	}
	names := []string{}
	for _, f := range append(parsed.ClientCA, parsed.ClientCRL...) {
		names = append(names, f.Path)
	}
	for _, pair := range parsed.Certificates {
		names = append(names, pair.Cert.Path, pair.Key.Path)
	}
	for _, name := range names {
		if p.Files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return p, err
		}
	}
	return p, policyformat.Check(p)
}
