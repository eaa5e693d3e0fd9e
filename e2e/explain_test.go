package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The way of an operator who is told of a refusal: explain it by its id, try a policy that repairs it, apply that, and
// see that the next try would succeed. Then withdraw a certificate, knowing who uses it.
func TestExplainAndDryRunOfARunningProxy(t *testing.T) {
	t.Parallel()
	server(t)
	socket := filepath.Join(shortDir(t), "admin")
	p := start(t, options{
		Config: map[string]any{"admin": "unix:" + socket},
		Policy: func(p *policy) { p.Identities = []identity{{SubjectCN: "app", Users: []string{"postgres"}}} },
	})
	ask := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, got := program(t, append(args, "--config", p.configFile())...)
		if got != code {
			t.Fatalf("%q ended with %d, want %d: %s%s", args, got, code, stdout, stderr)
		}
		return stdout, stderr
	}
	show := func(what, text string, patterns ...string) {
		t.Helper()
		for _, pattern := range patterns {
			if !regexp.MustCompile(`(?m)` + pattern).MatchString(text) {
				t.Errorf("%s prints\n%s\nwant %s", what, text, pattern)
			}
		}
	}

	_, ids := p.refused(t, clientCertificate("other"))
	if len(ids) != 1 {
		t.Fatalf("psql shows the connections %q", ids)
	}
	stdout, _ := ask(0, "explain", "--conn", ids[0])
	show("explain --conn", stdout,
		`^`+ids[0]+` came at .* UTC\. Under policy "1" it was refused as user_not_allowed\.$`,
		`^    FATAL:  certificate authentication failed for user "postgres" \(connection `+ids[0]+`\)$`,
		`^Under policy "1", which is in force, it would be REFUSED as user_not_allowed\.$`,
		`^yes  server certificate  For the name "`+privateName+`" the client gets the default, `,
		`^yes  address             Rule loopback \(127\.0\.0\.0/8\) contains 127\.0\.0\.1\.$`,
		`^yes  client certificate  CN=other \(serial `+pki.serial("other")+`\) is accepted`,
		`^NO   user                No entry of identities gives the user "postgres" to the certificate\.$`,
		`^yes  limits              0 of at most \d+ sessions are live, 0 from this address\.$`)

	// A policy with both users, tried, then applied.
	p.policy.Identities = append(p.policy.Identities, identity{SubjectCN: "other", Users: []string{"postgres"}})
	draft := filepath.Join(t.TempDir(), "new.yaml")
	writeFile(t, draft, p.policy.text(t))
	stdout, _ = ask(0, "dry-run", draft)
	show("dry-run", stdout, `^The policy, generation "1", would come into force\.$`, `^~ identities$`, `^Sessions: 0 would be ended, 0 would go on\.$`)
	p.edit(t, func(*policy) {})
	stdout, _ = ask(0, "explain", "--conn", ids[0])
	show("explain --conn under the new policy", stdout, `^.*Under policy "1" it was refused as user_not_allowed\.$`, `^Under policy "2", which is in force, it would be ALLOWED by rule loopback\.$`)
	p.succeeds(t, clientCertificate("other"))

	// Who uses what, and what withdrawing it would do.
	live := p.converse(t)
	p.waitSessions(t, 1)
	var status struct {
		Certificates []struct {
			Serial, Subject string
			Sessions        int
			LastSeen        string `json:"last_seen"`
		} `json:"client_certificates"`
	}
	p.decode(t, "/status", &status)
	used := map[string]int{}
	for _, c := range status.Certificates {
		used[c.Serial] = c.Sessions
		if c.LastSeen == "" {
			t.Errorf("%+v was never seen", c)
		}
	}
	if n, seen := used[pki.serial("other")]; len(used) != 2 || used[pki.serial("app")] != 1 || !seen || n != 0 {
		t.Errorf("certificates are used %v", used)
	}
	withdrawn := p.policy
	withdrawn.Revoked = []string{pki.serial("app")}
	writeFile(t, draft, withdrawn.text(t))
	id := p.sessions(t)[0].Connection
	stdout, _ = ask(0, "dry-run", draft)
	show("dry-run with a revoked certificate", stdout, `^Sessions: 1 would be ended, 0 would go on\.$`, `^  1 as certificate_revoked$`, `^  1 of rule loopback$`,
		`^  1 of certificate `+pki.serial("app")+`, CN=app$`, `^  `+id+`  127\.0\.0\.1  postgres  certificate_revoked$`)
	live.goesOn(t)
	stdout, _ = ask(0, "explain", "--conn", id)
	show("explain of a live session", stdout, `^`+id+` is live since .* UTC, under policy "2"\.$`, `would be ALLOWED by rule loopback`)
	live.leave(t)
	p.waitSessions(t, 0)

	// What might be, and what is wrong.
	stdout, _ = ask(0, "explain", "--addr", "192.0.2.7", "--cert", filepath.Join(pki.dir, "stranger.crt"), "--user", "postgres", "--database", "shop")
	show("explain --addr", stdout, `would be REFUSED as address_not_allowed\.$`, `^    HINT:  .* Add 192\.0\.2\.7/32 to`, `^NO   address +No unexpired rule contains 192\.0\.2\.7; 1 considered\.$`,
		`^ +loopback 127\.0\.0\.0/8 is another network$`, `^NO   client certificate +.*which this server does not trust\.$`)
	withdrawn.IPRules = []ipRule{{ID: "a", CIDR: "10.0.0.1/8"}}
	withdrawn.ClientCA = []string{"absent.pem"}
	writeFile(t, draft, withdrawn.text(t))
	if stdout, stderr := ask(2, "dry-run", draft); stdout != "" || !regexp.MustCompile(`new\.yaml:\d+: ip_rules\[0\]\.cidr: "10\.0\.0\.1/8" has host bits set`).MatchString(stderr) {
		t.Errorf("dry-run of a bad policy prints %s%s", stdout, stderr)
	}
	if _, stderr := ask(1, "explain", "--conn", "0000000000000"); !strings.Contains(stderr, "no such connection") {
		t.Errorf("explain of nobody prints %s", stderr)
	}
	if _, stderr := ask(2, "explain"); !strings.Contains(stderr, "--conn, or --addr") {
		t.Errorf("explain without a question prints %s", stderr)
	}
	p.stop(t)
	if _, stderr := ask(1, "dry-run", draft); !strings.Contains(stderr, "query the running proxy at "+socket) {
		t.Errorf("without a proxy dry-run prints %s", stderr)
	}
}
