// Package policytest makes policies for the tests of the packages that deliver them.
package policytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// Database is the id of the database that the policies are for.
const Database = "0a1b2c3d-0000-4000-8000-000000000001"

// Space is what the policies of one space have in common: a CA for clients, and a server certificate. No file of one space
// equals a file of another.
type Space struct {
	CA     *testpki.CA
	Server *testpki.Pair // for db.example.com
}

// NewSpace returns a space of its own.
func NewSpace(t testing.TB) *Space {
	t.Helper()
	ca := testpki.MustCA(t, "space")
	return &Space{ca, ca.MustIssue(t, testpki.Server("db.example.com"))}
}

// Edition is what distinguishes a policy from others of its space.
type Edition struct {
	Generation int64
	CIDRs      []string // default: loopback
	Revoked    []string
	EndGrace   string
	Server     *testpki.Pair // default: the space's
	Text       string        // instead of all this, after the header
}

// Policy returns an edition as a policy of [Database].
func (s *Space) Policy(t testing.TB, e Edition) api.Policy {
	t.Helper()
	server := s.Server
	if e.Server != nil {
		server = e.Server
	}
	ca, crt, key := policyformat.Name("client-ca", "pem", s.CA.PEM()), policyformat.Name("server", "crt", server.CertPEM), policyformat.Name("server", "key", server.KeyPEM)
	content := struct {
		Generation   string              `json:"generation"`
		ClientCA     []string            `json:"client_ca"`
		Revoked      []string            `json:"revoked,omitempty"`
		Certificates []map[string]string `json:"certificates"`
		EndGrace     string              `json:"end_grace,omitempty"`
		Rules        []map[string]string `json:"ip_rules"`
	}{fmt.Sprint(e.Generation), []string{ca}, e.Revoked, []map[string]string{{"cert": crt, "key": key}}, e.EndGrace, []map[string]string{}}
	if e.CIDRs == nil {
		e.CIDRs = []string{"127.0.0.0/8"}
	}
	for i, cidr := range e.CIDRs {
		content.Rules = append(content.Rules, map[string]string{"id": fmt.Sprintf("rule-%d", i), "cidr": cidr})
	}
	text, err := json.Marshal(content)
	must.OK(t, err)
	if e.Text != "" {
		text = []byte(e.Text)
	}
	return api.Policy{Database: Database, Generation: e.Generation, Files: map[string][]byte{
		api.PolicyFile: fmt.Appendf(nil, "%s%s\n...\n", policyformat.Header(Database, e.Generation), text),
		ca:             s.CA.PEM(), crt: server.CertPEM, key: server.KeyPEM,
	}}
}

// Misfit is a policy that does not fit itself.
type Misfit struct {
	Policy api.Policy
	Want   string // a part of the error
}

// Misfits returns the ways in which a policy can fail to fit itself, each made of one that is good.
func Misfits(t testing.TB) map[string]Misfit {
	t.Helper()
	good := NewSpace(t).Policy(t, Edition{Generation: 3})
	text, key := string(good.Files[api.PolicyFile]), FileOf(good, "key")
	with := func(change func(files map[string][]byte)) api.Policy {
		p := good
		p.Files = maps.Clone(p.Files)
		change(p.Files)
		return p
	}
	rewrite := func(old, new string) api.Policy {
		return with(func(files map[string][]byte) { files[api.PolicyFile] = []byte(strings.ReplaceAll(text, old, new)) })
	}
	renamed := func(old, new string) api.Policy {
		p := rewrite(old, new)
		p.Files[new] = p.Files[old]
		delete(p.Files, old)
		return p
	}
	return map[string]Misfit{
		"id with a newline":     {api.Policy{Database: "a\nb", Generation: 1}, "an id has"},
		"no id":                 {api.Policy{Generation: 1}, "an id has"},
		"generation 0":          {api.Policy{Database: Database}, "start at 1"},
		"no policy.yaml":        {with(func(files map[string][]byte) { delete(files, api.PolicyFile) }), "lacks policy.yaml"},
		"no header":             {rewrite("# written by", "# made by"), "not its header"},
		"another's header":      {rewrite(Database, "other"), "not its header"},
		"another generation":    {rewrite(`"generation":"3"`, `"generation":"4"`), `says generation "4"`},
		"a key that is unknown": {rewrite(`"generation"`, `"degeneration"`), "would refuse"},
		"a missing file":        {with(func(files map[string][]byte) { delete(files, key) }), "is missing"},
		"a file too many":       {with(func(files map[string][]byte) { files["extra.pem"] = nil }), "does not name"},
		"a file outside":        {renamed(key, "../"+key), "would refuse"},
		"a file in a directory": {renamed(key, "sub/"+key), "not named after its content"},
		"content changed":       {with(func(files map[string][]byte) { files[key] = []byte("x") }), "not named after its content"},
		"a key named pem":       {renamed(key, strings.TrimSuffix(key, "key")+"pem"), "have the extension key"},
		"a file too large":      {with(func(files map[string][]byte) { files[key] = make([]byte, policyformat.MaxFile+1) }), "larger than 1024 KiB"},
	}
}

// FileOf returns the name of a file of a policy with an extension, or "" if there is none.
func FileOf(p api.Policy, extension string) string {
	for name := range p.Files {
		if strings.HasSuffix(name, "."+extension) {
			return name
		}
	}
	return ""
}
