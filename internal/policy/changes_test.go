package policy

import (
	"reflect"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

func TestChangesAreInTheWordsOfThePolicy(t *testing.T) {
	p := newPKI(t)
	stranger := testpki.MustCA(t, "Stranger CA")
	second := p.space.MustIssue(t, testpki.Server("second.example.com"))
	p.contents["stranger.pem"], p.contents["second.crt"], p.contents["second.key"] = stranger.PEM(), second.CertPEM, second.KeyPEM
	served := "CN=second.example.com, " + serialOf(second)
	authority := func(s *Snapshot) string { return s.authorityNames()[len(s.authorityNames())-1] }
	withSecond := "  - {cert: second.crt, key: second.key}\n"
	bothCAs := "client_auth: required\nclient_ca: [ca.pem, stranger.pem]\n"
	office := "ip_rules: [{id: office, cidr: 203.0.113.0/24}]\n"

	for name, row := range map[string]struct {
		before, after string
		want          func(before, after *Snapshot) Changes
	}{
		"nothing":   {required + office, required + office, func(_, _ *Snapshot) Changes { return Changes{} }},
		"its words": {required + office, required + "ip_rules: [{id: office, cidr: 203.0.113.0/24, description: ours}]\n", func(_, _ *Snapshot) Changes { return Changes{} }},
		"a rule": {required + office, required + "ip_rules: [{id: vpn, cidr: '2001:db8::/32'}]\n", func(_, _ *Snapshot) Changes {
			return Changes{RulesAdded: []string{"vpn 2001:db8::/32"}, RulesRemoved: []string{"office 203.0.113.0/24"}}
		}},
		"a rule's end": {required + office, required + "ip_rules: [{id: office, cidr: 203.0.113.0/24, expires_at: '2030-01-02T03:04:05+01:00'}]\n", func(_, _ *Snapshot) Changes {
			return Changes{RulesAdded: []string{"office 203.0.113.0/24 until 2030-01-02T02:04:05Z"}, RulesRemoved: []string{"office 203.0.113.0/24"}}
		}},
		"a server certificate": {required + office, withSecond + required + office, func(_, _ *Snapshot) Changes { return Changes{CertificatesAdded: []string{served}} }},
		"a server certificate less": {withSecond + required + office, required + office, func(_, _ *Snapshot) Changes {
			return Changes{CertificatesRemoved: []string{served}}
		}},
		"a CA": {required + office, bothCAs + office, func(_, s *Snapshot) Changes {
			return Changes{ClientCAsAdded: []string{authority(s)}, TrustChanged: true}
		}},
		"a CA less": {bothCAs + office, required + office, func(s, _ *Snapshot) Changes {
			return Changes{ClientCAsRemoved: []string{authority(s)}, TrustChanged: true}
		}},
		"a serial": {required + office, required + "revoked: ['01']\n" + office, func(_, _ *Snapshot) Changes { return Changes{TrustChanged: true} }},
		"who needs a certificate": {required + office, optional + office, func(_, _ *Snapshot) Changes {
			return Changes{ClientAuthChanged: true}
		}},
		"an identity": {required + office, required + office + "identities: [{serial: '01', users: [app]}]\n", func(_, _ *Snapshot) Changes { return Changes{IdentitiesChanged: true} }},
		"any user instead of some": {required + office + "identities: [{serial: '01', users: [app]}]\n", required + office + "identities: [{serial: '01', any_user: true}]\n",
			func(_, _ *Snapshot) Changes { return Changes{IdentitiesChanged: true} }},
		"an identity's place in the file": {required + office + "identities: [{serial: '01', users: [app]}]\n", required + "identities: [{serial: '01', users: [app]}]\n" + office,
			func(_, _ *Snapshot) Changes { return Changes{} }},
	} {
		before := p.build(t, row.before)
		after := p.rebuild(t, row.after, before)
		if got, want := Diff(before, after), row.want(before, after); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
	}
	first := Diff(nil, p.build(t, required+office))
	if len(first.RulesAdded) != 1 || len(first.CertificatesAdded) != 1 || len(first.ClientCAsAdded) != 1 || !first.TrustChanged || first.ClientAuthChanged || first.IdentitiesChanged {
		t.Errorf("the first policy changes %+v", first)
	}
}
