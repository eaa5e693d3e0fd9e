package admin

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/testkit/testpki"
)

const served = "certificates: [{cert: server.crt, key: server.key, default: true}]\n"

func (p *program) try(text string) adminapi.DryRun {
	p.t.Helper()
	var d adminapi.DryRun
	if err := json.Unmarshal([]byte(p.post("/dry-run", text, http.StatusOK)), &d); err != nil {
		p.t.Fatal(err)
	}
	return d
}

func TestDryRunTellsWhatWouldChangeAndWhoWouldEnd(t *testing.T) {
	p := newProgram(t)
	p.serve()
	p.apply(good)
	app, other := p.ca.MustIssue(t, testpki.Client("app")), p.ca.MustIssue(t, testpki.Client("other"))
	p.login(app, "app", "shop")
	p.login(app, "app", "shop")
	p.login(other, "other", "shop")
	live := p.sessions.Table().Sessions()

	same, err := os.ReadFile(filepath.Join(p.dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if d := p.try(string(same)); !d.OK || !d.Unchanged || d.Ended != 0 || d.Kept != 3 || d.Generation != "42" || len(d.Sessions) != 0 {
		t.Errorf("the policy in force: %+v", d)
	}

	serial := live[0].Grant.Identity.Serial
	revoked := "revoked: ['" + serial + "']\n" + strings.Replace(good, `"42"`, `"43"`, 1)
	d := p.try(served + revoked)
	if d.Unchanged || d.Ended != 2 || d.Kept != 1 || d.Generation != "43" || d.OnRemoval != "end" || !d.Changes.Trust || len(d.Changes.RulesRemoved) != 0 ||
		len(d.ByReason) != 1 || d.ByReason["certificate_revoked"] != 2 || len(d.ByRule) != 1 || d.ByRule["loopback"] != 2 ||
		len(d.ByCertificate) != 1 || d.ByCertificate[0] != (adminapi.CertificateCount{Serial: serial, Subject: "CN=app", Sessions: 2}) {
		t.Errorf("with a revoked certificate: %+v", d)
	}
	if len(d.Sessions) != 2 || d.Sessions[0].Connection != live[0].ID || d.Sessions[0].Reason != "certificate_revoked" ||
		!strings.Contains(d.Sessions[0].Detail, "has been revoked") || d.Sessions[0].Certificate.Serial != serial {
		t.Errorf("sessions are %+v", d.Sessions)
	}
	d = p.try(served + "client_ca: [ca.pem]\nip_rules: [{id: new, cidr: 10.0.0.0/8}]\n")
	if d.Ended != 3 || d.ByReason["address_not_allowed"] != 3 || len(d.ByCertificate) != 2 || d.ByCertificate[0].Sessions != 2 ||
		len(d.Changes.RulesAdded) != 1 || len(d.Changes.RulesRemoved) != 3 {
		t.Errorf("without the rule: %+v", d)
	}

	// Nothing has happened.
	if left := p.sessions.Table().Sessions(); len(left) != 3 {
		t.Errorf("%d sessions are left", len(left))
	}
	status := p.object("/status")
	if status["policy"].(map[string]any)["generation"] != "42" || len(status["receipts"].([]any)) > 1 {
		t.Errorf("/status is %v", status)
	}
}

func TestDryRunNamesProblemsWithTheirLines(t *testing.T) {
	p := newProgram(t)
	p.apply(good)
	var d adminapi.RefusedDraft
	const text = served + "client_ca: [absent.pem]\nip_rules:\n  - {id: a, cidr: 10.0.0.1/8}\n"
	if err := json.Unmarshal([]byte(p.post("/dry-run?name=new.yaml%0aok", text, http.StatusUnprocessableEntity)), &d); err != nil {
		t.Fatal(err)
	}
	if d.OK || len(d.Problems) != 1 || d.Problems[0].Line != 4 || d.Problems[0].Field != "ip_rules[0].cidr" ||
		!strings.HasPrefix(d.Problems[0].Text, `new.yaml\nok:4: ip_rules[0].cidr: "10.0.0.1/8" has host bits set`) {
		t.Errorf("%+v", d)
	}
	if got := p.post("/dry-run", strings.Repeat("#", maxBody+1), http.StatusRequestEntityTooLarge); !strings.Contains(got, "larger than 131072 bytes") {
		t.Error(got)
	}
	p.admin.trying.Lock()
	defer p.admin.trying.Unlock()
	p.post("/dry-run", text, http.StatusTooManyRequests)
}

func TestStatusTellsWhoUsesWhat(t *testing.T) {
	p := newProgram(t)
	p.serve()
	p.apply(good)
	if list, ok := p.object("/status")["client_certificates"].([]any); !ok || len(list) != 0 {
		t.Errorf("before the first session: %v", list)
	}
	app := p.ca.MustIssue(t, testpki.Client("app"))
	p.login(app, "app", "shop")
	status := p.object("/status")
	c := status["client_certificates"].([]any)[0].(map[string]any)
	if c["serial"] != p.sessions.Table().Sessions()[0].Grant.Identity.Serial || c["subject"] != "CN=app" || c["issuer"] != "CN=Space CA" ||
		c["sessions"] != 1.0 || c["first_seen"] == nil || c["last_seen"] == nil || c["not_after"] != moment(app.Cert.NotAfter) || c["days_left"] != 0.0 {
		t.Errorf("the certificate is shown as %v", c)
	}
	for _, each := range status["policy"].(map[string]any)["ip_rules"].([]any) {
		rule := each.(map[string]any)
		_, seen := rule["first_seen"]
		if used := rule["id"] == "loopback"; seen != used || (rule["sessions"] == 1.0) != used || (rule["days_left"] != nil) != (rule["id"] == "guest") {
			t.Errorf("the rule is shown as %v", rule)
		}
	}
}
