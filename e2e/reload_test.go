package e2e

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// promised is how soon new connections follow a change (docs/operations.md).
const promised = time.Second

// pace is how long this machine takes for a connection when nothing has changed. Bounds of time have a multiple of it on
// top, so that they judge the proxy and not how busy the machine is.
func (p *proxy) pace(t *testing.T) (longest time.Duration) {
	t.Helper()
	for range 3 {
		began := time.Now()
		p.comesIn(t, "app")
		longest = max(longest, time.Since(began))
	}
	return longest
}

// missed is what only a change takes that nobody has noticed: it is found by the slow look, every 10 seconds.
const missed = 5 * time.Second

// startAt starts a proxy whose policy directory somebody else writes.
func startAt(t *testing.T, dir string, first policy) *proxy {
	t.Helper()
	p := start(t, options{Config: map[string]any{"policy_dir": dir}})
	p.PolicyDir, p.policy = dir, first
	return p
}

// next gives the policy another generation and puts it where the replacement puts it.
func (p *proxy) next(t *testing.T, replace func(policy), change func(*policy)) {
	t.Helper()
	generation, err := strconv.Atoi(p.policy.Generation)
	must.OK(t, err)
	p.policy.Generation = strconv.Itoa(generation + 1)
	change(&p.policy)
	replace(p.policy)
}

// The time is taken from the end of the write to the first connection that is treated by the new policy. The median
// has to keep the promise: on a machine that runs many tests at once, a single one may wait for a processor. For the
// same reason the test is not parallel to those outside of it.
func TestNewConnectionsFollowAChangeWithinASecond(t *testing.T) {
	for _, way := range replacements() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			dir, replace := way.begin(t, t.TempDir(), usualPolicy())
			p := startAt(t, dir, usualPolicy())
			allowed, rules := true, p.policy.IPRules
			var times []time.Duration
			for range 6 {
				allowed = !allowed
				p.next(t, replace, func(next *policy) {
					next.IPRules = rules
					if !allowed {
						nobody(next)
					}
				})
				times = append(times, p.verdictTime(t, time.Now(), allowed))
			}
			t.Logf("new connections follow after %v, at most %v", median(times), slices.Max(times))
			slow := 5 * p.pace(t) // the last change let the client in again
			if median(times) >= promised+slow || slices.Max(times) >= missed+slow {
				t.Errorf("new connections follow after %v", times)
			}
			if status := p.status(t); status.Policy.Generation != p.policy.Generation || status.Reload.Error != "" {
				t.Errorf("/status has %+v, %+v", status.Policy, status.Reload)
			}
		})
	}
}

