package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

func TestWhatCanNotEnrolSaysWhy(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.pem")
	must.OK(t, testpki.WriteFile(other, testpki.MustCA(t, "another").PEM(), 0o644))
	file := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "token")
		must.OK(t, os.WriteFile(path, []byte(text), mode))
		return path
	}
	for want, change := range map[string]func(*site){
		"has no token":       func(s *site) { s.Token = "" },
		"a token works once": func(s *site) { s.Token = "pgmtls_00000000_another" },
		"token file":         func(s *site) { s.Token, s.TokenFile = "", "/does/not/exist" },
		"has group or world access (mode 0644); chmod 0600 it, or in a Kubernetes volume": func(s *site) { s.Token, s.TokenFile = "", file(theToken, 0o644) },
		"add this one to names in its pgmtls.yaml":                                        func(s *site) { s.Control = strings.Replace(s.Control, "127.0.0.1", "localhost", 1) },
		"can't be trusted":                          func(s *site) { s.CAFile = other },
		"the control plane's CA":                    func(s *site) { s.CAFile = "/does/not/exist" },
		"an agent authenticates with a certificate": func(s *site) { s.Control = strings.Replace(s.Control, "https", "http", 1) },
		"the token was for an agent of":             func(s *site) { s.Database = "0a1b2c3d-0000-4000-8000-000000000002" },
		"database must be a name or an id":          func(s *site) { s.Database = "../x" },
		"no policy directory":                       func(s *site) { s.PolicyDir = "" },
		"is not on this machine alone":              func(s *site) { s.Admin.Network, s.Admin.Address = "tcp", "192.0.2.1:9815" },
	} {
		s := newSite(t, newControl(t))
		change(s)
		if err := s.run(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something with %q", err, want)
		} else if strings.Contains(err.Error(), theToken) {
			t.Errorf("the token is in %v", err)
		}
	}
}

func TestEnrolmentWaitsForTheControlPlane(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	c.gate.set(true)
	s.Token, s.TokenFile = "", filepath.Join(t.TempDir(), "token")
	must.OK(t, os.WriteFile(s.TokenFile, []byte(theToken+"\n"), 0o600))
	s.start(t)
	eventually.OK(t, patience, func() error {
		if !strings.Contains(s.log.String(), "trying again") {
			return errors.New("it does not try again")
		}
		return nil
	})
	c.gate.set(false)
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.lies(t, 1)
}

func TestAnotherTokenEnrolsAnew(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	stop := s.start(t)
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.lies(t, 1)
	must.OK(t, stop())

	s.Token = "pgmtls_00000000_spent" // one that is good for nothing changes nothing
	stop = s.start(t)
	c.offer(space.Policy(t, policytest.Edition{Generation: 2}))
	s.lies(t, 2)
	must.OK(t, stop())

	c.set(func(c *control) {
		c.current = "nobody's"
		c.tokens = append(c.tokens, "pgmtls_00000000_new")
	})
	s.Token = "pgmtls_00000000_new"
	s.start(t)
	c.offer(space.Policy(t, policytest.Edition{Generation: 3}))
	s.lies(t, 3)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.enrolled != 2 {
		t.Errorf("it has enrolled %d times", c.enrolled)
	}
}

func TestAnAgentIsNotStartedForAnotherDatabase(t *testing.T) {
	c := newControl(t)
	s := newSite(t, c)
	s.Database = "orders"
	ready := make(chan struct{})
	s.Ready = func() { close(ready) }
	stop := s.start(t)
	<-ready
	must.OK(t, stop())
	s.Ready = nil
	s.Database = "payments"
	if err := s.run(t); err == nil || !strings.Contains(err.Error(), "named orders at the time") {
		t.Errorf("it ended with %v", err)
	}
	for _, name := range []string{"orders", database} {
		s.Database = name
		must.OK(t, s.start(t)())
	}
	if strings.Contains(s.log.String(), "new token") {
		t.Errorf("the token that it enrolled with is tried again:\n%s", s.log)
	}
}
