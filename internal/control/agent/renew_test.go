package agent

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
)

// kept is the identity in a state directory.
func (s *site) kept(t *testing.T) (i identity) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.StateDir, identityFile))
	must.OK(t, err)
	must.OK(t, json.Unmarshal(text, &i))
	return i
}

func serialOf(t *testing.T, c certificate) string {
	t.Helper()
	block, _ := pem.Decode([]byte(c.Certificate))
	parsed, err := x509.ParseCertificate(block.Bytes)
	must.OK(t, err)
	return parsed.SerialNumber.String()
}

func TestACertificateIsRenewedInTime(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	c.life = -time.Second // due at once
	c.renewed = 1         // the next lasts
	s.start(t)
	eventually.OK(t, patience, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.renewed != 2 || c.next != "" {
			return fmt.Errorf("renewed %d times, and the new one %q is not used yet", c.renewed-1, c.next)
		}
		return nil
	})
	c.offer(space.Policy(t, policytest.Edition{Generation: 1})) // over a stream with the new one
	s.lies(t, 1)
	eventually.OK(t, patience, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if i := s.kept(t); i.Next != nil || serialOf(t, i.Current) != c.current {
			return errors.New("the new certificate is not kept as the one that works")
		}
		return nil
	})
}

func TestACertificateThatDoesNotWorkIsGivenUp(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	c.life, c.renewed, c.refuse = -time.Second, 1, true
	s.start(t)
	eventually.OK(t, patience, func() error {
		if !strings.Contains(s.log.String(), "uses the previous one") {
			return errors.New("it goes on with the new one")
		}
		return nil
	})
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.lies(t, 1)
	if i := s.kept(t); i.Next != nil || serialOf(t, i.Current) != c.current {
		t.Error("the new certificate is kept")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renewed > 2 {
		t.Errorf("it was renewed %d times in a row", c.renewed-1)
	}
}

func TestACertificateIsJudgedByWhatShowedIt(t *testing.T) {
	c := newControl(t)
	s := newSite(t, c)
	ready := make(chan struct{})
	s.Ready = func() { close(ready) }
	stop := s.start(t)
	<-ready
	must.OK(t, stop())
	kept, err := openState(s.StateDir)
	must.OK(t, err)
	defer kept.close()
	self := s.kept(t)
	a, err := newAgent(s.Options, kept, self)
	must.OK(t, err)
	before := a.client
	must.OK(t, a.become(self.Current, self.ControlCA))
	a.confirm(before) // a stream that was opened with the one before says nothing
	if a.self.Next == nil {
		t.Error("the one before has confirmed the new one")
	}
	if !a.withdraw(before) || a.self.Next == nil {
		t.Error("the one before has taken the new one with it")
	}
	after := a.client
	if !a.withdraw(after) || a.self.Next != nil || s.kept(t).Next != nil {
		t.Error("the new one is not given up")
	}
	if a.withdraw(a.client) {
		t.Error("there is another one to try")
	}
	must.OK(t, a.become(self.Current, self.ControlCA))
	a.confirm(a.client)
	if a.self.Next != nil || s.kept(t).Next != nil {
		t.Error("the new one is not confirmed")
	}
}

func TestARenewalThatWasNotUsedIsUsedByTheNextStart(t *testing.T) {
	c, space := newControl(t), policytest.NewSpace(t)
	s := newSite(t, c)
	c.life, c.renewed = -time.Second, 1
	stop := s.start(t)
	eventually.OK(t, patience, func() error {
		if !strings.Contains(s.log.String(), "was renewed") {
			return errors.New("not yet renewed")
		}
		return nil
	})
	must.OK(t, stop())
	c.offer(space.Policy(t, policytest.Edition{Generation: 1}))
	s.start(t)
	s.lies(t, 1)
	eventually.OK(t, patience, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if i := s.kept(t); i.Next != nil || serialOf(t, i.Current) != c.current {
			return errors.New("it does not work with the new one")
		}
		return nil
	})
}
