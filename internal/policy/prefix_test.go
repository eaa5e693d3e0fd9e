package policy

import (
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/testkit/testpki"
)

// wholePolicies are policies in the ways in which people and programs write them, each with something that restricts:
// without it the file would let in more. OTHER and LISTED stand for serials.
var wholePolicies = map[string]string{
	"block, revoked": `generation: "1"
client_ca:
  - ca.pem
revoked:
  - LISTED
  - OTHER
certificates:
  - cert: server.crt
    key: server.key
ip_rules:
  - id: office
    cidr: 203.0.113.0/24
  - id: vpn
    cidr: "2001:db8:7::/48"
`,
	"flow in block, identities": `client_ca: [ca.pem]
certificates: [{cert: server.crt, key: server.key}]
identities: [{subject_cn: app, users: [app]}, {serial: "LISTED", users: [reports, other]}]
ip_rules: [{id: office, cidr: 203.0.113.0/24}, {id: vpn, cidr: "2001:db8:7::/48"}]
`,
	"block, identities": `client_ca: [ca.pem]
certificates:
- {cert: server.crt, key: server.key}
identities:
- subject_cn: app
  users:
  - reports
  - app
- uri: urn:pgmtls:database:1
  any_user: true
ip_rules:
- id: office
  cidr: 203.0.113.0/24
`,
	"client_auth: required": `client_auth: required
client_ca: [ca.pem]
certificates: [{cert: server.crt, key: server.key}]
ip_rules: [{id: all, cidr: 0.0.0.0/0}]
`,
	"client_auth: optional": `client_auth: optional
client_ca: [ca.pem]
revoked: [LISTED]
certificates: [{cert: server.crt, key: server.key}]
ip_rules: [{id: all, cidr: 0.0.0.0/0}]
`,
	"client_auth: off": `client_auth: off
certificates: [{cert: server.crt, key: server.key}]
ip_rules:
  - {id: office, cidr: 203.0.113.7/32}
  - {id: guest, expires_at: 2020-01-01T00:00:00Z, cidr: 198.51.100.0/24}
`,
	"a list": `client_ca: [ca.pem]
client_crl: [list.pem]
certificates: [{cert: server.crt, key: server.key}]
ip_rules: [{id: office, cidr: 203.0.113.0/24}]
`,
	"a list, in block": `client_ca:
- ca.pem
client_crl:
- list.pem
certificates:
- cert: server.crt
  key: server.key
  default: true
on_removal: keep
ip_rules:
- cidr: 203.0.113.0/24
  id: office
`,
	"a rule's end in block": `client_ca: [ca.pem]
certificates: [{cert: server.crt, key: server.key}]
ip_rules:
  - id: guest
    description: |
      until the end
      of the year
    expires_at: 2020-01-01T00:00:00Z
    cidr: 198.51.100.0/24
  - id: office
    expires_at: 2020-01-01T00:00:00Z
    cidr: 203.0.113.0/24
    description: closed
`,
	"a rule's end in flow": `client_ca: [ca.pem]
certificates: [{cert: server.crt, key: server.key}]
ip_rules:
  - {id: guest, cidr: 198.51.100.0/24, expires_at: 2020-01-01T00:00:00Z}
  - {id: office,
     cidr: 203.0.113.0/24,
     expires_at: 2020-01-01T00:00:00Z}
`,
	"long networks": `client_ca: [ca.pem]
certificates: [{cert: server.crt, key: server.key}]
ip_rules:
  - id: a
    cidr: 0.0.0.0/32
  - id: b
    cidr: ::/128
  - id: c
    cidr: 128.0.0.0/16
`,
	"comments and quotes": `# ip_rules: [{id: all, cidr: 0.0.0.0/0}]
client_ca: [ca.pem] # those of the space
revoked: ['LISTED', "OTHER"] # stolen
certificates: [{cert: 'server.crt', key: "server.key"}]
ip_rules: # 'who' "may"
  - {id: 'it''s', cidr: '203.0.113.0/24', description: "a \"quoted\" # text"} # ...
# the end
`,
	"a text that looks like a policy": `client_ca: [ca.pem]
revoked: [LISTED]
certificates: [{cert: server.crt, key: server.key}]
ip_rules:
  - id: office
    description: |-
      client_auth: off
      ip_rules: [{id: all, cidr: 0.0.0.0/0}]
    cidr: 203.0.113.0/24
`,
	"an end": `client_ca: [ca.pem]
revoked: [LISTED]
certificates: [{cert: server.crt, key: server.key}]
ip_rules: [{id: office, cidr: 203.0.113.0/24}]
...
`,
	"a start and CRLF": "---\r\nclient_ca: [ca.pem]\r\nrevoked: [LISTED]\r\ncertificates: [{cert: server.crt, key: server.key}]\r\nip_rules:\r\n- id: office\r\n  cidr: 203.0.113.0/24\r\n",
	"the control plane's": config.ControlHeader + `orders; generation 7
generation: "7"
client_auth: required
client_ca: ["ca.pem"]
client_crl: ["list.pem"]
certificates:
  - {cert: "server.crt", key: "server.key", default: true}
identities:
  - {uri: "urn:pgmtls:database:1", any_user: true}
on_removal: end
ip_rules:
  - {id: "1", description: "...", cidr: "203.0.113.0/24"}
  - {id: "2", expires_at: "2020-01-01T00:00:00Z", cidr: "198.51.100.0/24"}
...
`,
	"JSON": `{"generation":"1","client_auth":"required","client_ca":["ca.pem"],"revoked":["LISTED","OTHER"],"certificates":[{"cert":"server.crt","key":"server.key"}],"ip_rules":[{"id":"office","cidr":"203.0.113.0/24"},{"id":"vpn","cidr":"2001:db8:7::/48"}]}
`,
	"JSON in lines, identities": `{
	"client_ca": ["ca.pem"],
	"certificates": [
		{"cert": "server.crt", "key": "server.key"}
	],
	"identities": [
		{"subject_cn": "app", "users": ["app"]},
		{"uri": "urn:pgmtls:database:1", "any_user": true}
	],
	"on_removal": "end",
	"ip_rules": [
		{
			"id": "office",
			"cidr": "203.0.113.0/24"
		}
	]
}
`,
	"JSON, a list": `{"client_ca":["ca.pem"],"client_crl":["list.pem"],"certificates":[{"cert":"server.crt","key":"server.key","default":true}],
"ip_rules":[{"id":"guest","cidr":"198.51.100.0/24","expires_at":"2020-01-01T00:00:00Z"},{"id":"office","cidr":"203.0.113.0/24"}]}
`,
	"JSON by the control plane": config.ControlHeader + `orders; generation 7
{"generation":"7","client_ca":["ca.pem"],"certificates":[{"cert":"server.crt","key":"server.key"}],"identities":[{"uri":"urn:pgmtls:database:1","any_user":true}],"ip_rules":[{"id":"office","cidr":"203.0.113.0/24"}]}
...
`,
}

