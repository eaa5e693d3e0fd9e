package cli_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
)

const publicHost = "db-k3q7.pg.example.com"

func enhancedPages() map[string][]canned {
	none := api.EnhancedCertificate{Status: api.EnhancedDisabled}
	queued := api.EnhancedCertificate{Status: api.Provisioning, Host: publicHost, Reason: "queued", Detail: "position 3 in the queue", Since: start}
	failed := api.EnhancedCertificate{Status: api.Provisioning, Host: publicHost, Reason: "caa_forbids", Since: start, NextAttempt: start.Add(10 * time.Minute),
		Detail: `the CAA records at pg.example.com. allow other.test, not letsencrypt.org`}
	delivering := api.EnhancedCertificate{Status: api.Provisioning, Host: publicHost, Reason: "delivering", Detail: "waiting for edge-1", Since: start}
	enabled := api.EnhancedCertificate{Status: api.EnhancedEnabled, Host: publicHost, Since: start, NextAttempt: start.AddDate(0, 1, 0), Ends: start.AddDate(0, 0, 45),
		Issuer: "YE1", Serial: "0a1b", URL: api.Connect(api.Place{Host: publicHost, Port: 5432, Roots: api.RootsBundle}).URL}
	leaving := api.EnhancedCertificate{Status: api.Deprovisioning, Host: publicHost, Reason: "withdrawing", Detail: "waiting for edge-1", Since: start}
	renewed := enabled
	renewed.Serial = "0c2d"
	plain := database()
	plain.MTLS, plain.ClientAuth = "", "off"
	public := func(roots, mode string) canned {
		c := connect(api.Place{Host: publicHost, Port: 5432, Roots: roots, SSLMode: mode})
		c.Public, c.PreviousURL = true, api.Connect(api.Place{Host: "shop.db.example.com", Port: 5432}).URL
		return ok(c)
	}
	open := public(api.RootsBundle, "")
	bare := open.value.(api.Connection)
	bare.ClientCertificate = false
	left := 249
	uploaded := api.EnhancedCertificate{Status: api.Provisioning, Host: "db.example.org", Reason: "delivering", Detail: "waiting for edge-1", Since: start,
		Ends: start.AddDate(0, 0, 90), Issuer: "Example CA", Serial: "0e3f", Uploaded: true}
	waiting := behindBy(api.Waiting{Kind: api.WaitingEnhanced, Name: publicHost, Status: api.Provisioning, Until: api.UntilApplied})
	path := shop + "/enhanced-certificate"
	return map[string][]canned{
		"GET " + path: slices.Concat([]canned{ok(none)}, // status
			slices.Repeat([]canned{ok(queued)}, 8), slices.Repeat([]canned{ok(delivering)}, 4), []canned{ok(enabled)}, // enable --wait
			slices.Repeat([]canned{ok(failed)}, 12), // enable --wait --timeout 2s
			[]canned{ok(enabled)},                   // status on a terminal
			[]canned{ok(enabled), ok(enabled)},      // disable without --confirm, and with it
			[]canned{ok(none)},                      // --wait
			[]canned{ok(none)},                      // disable again
			[]canned{ok(enabled), ok(enabled), ok(renewed)}),
		"PUT " + path:                                           {ok(queued), ok(failed), ok(queued)},
		"DELETE " + path:                                        {{202, leaving}, {202, none}},
		"PUT " + path + "/upload":                               {ok(uploaded)},
		"POST " + path + "/renew":                               {{202, enabled}},
		"GET " + shop + "/acknowledgements":                     {ok(waiting)},
		"GET " + shop:                                           {ok(database()), ok(database()), ok(plain)},
		"GET " + endpoint + "/ip-rules":                         {ok([]api.Rule{}), ok([]api.Rule{rule(api.Authorized)})},
		"POST " + endpoint + "/ip-rules":                        {{201, rule(api.Authorizing)}},
		"GET " + shop + "/url?sslmode=require":                  {public("", api.SSLRequire)},
		"GET " + shop + "/url?sslmode=verify-full":              {open, ok(bare)},
		"GET " + shop + "/url?roots=system&sslmode=verify-full": {public(api.RootsSystem, "")},
		"GET " + path + "/records": {ok([]api.DNSRecord{
			{Name: publicHost + ".", Type: "A, AAAA or CNAME", Purpose: "clients find the proxies of the database by it", Required: true},
			{Name: "_acme-challenge." + publicHost + ".", Type: "CNAME", Value: publicHost + ".acme.example.com.", Purpose: "it delegates the proof of the name", Required: true, Found: true},
			{Name: publicHost + ".", Type: "CAA", Value: `0 issue "letsencrypt.org; accounturi=https://ca/acct/1; validationmethods=dns-01"`, Purpose: "only letsencrypt may issue"},
		})},
		"GET /v1/acme": {ok(api.ACME{Authorities: []api.ACMEAuthority{}}), ok(api.ACME{Zone: "pg.example.com", Waiting: 3, OldestWait: start.Add(-time.Minute), Authorities: []api.ACMEAuthority{
			{Name: "letsencrypt", Directory: "https://ca/dir", Account: "https://ca/acct/1", OrdersLeft: &left},
			{Name: "own", Directory: "https://own/dir", Reason: "ca_unavailable", Detail: "connection refused", AwaySince: start, NextAttempt: start.Add(time.Minute)},
		}})},
		"POST /v1/acme/letsencrypt/rollover": {ok(api.ACMEAuthority{Name: "letsencrypt", Directory: "https://ca/dir", Account: "https://ca/acct/1", OrdersLeft: &left})},
	}
}

// A rule for IPv4 does not cover IPv6. One that is there already is not made again.
func TestAllowAllAddsARuleForEachFamily(t *testing.T) {
	answers := enhancedPages()
	v4 := rule(api.Authorized)
	v4.CIDR = "0.0.0.0/0"
	answers["GET "+endpoint+"/ip-rules"] = []canned{ok([]api.Rule{})}
	w := newWorld(t, answers)
	if got := w.run("enhanced-certificates", "enable", "shop", "--allow-all", "--confirm", "shop"); got.code != 0 {
		t.Fatal(got.stderr)
	}
	made := func() (rules []string) {
		for _, asked := range w.asked {
			if body, ok := strings.CutPrefix(asked, "POST "+endpoint+"/ip-rules "); ok {
				rules = append(rules, body)
			}
		}
		return rules
	}
	if got := made(); len(got) != 2 || !strings.Contains(got[0], `"0.0.0.0/0"`) || !strings.Contains(got[1], `"::/0"`) {
		t.Errorf("rules: %q", got)
	}
	w.asked = nil
	w.answers["GET "+endpoint+"/ip-rules"] = []canned{ok([]api.Rule{v4})}
	if got := w.run("enhanced-certificates", "enable", "shop", "--allow-all", "--confirm", "shop"); got.code != 0 {
		t.Fatal(got.stderr)
	}
	if got := made(); len(got) != 1 || !strings.Contains(got[0], `"::/0"`) {
		t.Errorf("rules: %q", got)
	}
}
