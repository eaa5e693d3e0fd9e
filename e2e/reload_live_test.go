package e2e

import (
	"crypto/tls"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// keep leaves sessions alone that the policy would not let in any more.
func keep(p *policy) { p.OnRemoval = "keep" }

func TestSessionGoesOnWhileItsRuleIsRemovedAndRestored(t *testing.T) {
	t.Parallel()
	p := start(t, options{Policy: keep})
	rules := p.policy.IPRules
	session := p.converse(t)
	if answer := session.ask(t, "begin; select 'in a transaction'"); answer != "BEGIN" {
		t.Errorf("psql says %q", answer)
	}
	session.hear(t)
	for range 3 {
		p.edit(t, nobody)
		p.staysOut(t, "app", `no allowlist entry for host "127.0.0.1"`)
		session.goesOn(t)
		p.edit(t, func(next *policy) { next.IPRules = rules })
		p.comesIn(t, "app")
		session.goesOn(t)
	}
	if answer := session.ask(t, "commit"); answer != "COMMIT" {
		t.Errorf("psql says %q", answer)
	}
	session.leave(t)
}

// The certificate comes under its old name and under a new one, as docs/operations.md has it. Nobody is refused meanwhile.
func TestRenewedServerCertificateIsShownToNewConnections(t *testing.T) {
	t.Parallel()
	p := start(t, options{Policy: keep})
	session := p.converse(t)
	old := p.comesIn(t, "app")
	renewed := func() *testpki.Pair { return pki.privateCA.MustIssue(t, testpki.Server(privateName, "127.0.0.1")) }
	isShown := func(want *testpki.Pair) {
		t.Helper()
		eventually.OK(t, patience, func() error {
			if !p.comesIn(t, "app").Equal(want.Cert) {
				return eventually.ErrNotYet
			}
			return nil
		})
		if shown := p.status(t).Policy.Certificates[0].Serial; shown != serialText(want.Cert) {
			t.Errorf("/status has the serial %s", shown)
		}
		p.succeeds(t, "") // verify-full
		session.goesOn(t)
	}

	named := renewed()
	must.OK(t, named.Write(p.policyFile("renewed")))
	p.edit(t, func(next *policy) { next.Certificates = []servedPair{{Cert: "renewed.crt", Key: "renewed.key"}} })
	isShown(named)

	replaced := renewed()
	must.OK(t, replaced.Write(p.policyFile("renewed")))
	isShown(replaced)
	if old.Equal(replaced.Cert) {
		t.Error("the certificate is the old one")
	}
	p.waitRecovery(t)
	session.leave(t)
}

// A rotation as docs/operations.md describes it: both CAs for a while, in two files or in one.
func TestClientCARotationOverlaps(t *testing.T) {
	t.Parallel()
	p := start(t, options{Policy: keep})
	session := p.converse(t)
	successor := testpki.MustCA(t, "Space CA 2")
	issued := successor.MustIssue(t, testpki.Client("app")).TLS()
	after := clientTLS("")
	after.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &issued, nil }
	writeFile(t, p.policyFile("space-ca-2.pem"), successor.PEM())
	writeFile(t, p.policyFile("both.pem"), slices.Concat(pki.spaceCA.PEM(), successor.PEM()))
	for _, step := range []struct {
		cas        []string
		old, newer bool
	}{
		{[]string{"space-ca.pem"}, true, false},
		{[]string{"space-ca.pem", "space-ca-2.pem"}, true, true},
		{[]string{"both.pem"}, true, true},
		{[]string{"space-ca-2.pem"}, false, true},
		{[]string{"space-ca.pem"}, true, false},
	} {
		p.edit(t, func(next *policy) { next.ClientCA = step.cas })
		if _, err := p.visit(clientTLS("app")); (err == nil) != step.old {
			t.Errorf("with %v the old certificate is answered %v", step.cas, err)
		}
		if _, err := p.visit(after); (err == nil) != step.newer {
			t.Errorf("with %v the new certificate is answered %v", step.cas, err)
		}
		session.goesOn(t)
	}
	if n := p.refusals(t, "certificate_unknown_ca"); n != 3 {
		t.Errorf("%v certificates were of an unknown CA, want 3", n)
	}
	session.leave(t)
}