// visitors are the clients of the matrix.
func (p *pkiFiles) visitors(t *testing.T) (requests []Request, other, listed *testpki.Pair) {
	t.Helper()
	other, listed = p.space.MustIssue(t, testpki.Client("other")), p.space.MustIssue(t, testpki.Client("listed"))
	ours := testpki.Client("app")
	ours.URIs = []string{"urn:pgmtls:database:1"}
	stranger := testpki.MustCA(t, "Stranger CA")
	now := time.Now()
	for _, pair := range []*testpki.Pair{nil, p.client, other, listed, p.space.MustIssue(t, ours), stranger.MustIssue(t, testpki.Client("app"))} {
		for _, addr := range []string{office, vpn, guest, outside, "128.0.0.1", "128.0.200.1", "0.0.0.0", "8.8.8.8", "::", "::1", "2001:db9::1", "203.0.200.1"} {
			for _, user := range []string{"app", "reports", "other", "postgres"} {
				q := Request{Addr: netip.MustParseAddr(addr), User: user, Database: "app", Now: now}
				if pair != nil {
					q.Chain = pair.Chain
				}
				requests = append(requests, q)
			}
		}
	}
	return requests, other, listed
}

// admitted are the requests that a snapshot says yes to.
func admitted(s *Snapshot, requests []Request) []bool {
	answers := make([]bool, len(requests))
	for i, q := range requests {
		_, refused := s.Authorize(q)
		answers[i] = refused == nil
	}
	return answers
}

func describe(q Request) string {
	who := "nobody's certificate"
	if len(q.Chain) > 0 {
		who = q.Chain[0].Subject.String()
	}
	return fmt.Sprintf("%s from %s as %s", who, q.Addr, q.User)
}

// A file that lost its end, by a writer that died or a disk that was full, says less than the whole one. It must not
// let in more. Of what the
// control plane wrote nothing is taken but the whole.
func TestNoBeginningOfAPolicyLetsInMoreThanTheWhole(t *testing.T) {
	p := newPKI(t)
	requests, other, listed := p.visitors(t)
	p.contents["list.pem"] = p.space.MustCRL(t, testpki.CRL{Revoked: []*big.Int{listed.Cert.SerialNumber}})
	builder := Builder{Backend: &backend.Target{}}
	dir := t.TempDir()
	for name, text := range p.contents {
		if err := testpki.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// written leaves a file as a writer in place does that dies: the first bytes are there, and nobody has it open.
	written := func(text string) (*Snapshot, error) {
		if err := os.WriteFile(filepath.Join(dir, policyName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		v := readOnce(dir) // the file has settled
		files, err := v.result()
		if err != nil {
			return nil, err
		}
		return builder.Build(files, nil, time.Now())
	}
	if len(wholePolicies) < 20 {
		t.Fatalf("%d policies", len(wholePolicies))
	}
	total, taken := 0, 0
	for _, name := range slices.Sorted(maps.Keys(wholePolicies)) {
		text := strings.NewReplacer("LISTED", serialOf(listed), "OTHER", serialOf(other)).Replace(wholePolicies[name])
		whole, err := written(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		may := admitted(whole, requests)
		for cut := range text {
			total++
			s, err := written(text[:cut])
			if err != nil {
				continue
			}
			taken++
			if strings.HasPrefix(text, config.ControlHeader) {
				t.Errorf("%s: %d of %d bytes are a policy", name, cut, len(text))
			}
			for i, yes := range admitted(s, requests) {
				if yes && !may[i] {
					t.Errorf("%s: %d of %d bytes let in %s:\n%s", name, cut, len(text), describe(requests[i]), text[:cut])
					break
				}
			}
		}
	}
	t.Logf("%d beginnings, %d of them are policies", total, taken)
}
