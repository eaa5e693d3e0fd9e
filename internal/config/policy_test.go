package config

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// good is a policy without a mistake. A case replaces one of its lines.
const good = `generation: "42"
client_ca: [space-ca.pem]
certificates:
  - {cert: private.crt, key: private.key, default: true}
  - {cert: public.crt, key: public.key}
ip_rules:
  - {id: office, cidr: 1.2.3.4/32}
`

// replaced is good with one line replaced, or with lines added at its end for line 8.
func replaced(line int, with string) string {
	lines := strings.Split(good, "\n")
	lines[line-1] = with
	return strings.TrimSuffix(strings.Join(lines, "\n"), "\n") + "\n"
}

// inserted is good with lines before ip_rules, from line 6 on.
func inserted(with string) string { return strings.Replace(good, "ip_rules", with+"\nip_rules", 1) }

// problems parses a text that must be refused.
func problems(t *testing.T, err error) string {
	t.Helper()
	var all Problems
	if !errors.As(err, &all) {
		t.Fatalf("got %v, want Problems", err)
	}
	return all.Error()
}

func TestPolicyProblemsNameLineFieldValueAndFix(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"host bits": {replaced(7, `  - {id: a, cidr: 10.0.0.1/8}`),
			`policy.yaml:7: ip_rules[0].cidr: "10.0.0.1/8" has host bits set; write 10.0.0.0/8 for the network or 10.0.0.1/32 for the one address`},
		"same network": {replaced(8, "  - {id: b, cidr: 9.9.9.9/32}\n  - id: c\n    cidr: 1.2.3.4/32"),
			`policy.yaml:10: ip_rules[2].cidr: "1.2.3.4/32" is there twice, first on line 7; keep one of the two rules`},
		"same id": {replaced(8, "  - {id: office, cidr: 5.6.7.8/32}"),
			`policy.yaml:8: ip_rules[1].id: "office" is there twice, first on line 7; give each rule its own id`},
		"no id": {replaced(7, `  - {cidr: 1.2.3.4/32}`),
			`policy.yaml:7: ip_rules[0].id: is missing; add it: the rule's name in status, logs and answers`},
		"empty id": {replaced(7, `  - {id: "", cidr: 1.2.3.4/32}`),
			`policy.yaml:7: ip_rules[0].id: is empty; write 1 to 128 bytes, printable`},
		"id with a control character": {replaced(7, `  - {id: "a\nb", cidr: 1.2.3.4/32}`),
			`policy.yaml:7: ip_rules[0].id: "a\nb" has characters that can't be printed; write 1 to 128 bytes, printable`},
		"long description": {replaced(7, `  - {id: a, cidr: 1.2.3.4/32, description: "`+strings.Repeat("d", 257)+`"}`),
			`policy.yaml:7: ip_rules[0].description: "` + strings.Repeat("d", 80) + `…" is 257 bytes long; write at most 256 bytes`},
		"date": {replaced(7, `  - {id: a, cidr: 1.2.3.4/32, expires_at: 2027-01-01}`),
			`policy.yaml:7: ip_rules[0].expires_at: "2027-01-01" is not a time of RFC 3339; write 2027-01-01T00:00:00Z`},
		"time without zone": {replaced(7, `  - {id: a, cidr: 1.2.3.4/32, expires_at: 2027-01-01 12:00:00}`),
			`policy.yaml:7: ip_rules[0].expires_at: "2027-01-01 12:00:00" is not a time of RFC 3339; write 2027-01-01T12:00:00Z`},
		"the time that would mean never": {replaced(7, `  - {id: a, cidr: 1.2.3.4/32, expires_at: "0001-01-01T00:00:00Z"}`),
			`policy.yaml:7: ip_rules[0].expires_at: "0001-01-01T00:00:00Z" is before 1970; write a later time, or remove the key for a rule that does not expire`},
		"null": {replaced(7, `  - {id: a, cidr: 1.2.3.4/32, expires_at: null}`),
			`policy.yaml:7: ip_rules[0].expires_at: has no value; write one, or remove the key`},
		"rules without a value": {replaced(7, ``),
			`policy.yaml:6: ip_rules: has no value; write one, or remove the key`},
		"a rule that is a text": {replaced(7, `  - 1.2.3.4/32`),
			`policy.yaml:7: ip_rules[0]: is one value, not a group of keys; see docs/configuration.md for the form`},
		"a value that is a list": {replaced(1, `generation: [1, 2]`),
			`policy.yaml:1: generation: is a list, not one value; see docs/configuration.md for the form`},
		"a text for a list": {replaced(2, `client_ca: space-ca.pem`),
			`policy.yaml:2: client_ca: is one value, not a list; put it in brackets: ["space-ca.pem"]`},
		"unknown key": {replaced(2, "client-ca: [space-ca.pem]\nclient_auth: off"),
			`policy.yaml:2: client-ca: is not a key that exists; did you mean client_ca?`},
		"unlike any key": {replaced(7, `  - {id: a, cidr: 1.2.3.4/32, zzzzzzzz: 1}`),
			`policy.yaml:7: ip_rules[0].zzzzzzzz: is not a key that exists; the keys here are id, description, expires_at, cidr`},
		"key twice": {inserted(`generation: "43"`),
			`policy.yaml:6: generation: is written twice, first on line 1; keep one of the two`},
		"key twice in a rule": {replaced(7, `  - {id: a, cidr: 1.2.3.4/32, cidr: 0.0.0.0/0}`),
			`policy.yaml:7: ip_rules[0].cidr: is written twice, first on line 7; keep one of the two`},
		"long generation": {replaced(1, "generation: "+strings.Repeat("4", 129)),
			`policy.yaml:1: generation: "` + strings.Repeat("4", 80) + `…" is 129 bytes long; write at most 128 bytes, printable`},
		"client_auth": {replaced(1, `client_auth: true`),
			`policy.yaml:1: client_auth: "true" is not a choice; write required, optional or off`},
		"no CA": {replaced(2, ""),
			`policy.yaml:1: client_ca: names no CA with client_auth: required; name the CA that issues the client certificates, or write client_auth: off to ask for none`},
		"empty list of CAs": {replaced(2, "client_ca: []\nclient_auth: optional"),
			`policy.yaml:2: client_ca: names no CA with client_auth: optional; name the CA that issues the client certificates, or write client_auth: off to ask for none`},
		"path out of the directory": {replaced(2, "client_ca: [../space-ca.pem]"),
			`policy.yaml:2: client_ca[0]: "../space-ca.pem" is outside of the policy directory; write a path relative to the directory, without ..`},
		"absolute path": {replaced(5, "  - {cert: /etc/ssl/a.crt, key: public.key}"),
			`policy.yaml:5: certificates[1].cert: "/etc/ssl/a.crt" is outside of the policy directory; write a path relative to the directory, without ..`},
		"a key in the policy": {replaced(5, "  - {cert: a.crt, key: \"-----BEGIN PRIVATE KEY-----\\nc2VjcmV0\"}"),
			`policy.yaml:5: certificates[1].key: holds a PEM text; write the name of a file that holds it`},
		"no default": {replaced(4, "  - {cert: private.crt, key: private.key}"),
			`policy.yaml:3: certificates: has no default; write default: true at the one for clients that name no server`},
		"two defaults": {replaced(5, "  - {cert: public.crt, key: public.key, default: true}"),
			`policy.yaml:5: certificates[1].default: is a second default, beside the one on line 4; keep one`},
		"yes": {replaced(4, "  - {cert: private.crt, key: private.key, default: yes}"),
			"policy.yaml:3: certificates: has no default; write default: true at the one for clients that name no server\n" +
				`policy.yaml:4: certificates[0].default: "yes" is neither true nor false; write true or false`},
		"serials": {inserted("revoked: [0x1f, '1f0', '1f:0', 'zz', '00', '']\nclient_crl: []"),
			"policy.yaml:6: revoked[0]: \"0x1f\" starts with 0x; write hex pairs only: 1f\n" +
				"policy.yaml:6: revoked[1]: \"1f0\" has an odd number of hex digits; write pairs: 01f0\n" +
				"policy.yaml:6: revoked[2]: \"1f:0\" is not made of hex pairs; write two digits between the colons, as in 1f:0a:99\n" +
				"policy.yaml:6: revoked[3]: \"zz\" is not hexadecimal; write hex pairs, as in 1f:0a:99\n" +
				"policy.yaml:6: revoked[4]: \"00\" is zero; write the serial of a certificate: it is positive\n" +
				"policy.yaml:6: revoked[5]: is empty; write hex pairs, as in 1f:0a:99"},
		"serials of digits alone": {inserted("revoked: [1234, 0099, '12', \"34\", 12:34, 1e10]\nidentities:\n- {serial: 56, users: [u]}"),
			"policy.yaml:6: revoked[0]: \"1234\" has decimal digits only, and does not say whether it is hexadecimal; if it is, write colons (12:34) or quotes; if it is decimal, convert it: openssl x509 -noout -serial prints it in hexadecimal\n" +
				"policy.yaml:6: revoked[1]: \"0099\" has decimal digits only, and does not say whether it is hexadecimal; if it is, write colons (99) or quotes; if it is decimal, convert it: openssl x509 -noout -serial prints it in hexadecimal\n" +
				"policy.yaml:8: identities[0].serial: \"56\" has decimal digits only, and does not say whether it is hexadecimal; if it is, write colons (56) or quotes; if it is decimal, convert it: openssl x509 -noout -serial prints it in hexadecimal"},
		"a fingerprint for a serial": {inserted("revoked: [" + strings.Repeat("ab", 21) + "]"),
			`policy.yaml:6: revoked[0]: "` + strings.Repeat("ab", 21) + `" is longer than 20 bytes; write a serial, not a fingerprint: openssl x509 -noout -serial prints it`},
		"identity with two names": {inserted("identities:\n- {subject_cn: a, dns: b, users: [u]}"),
			`policy.yaml:7: identities[0]: has 2 names of a certificate; write exactly one of subject_cn, dns, uri and serial`},
		"identity without a name": {inserted("identities:\n- {users: [u]}"),
			`policy.yaml:7: identities[0]: has 0 names of a certificate; write exactly one of subject_cn, dns, uri and serial`},
		"identity without users": {inserted("identities:\n- {subject_cn: a, users: []}"),
			`policy.yaml:7: identities[0].users: is empty; write at least one item`},
		"identity that says nothing of users": {inserted("identities:\n- {subject_cn: a}"),
			`policy.yaml:7: identities[0].users: is missing; list the database users that these certificates may log in as, or write any_user: true`},
		"identity for no user": {inserted("identities:\n- {subject_cn: a, any_user: false}"),
			`policy.yaml:7: identities[0].users: is missing; list the database users that these certificates may log in as, or write any_user: true`},
		"identity for some users and for any": {inserted("identities:\n- {subject_cn: a, users: [u],\n   any_user: true}"),
			`policy.yaml:8: identities[0].any_user: is true beside a list of users; remove one of the two`},
		"identity for an empty list of users and for any": {inserted("identities:\n- {subject_cn: a, any_user: true, users: []}"),
			"policy.yaml:7: identities[0].any_user: is true beside a list of users; remove one of the two\n" +
				`policy.yaml:7: identities[0].users: is empty; write at least one item`},
		"identity for yes": {inserted("identities:\n- {subject_cn: a, any_user: yes}"),
			`policy.yaml:7: identities[0].any_user: "yes" is neither true nor false; write true or false`},
		"user that PostgreSQL would cut": {inserted("identities:\n- {subject_cn: a, users: [" + strings.Repeat("u", 64) + "]}"),
			`policy.yaml:7: identities[0].users[0]: "` + strings.Repeat("u", 64) + `" is 64 bytes long; write 1 to 63 bytes`},
		"same identity": {inserted("identities:\n- {dns: A.example, users: [u]}\n- {dns: a.example, users: [v]}"),
			`policy.yaml:8: identities[1].dns: "dns a.example" is there twice, first on line 7; write all their users in one place`},
		"identity of a wildcard": {inserted("identities:\n- {dns: '*.example', users: [u]}"),
			`policy.yaml:7: identities[0].dns: "*.example" is not a DNS name; write one name as the certificate has it, without a wildcard`},
		"identity of no URI": {inserted("identities:\n- {uri: app, users: [u]}"),
			`policy.yaml:7: identities[0].uri: "app" is not a URI; write it as the certificate has it, such as spiffe://space/app`},
		"identities and no certificates asked for": {inserted("client_auth: off\nidentities:\n- {subject_cn: a, users: [u]}"),
			`policy.yaml:7: identities: restricts nobody with client_auth: off, which asks for no certificate; write client_auth: required, or remove the identities`},
		"identities that a client can do without": {inserted("client_auth: optional\nidentities:\n- {subject_cn: a, users: [u]}"),
			`policy.yaml:7: identities: restricts nobody with client_auth: optional, under which a client without a certificate logs in as any user; write client_auth: required, or remove the identities`},
		"rules before what restricts": {replaced(8, "identities: [{subject_cn: a, users: [u]}]\nrevoked: [1f]"),
			`policy.yaml:6: ip_rules: is not the last key; move it behind line 9 (revoked): if the file lost its end, what restricts must not be lost before what lets in`},
		"rules before what restricts, in JSON": {`{"client_ca":["ca"],"certificates":[{"cert":"a","key":"b"}],` + "\n" + `"ip_rules":[{"id":"a","cidr":"0.0.0.0/0"}],` + "\n" + `"revoked":["1f"]}` + "\n",
			`policy.yaml:2: ip_rules: is not the last key; move it behind line 3 (revoked): if the file lost its end, what restricts must not be lost before what lets in`},
		"a rule's end behind its network": {replaced(7, "  - id: a\n    cidr: 1.2.3.4/32\n    description: guests\n    expires_at: 2027-01-01T00:00:00Z"),
			`policy.yaml:10: ip_rules[0].expires_at: stands behind cidr; move it before cidr, or put the rule in braces: without its end the file would have a rule that never expires`},
		"on_removal": {inserted("on_removal: kill"),
			`policy.yaml:6: on_removal: "kill" is not a choice; write end or keep`},
		"a key of a later version": {inserted("sessions_end: 5s"),
			`policy.yaml:6: sessions_end: is not a key that exists; the keys here are generation, client_auth, client_ca, client_crl, revoked, certificates, identities, on_removal, end_grace, ip_rules`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ParsePolicy("policy.yaml", []byte(c.text))
			if p != nil {
				t.Fatal("a refused text gave a policy")
			}
			if got := problems(t, err); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAllProblemsComeAtOnceInTheOrderOfTheirLines(t *testing.T) {
	_, err := ParsePolicy("policy.yaml", []byte(`generation: {}
clientca: [a.pem]
certificates:
  - {cert: a.crt}
on_removal: no
ip_rules:
  - id: a
    cidr: 10.0.0.1/8
  - {id: a, cidr: nonsense}
`))
	want := `policy.yaml:1: client_ca: names no CA with client_auth: required; name the CA that issues the client certificates, or write client_auth: off to ask for none
policy.yaml:1: generation: is a group of keys, not one value; see docs/configuration.md for the form
policy.yaml:2: clientca: is not a key that exists; did you mean client_ca?
policy.yaml:4: certificates[0].key: is missing; add it: PEM file with the private key, not encrypted, not readable by others
policy.yaml:5: on_removal: "no" is not a choice; write end or keep
policy.yaml:8: ip_rules[0].cidr: "10.0.0.1/8" has host bits set; write 10.0.0.0/8 for the network or 10.0.0.1/32 for the one address
policy.yaml:9: ip_rules[1].id: "a" is there twice, first on line 7; give each rule its own id
policy.yaml:9: ip_rules[1].cidr: "nonsense" is not an IPv4 or IPv6 network; write it as in 203.0.113.0/24, 203.0.113.7/32 or 2001:db8::/32`
	got := strings.Split(problems(t, err), "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("line %d:\n got %v\nwant %s", i, got[min(i, len(got)-1)], line)
		}
	}
	if n := len(strings.Split(want, "\n")); len(got) != n {
		t.Errorf("%d problems, want %d", len(got), n)
	}
}

func TestSixtyRulesAreTakenAndThe61stIsNamed(t *testing.T) {
	text := strings.Split(good, "ip_rules")[0] + "ip_rules:\n"
	for i := range MaxIPRules {
		text += fmt.Sprintf("  - {id: r%d, cidr: 10.0.%d.0/24}\n", i, i)
	}
	p, err := ParsePolicy("policy.yaml", []byte(text))
	if err != nil || len(p.IPRules) != MaxIPRules {
		t.Fatalf("60 rules: %v", err)
	}
	_, err = ParsePolicy("policy.yaml", []byte(text+"  - {id: one-more, cidr: 10.1.0.0/24}\n  - {id: two-more, cidr: 10.2.0.0/24}\n"))
	want := "policy.yaml:67: ip_rules[60]: is item 61 of ip_rules; the limit is 60"
	if got := problems(t, err); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestPolicyIsWhatTheTextSays(t *testing.T) {
	p, err := ParsePolicy("policy.yaml", []byte(`
generation: 42
client_auth: required
client_ca: [old.pem, new.pem]
client_crl: [crl/space.pem]
revoked: [1F0a, "00:1f:0b", 12:34:56]
certificates: [{cert: a.crt, key: a.key}]
identities:
  - {serial: "1f:0a", users: [app, "Häns"]}
  - {dns: App.Example, users: [app], any_user: false}
  - {uri: "urn:pgmtls:database:1", any_user: true}
on_removal: keep
ip_rules:
  - {id: 38c466b6-dcfb-4869-b5ac-40420b786fb4, cidr: 1.2.3.4/32, description: "Büro 🏢", expires_at: 2027-01-01T00:00:00+02:00}
  - {id: 7, cidr: "::/0", expires_at: 1999-01-01T00:00:00Z}
`))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case p.Generation != "42", p.ClientAuth != ClientAuthRequired, p.OnRemoval != OnRemovalKeep:
		t.Errorf("scalars: %+v", p)
	case len(p.ClientCA) != 2 || p.ClientCA[1] != File{"new.pem", "client_ca[1]", Position{"policy.yaml", 4, 22}}:
		t.Errorf("client_ca: %+v", p.ClientCA)
	case p.ClientCRL[0].Path != "crl/space.pem":
		t.Errorf("client_crl: %+v", p.ClientCRL)
	case p.Revoked[0].String() != "1f:0a" || p.Revoked[1].String() != "1f:0b" || p.Revoked[2].Int().Cmp(big.NewInt(0x123456)) != 0:
		t.Errorf("revoked: %+v", p.Revoked)
	case !p.Certificates[0].Default:
		t.Error("a single certificate is not the default")
	case p.IPRules[0].CIDR != netip.MustParsePrefix("1.2.3.4/32") || p.IPRules[0].Description != "Büro 🏢" || p.IPRules[0].Position.Line != 14:
		t.Errorf("rule: %+v", p.IPRules[0])
	case !p.IPRules[0].ExpiresAt.Equal(time.Date(2026, 12, 31, 22, 0, 0, 0, time.UTC)):
		t.Errorf("expires_at: %v", p.IPRules[0].ExpiresAt)
	case p.IPRules[1].ID != "7" || p.IPRules[1].ExpiresAt.Year() != 1999:
		t.Errorf("rule that has expired: %+v", p.IPRules[1])
	case *p.Identities[0].Serial != p.Revoked[0] || p.Identities[0].Users[1] != "Häns" || p.Identities[1].DNS != "app.example",
		p.Identities[1].AnyUser, p.Identities[2].URI != "urn:pgmtls:database:1" || !p.Identities[2].AnyUser || p.Identities[2].Users != nil:
		t.Errorf("identities: %+v", p.Identities)
	}
}

func TestEmptyRuleListIsAPolicyThatLetsNobodyIn(t *testing.T) {
	p, err := ParsePolicy("policy.yaml", []byte("client_auth: off\ncertificates: [{cert: a, key: b}]\nip_rules: []\n"))
	if err != nil || len(p.IPRules) != 0 || p.ClientAuth != ClientAuthOff || p.OnRemoval != OnRemovalEnd {
		t.Fatalf("%+v, %v", p, err)
	}
}