// Each beginning of the new file is a policy of its own to somebody who reads it, and many are valid ones: the rule
// that lets the client in is the last line.
func TestSlowWritingInPlaceNeverPutsAHalfInForce(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	before := p.status(t)
	text := []byte(`generation: "slow"
client_ca: [space-ca.pem]
certificates:
  - {cert: private.crt, key: private.key}
ip_rules:
  - {id: first, cidr: 192.0.2.1/32}
  - {id: second, cidr: 192.0.2.2/32}
  - {id: loopback, cidr: 127.0.0.0/8}
`)
	file, err := os.OpenFile(p.policyFile("policy.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	must.OK(t, err)
	defer file.Close()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for i := range text {
		<-pace.C
		_, err := file.Write(text[i : i+1])
		must.OK(t, err)
		if i%5 == 0 {
			p.comesIn(t, "app")
		}
	}
	if now := p.status(t); now.Policy.Digest != before.Policy.Digest || now.Reload.Error != "" {
		t.Errorf("while the file is open, /status has %+v, %+v", now.Policy, now.Reload)
	}
	must.OK(t, file.Close())
	closed := time.Now()
	p.waitGeneration(t, "slow")
	took := time.Since(closed)
	t.Logf("in force %v after the close", took)
	if took >= promised+5*p.pace(t) {
		t.Errorf("the policy is in force %v after the close", took)
	}
	p.comesIn(t, "app")
	if n := p.metric(t, reloads("refused")); n != 0 {
		t.Errorf("%v looks saw a bad policy", n)
	}
}

func reloads(result string) string { return `pgmtls_policy_reloads_total{result="` + result + `"}` }

// A volume with certificates, keys and policy in it goes to and fro between two complete versions, under clients that
// connect all the time, and verify everything.
func TestSwapOfAVolumeNeverShowsAMixture(t *testing.T) {
	t.Parallel()
	const swaps = 100
	green := testpki.MustCA(t, "Green Server CA")
	pairs := [2]*testpki.Pair{pki.private, green.MustIssue(t, testpki.Server(privateName))}
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	writeFile(t, bundle, slices.Concat(pki.privateCA.PEM(), green.PEM()))
	config := clientTLS("app")
	config.RootCAs = x509.NewCertPool()
	config.RootCAs.AddCert(pki.privateCA.Cert)
	config.RootCAs.AddCert(green.Cert)

	v := newVolume(t, t.TempDir(), usualPolicy(), pairs[0])
	p := startAt(t, v.dir, usualPolicy())
	shown := map[string]int{}
	looking := func() {
		cert, err := p.visit(config)
		if err != nil {
			t.Fatalf("a visitor is refused: %v", err)
		}
		shown[serialText(cert)]++
	}
	for n := 0; n < swaps; {
		ended := pgbench(t, "-n", "-C", "-c", "2", "-R", "40", "-T", "4", "-f", selectOne(t), p.defaultConninfo()+" sslrootcert="+bundle)
		for ; n < swaps && !isOver(ended); n++ {
			p.next(t, func(next policy) { v.swap(t, next, pairs[(n+1)%2]) }, func(*policy) {})
			looking()
			if n%3 == 0 {
				p.waitGeneration(t, p.policy.Generation)
				looking()
			}
		}
		ended.mustSucceed(t)
	}
	p.waitGeneration(t, p.policy.Generation)
	if shown[serialText(pairs[0].Cert)] == 0 || shown[serialText(pairs[1].Cert)] == 0 {
		t.Errorf("visitors saw the certificates %v", shown)
	}
	if n := p.metric(t, reloads("refused")); n != 0 {
		t.Errorf("%v looks saw a mixture: %s", n, p.log.tail())
	}
	t.Logf("%d swaps, %v of them put in force, %v connections", swaps, p.metric(t, reloads("applied")), p.metric(t, "pgmtls_connections_total"))
}

func TestStormOfSignalsIsAnsweredFiveTimesASecond(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	before := p.status(t)
	looked := p.metric(t, reloads("unchanged"))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for i := range 200 {
		<-tick.C
		p.signal(t, syscall.SIGHUP)
		if i%20 == 0 {
			p.comesIn(t, "app")
		}
	}
	took := time.Since(began)
	eventually.OK(t, patience, func() error { // the last signal is answered, too
		if last := p.status(t).Reload.CheckedAt; last.Before(began.Add(took - 100*time.Millisecond)) {
			return eventually.ErrNotYet
		}
		return nil
	})
	looked = p.metric(t, reloads("unchanged")) - looked
	if most := 5*time.Since(began).Seconds() + 2; looked < 2 || looked > most {
		t.Errorf("200 signals in %v made for %v looks, want at most %v", took, looked, most)
	}
	if after := p.status(t); after.Policy.LoadedAt != before.Policy.LoadedAt || after.Reload.Error != "" {
		t.Errorf("/status has %+v, %+v", after.Policy, after.Reload)
	}
}

// A proxy that starts before its volume is mounted runs, is not ready, and says why.
func TestPolicyDirectoryMayComeAfterTheStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policy")
	p := launch(t, options{Config: map[string]any{"policy_dir": dir}})
	if err := p.ready(); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "policy.yaml: does not exist") {
		t.Errorf("/readyz says %v", err)
	}
	w := dial(t, p)
	w.send(t, asPostgres())
	if e := w.fatal(t); e.Code != "57P03" {
		t.Errorf("the client reads %s %s", e.Code, e.Message)
	}
	writePolicyDir(t, dir+".new", usualPolicy())
	must.OK(t, os.Rename(dir+".new", dir))
	appeared := time.Now()
	eventually.OK(t, patience, p.ready)
	took := time.Since(appeared)
	t.Logf("ready %v after the policy was there", took)
	if took >= promised+5*p.pace(t) {
		t.Errorf("ready %v after the policy was there", took)
	}
	p.comesIn(t, "app")
}

// Whoever was let in came before the rule expired, whoever was not was answered after it: to the very moment, by one clock.
func TestRuleThatExpiresNeedsNoChangeOfAFile(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	var end time.Time
	for ahead := 2 * time.Second; time.Until(end) < time.Second; ahead *= 2 {
		end = time.Now().Add(ahead)
		p.edit(t, func(next *policy) { next.IPRules[0].ExpiresAt = end.Format(time.RFC3339Nano) })
	}
	inForce := p.status(t).Policy
	served := 0
	eventually.OK(t, patience, func() error {
		began := time.Now()
		_, err := p.visit(clientTLS("app"))
		switch answered := time.Now(); {
		case err == nil && began.After(end):
			t.Fatalf("a client that came %v after the end was let in", began.Sub(end))
		case err != nil && answered.Before(end):
			t.Fatalf("a client was refused %v before the end: %v", end.Sub(answered), err)
		case err == nil:
			served++
			return eventually.ErrNotYet
		}
		return nil
	})
	if served == 0 {
		t.Error("nobody came in before the end")
	}
	p.staysOut(t, "app", "no allowlist entry for host")
	if now := p.status(t).Policy; now.Digest != inForce.Digest || now.LoadedAt != inForce.LoadedAt {
		t.Errorf("/status has %+v, want %+v", now, inForce)
	}
}

// A server certificate only answers. One that has expired does not keep a rule that is gone in force.
func TestNewExpiredCertificateKeepsNoRuleInForce(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	p.comesIn(t, "app")
	old := testpki.Server(privateName)
	old.Signer, old.NotBefore, old.NotAfter = pki.private.Key, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	writeFile(t, p.policyFile("private.crt"), pki.privateCA.MustIssue(t, old).CertPEM)
	eventually.OK(t, patience, func() error {
		if n := p.metric(t, "pgmtls_policy_certificates_left_out"); n != 1 {
			return fmt.Errorf("%v certificates are left out", n)
		}
		return nil
	})
	p.comesIn(t, "app") // by the certificate that was there before
	p.edit(t, nobody)
	p.staysOut(t, "app", "no allowlist entry")
}
