package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// mistake is what an operator may do wrong to a policy that is in force.
type mistake struct {
	name string
	make func(*testing.T, *proxy)
	// at is a text in the policy.yaml on disk, whose line the complaint must name; says is what follows the line.
	at, says string
}

// mistakes leave what they don't say as it is: the proxy serves the usual policy.
func mistakes() []mistake {
	put := func(name string, text []byte) func(*testing.T, *proxy) {
		return func(t *testing.T, p *proxy) { writeFile(t, p.policyFile(name), text) }
	}
	writing := func(change func(*policy)) func(*testing.T, *proxy) {
		return func(t *testing.T, p *proxy) {
			bad := usualPolicy()
			bad.Generation = "bad"
			change(&bad)
			writeFile(t, p.policyFile("policy.yaml"), bad.text(t))
		}
	}
	const cert, key, ca = `"cert": "private.crt"`, `"key": "private.key"`, `"space-ca.pem"`
	return []mistake{
		{"the key of another certificate", func(t *testing.T, p *proxy) {
			must.OK(t, testpki.WriteFile(p.policyFile("private.key"), pki.public.KeyPEM, 0o600))
		}, key, `certificates[0].key: "private.key" is refused: `},
		{"61 rules", writing(func(bad *policy) {
			for i := range 60 {
				bad.IPRules = append(bad.IPRules, ipRule{ID: fmt.Sprint("rule ", i), CIDR: fmt.Sprintf("192.0.2.%d/32", i)})
			}
		}), "{\n      \"id\": \"rule 59\"", "ip_rules[60]: is item 61 of ip_rules; the limit is 60"},
		{"host bits", writing(func(bad *policy) { bad.IPRules[0].CIDR = "127.0.0.1/8" }), "127.0.0.1/8",
			`ip_rules[0].cidr: "127.0.0.1/8" has host bits set; write 127.0.0.0/8 for the network or 127.0.0.1/32 for the one address`},
		{"half a certificate", put("private.crt", pki.private.CertPEM[:len(pki.private.CertPEM)/2]), cert, `certificates[0].cert: "private.crt" is refused: `},
		{"half a key", func(t *testing.T, p *proxy) {
			must.OK(t, testpki.WriteFile(p.policyFile("private.key"), pki.private.KeyPEM[:len(pki.private.KeyPEM)/2], 0o600))
		}, key, `certificates[0].key: "private.key" is refused: `},
		{"an empty CA", put("space-ca.pem", nil), ca, `client_ca[0]: "space-ca.pem" is refused: `},
		{"a key that others may read", func(t *testing.T, p *proxy) { must.OK(t, os.Chmod(p.policyFile("private.key"), 0o644)) }, key,
			`certificates[0].key: "private.key" is refused: `},
		{"a certificate that is not there", func(t *testing.T, p *proxy) { must.OK(t, os.Remove(p.policyFile("private.crt"))) }, cert,
			`certificates[0].cert: "private.crt" does not exist`},
		{"half a policy", func(t *testing.T, p *proxy) {
			text := p.policy.text(t)
			writeFile(t, p.policyFile("policy.yaml"), text[:len(text)/2])
		}, "", ""},
		{"no policy", func(t *testing.T, p *proxy) { must.OK(t, os.Remove(p.policyFile("policy.yaml"))) }, "", ""},
	}
}

// The whole of a mistake's life: noticed within a second, named by file and line in /status, counted, logged once, without
// effect on clients; and over when the files are right again.
func TestMistakeInThePolicyChangesNothingAndIsNamed(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	inForce := p.status(t).Policy
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			logged := p.log.count(isRefusedPolicy)
			m.make(t, p)
			made := time.Now()
			complaint := p.waitComplaint(t)
			if took := time.Since(made); took >= missed+5*p.pace(t) {
				t.Errorf("noticed after %v", took)
			}
			if want := p.policyFile("policy.yaml") + m.line(t, p) + m.says; !strings.HasPrefix(complaint.Error, want) {
				t.Errorf("the complaint is\n%s\nwant it to begin with\n%s", complaint.Error, want)
			}
			if since := complaint.FailingSince; since == nil || since.After(time.Now()) || since.Before(made.Add(-missed)) {
				t.Errorf("failing since %v", since)
			}
			p.waitMetric(t, "pgmtls_policy_last_reload_success", 0)
			p.comesIn(t, "app")

			// However often it is found.
			refused := p.metric(t, reloads("refused"))
			p.signal(t, syscall.SIGHUP)
			p.waitMore(t, reloads("refused"), refused)
			again := p.status(t)
			if again.Reload.Error != complaint.Error || !again.Reload.FailingSince.Equal(*complaint.FailingSince) {
				t.Errorf("/status has %+v, then %+v", complaint, again.Reload)
			}
			if again.Policy.Digest != inForce.Digest || again.Policy.LoadedAt != inForce.LoadedAt {
				t.Errorf("/status has the policy %+v, want %+v", again.Policy, inForce)
			}
			if n := p.log.count(isRefusedPolicy) - logged; n != 1 {
				t.Errorf("the log has it %d times", n)
			}

			writePolicyDir(t, p.PolicyDir, p.policy)
			p.waitRecovery(t)
			p.comesIn(t, "app")
		})
	}
	if now := p.status(t).Policy; now.Digest != inForce.Digest || now.LoadedAt != inForce.LoadedAt {
		t.Errorf("/status has the policy %+v, want %+v", now, inForce)
	}
}

// line is where the complaint has to point to: ":7: ", or ":" for a line of the reader's choice.
func (m mistake) line(t *testing.T, p *proxy) string {
	t.Helper()
	if m.at == "" {
		return ":"
	}
	text, err := os.ReadFile(p.policyFile("policy.yaml"))
	must.OK(t, err)
	before, _, found := bytes.Cut(text, []byte(m.at))
	if !found {
		t.Fatalf("policy.yaml has no %s", m.at)
	}
	return fmt.Sprintf(":%d: ", bytes.Count(before, []byte("\n"))+1)
}

func isRefusedPolicy(e event) bool {
	return e.text("level") == "error" && e.text("message") == "the policy on disk is refused; the last valid one stays in force"
}

// reloadStatus is "reload" of GET /status.
type reloadStatus struct {
	Error        string
	FailingSince *time.Time
}

// waitComplaint waits until what is on disk is refused.
func (p *proxy) waitComplaint(t *testing.T) reloadStatus {
	t.Helper()
	var found reloadStatus
	eventually.OK(t, patience, func() error {
		status := p.status(t).Reload
		found = reloadStatus{status.Error, status.FailingSince}
		if found.Error == "" {
			return eventually.ErrNotYet
		}
		return nil
	})
	return found
}

// waitRecovery waits until what is on disk is in force again.
func (p *proxy) waitRecovery(t *testing.T) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		if status := p.status(t).Reload; status.Error != "" || status.FailingSince != nil {
			return errors.New(status.Error)
		}
		return nil
	})
	p.waitMetric(t, "pgmtls_policy_last_reload_success", 1)
}

// waitMore waits until a sample has grown.
func (p *proxy) waitMore(t *testing.T, sample string, than float64) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		if n := p.metric(t, sample); n <= than {
			return fmt.Errorf("%s is still %v", sample, n)
		}
		return nil
	})
}