// Only the list changes; policy.yaml stays as it is.
func TestReplacedRevocationListRevokes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policy")
	first := usualPolicy()
	first.ClientCRL = []string{"space-crl.pem"}
	keep(&first)
	writePolicyDir(t, dir, first)
	put := func(number int64, revoked ...*big.Int) {
		writeFile(t, filepath.Join(dir, "space-crl.pem"), pki.spaceCA.MustCRL(t, testpki.CRL{Number: number, Revoked: revoked}))
	}
	put(1)
	p := startAt(t, dir, first)
	session := p.converse(t)
	p.comesIn(t, "other")

	put(2, pki.clients["app"].Cert.SerialNumber)
	eventually.OK(t, patience, func() error {
		if _, err := p.visit(clientTLS("app")); err == nil {
			return eventually.ErrNotYet
		}
		return nil
	})
	p.staysOut(t, "app", "revoked")
	p.comesIn(t, "other")
	session.goesOn(t)

	put(3)
	eventually.OK(t, patience, func() error {
		_, err := p.visit(clientTLS("app"))
		return err
	})
	session.leave(t)
}

// Live sessions don't notice reloads, a hundred of them: not one transaction fails, and no connection is made again.
func TestReloadsDoNotDisturbLiveSessions(t *testing.T) {
	t.Parallel()
	const clients, wanted = 8, 100
	s := server(t)
	s.Query(t, "drop database if exists bench")
	s.Query(t, "create database bench")
	initialise := pgbench(t, "-i", "-q", s.DSN()+" dbname=bench")
	if <-initialise.over; initialise.err != nil || initialise.result.ExitCode != 0 {
		t.Fatalf("pgbench -i: %v %s", initialise.err, initialise.result.Stderr)
	}
	p := start(t, options{})
	both := usualPolicy()
	bothCertificates(&both)
	both.IPRules = append(both.IPRules, ipRule{ID: "office", CIDR: "192.0.2.0/24"})
	policies := []policy{usualPolicy(), both}

	runs, reloaded, transactions := 0, 0, 0
	for ; reloaded < wanted; runs++ {
		run := pgbench(t, "-S", "-c", strconv.Itoa(clients), "-j", "2", "-R", "400", "-T", "5", p.defaultConninfo()+" dbname=bench")
		for reloaded < wanted && !isOver(run) {
			p.edit(t, func(next *policy) {
				generation := next.Generation
				*next = policies[reloaded%2]
				next.Generation = generation
			})
			reloaded++
			if reloaded%4 == 0 {
				must.OK(t, os.WriteFile(p.policyFile("policy.yaml"), []byte("ip_rules: [no"), 0o644))
				p.waitComplaint(t)
			}
		}
		run.mustSucceed(t)
		transactions += run.processed(t)
	}
	p.waitMetric(t, reloads("applied"), wanted+1)
	if n := p.metric(t, reloads("refused")); n < wanted/4 {
		t.Errorf("%v policies were refused, want %d", n, wanted/4)
	}
	// One connection of each run looks whether the tables are there.
	if n := p.metric(t, "pgmtls_connections_total"); n != float64(runs*(clients+1)) {
		t.Errorf("%v connections were made in %d runs", n, runs)
	}
	// Behind a goodbye, either side may be seen to close first.
	broken := p.log.find(func(e event) bool {
		return e.text("outcome") != "" && e.text("end") != "client_closed" && e.text("end") != "server_closed"
	})
	if broken != nil {
		t.Errorf("a connection ended otherwise than by a goodbye: %v", broken)
	}
	t.Logf("%d reloads, %v refused, under %d transactions", reloaded, p.metric(t, reloads("refused")), transactions)
}
