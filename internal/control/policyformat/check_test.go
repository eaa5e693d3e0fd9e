package policyformat_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/must"
)

func TestPolicyThatFitsItselfIsGood(t *testing.T) {
	must.OK(t, policyformat.Check(policytest.NewSpace(t).Policy(t, policytest.Edition{Generation: 3})))
}

func TestPolicyThatDoesNotFitItselfIsRefused(t *testing.T) {
	for name, misfit := range policytest.Misfits(t) {
		if err := policyformat.Check(misfit.Policy); err == nil || !strings.Contains(err.Error(), misfit.Want) {
			t.Errorf("%s: got %v, want something with %q", name, err, misfit.Want)
		}
	}
}

func TestNameIsThatOfOneContentOnly(t *testing.T) {
	name := policyformat.Name("server", "crt", []byte("a"))
	if name != "server-ca978112ca1bbdca.crt" || !policyformat.IsName(name) || !policyformat.IsNameOf(name, []byte("a")) {
		t.Errorf("the name is %q", name)
	}
	if policyformat.IsNameOf(name, []byte("b")) || policyformat.IsNameOf("server.crt", []byte("a")) {
		t.Error("other contents have the same name")
	}
	for _, name := range []string{"", "server.crt", "server-0123.crt", "Server-ca978112ca1bbdca.crt", "server-ca978112ca1bbdca.txt", "a/server-ca978112ca1bbdca.crt", "server-CA978112CA1BBDCA.crt"} {
		if policyformat.IsName(name) {
			t.Errorf("%q is taken for one of ours", name)
		}
	}
}

func TestKeysAreKnownByTheirNames(t *testing.T) {
	for name, want := range map[string]bool{"server-ca978112ca1bbdca.key": true, "server-ca978112ca1bbdca.crt": false, "client-ca-ca978112ca1bbdca.pem": false, "key": false} {
		if policyformat.IsKey(name) != want {
			t.Errorf("%s: got %t", name, !want)
		}
	}
}

func TestNoVerbPrintsAKey(t *testing.T) {
	p := policytest.NewSpace(t).Policy(t, policytest.Edition{Generation: 1})
	key := string(p.Files[policytest.FileOf(p, "key")])
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, value := range []any{p, &p, struct{ P api.Policy }{p}, []api.Policy{p}} {
			text := fmt.Sprintf(format, value)
			if strings.Contains(text, "PRIVATE") || strings.Contains(text, fmt.Sprintf("%v", []byte(key))) || strings.Contains(text, fmt.Sprintf("%#v", []byte(key))) {
				t.Errorf("%s of a %T prints the key", format, value)
			}
		}
	}
}

func TestAPolicyTravelsAsJSON(t *testing.T) {
	sent := policytest.NewSpace(t).Policy(t, policytest.Edition{Generation: 9})
	text, err := json.Marshal(sent)
	must.OK(t, err)
	var got api.Policy
	must.OK(t, json.Unmarshal(text, &got))
	if policyformat.Digest(got) != policyformat.Digest(sent) || policyformat.Check(got) != nil {
		t.Errorf("another policy arrived: %v", got)
	}
}

func TestAHeaderIsReadBack(t *testing.T) {
	id, generation, ok := policyformat.ParseHeader([]byte(policyformat.Header(policytest.Database, 42) + "generation: \"42\"\n"))
	if id != policytest.Database || generation != 42 || !ok {
		t.Errorf("got %q, %d, %t", id, generation, ok)
	}
	for _, text := range []string{
		"", "\n", "generation: \"42\"\n", " " + policyformat.Header(policytest.Database, 1), strings.TrimSpace(policyformat.Header(policytest.Database, 1)),
		policyformat.Header(policytest.Database, 0), policyformat.Header(policytest.Database, -1), policyformat.Header("", 1), policyformat.Header("a b", 1), policyformat.Header(strings.Repeat("a", 65), 1),
		"# written by pgmtls for database a; generation +1\n", "# written by pgmtls for database a; generation 01\n",
		"# written by pgmtls for database a; generation 1 \n", "# written by pgmtls for database a; generation 99999999999999999999\n",
	} {
		if id, generation, ok := policyformat.ParseHeader([]byte(text)); ok || id != "" || generation != 0 {
			t.Errorf("%q: got %q, %d, %t", text, id, generation, ok)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(policyformat.Header(policytest.Database, 42)))
	f.Add([]byte("generation: 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if id, generation, ok := policyformat.ParseHeader(text); ok && !strings.HasPrefix(string(text), policyformat.Header(id, generation)) {
			t.Errorf("%q was read as %q, %d", text, id, generation)
		}
	})
}
