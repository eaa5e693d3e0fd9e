package policysync

import (
	"encoding/json"
	"fmt"
	"maps"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/testkit/must"
	"strings"
	"testing"
)

// with copies a policy and changes its files.
func with(p api.Policy, change func(files map[string][]byte)) api.Policy {
	p.Files = maps.Clone(p.Files)
	change(p.Files)
	return p
}

// fileOf finds the file of a policy with an extension.
func fileOf(p api.Policy, extension string) string {
	for name := range p.Files {
		if strings.HasSuffix(name, "."+extension) {
			return name
		}
	}
	return ""
}

func TestAPolicyThatDoesNotFitItselfTouchesNothing(t *testing.T) {
	s := newSpace(t)
	good := s.policy(t, edition{Generation: 3})
	must.OK(t, Check(good))
	text := string(good.Files[api.PolicyFile])
	key := fileOf(good, "key")
	rewrite := func(old, new string) api.Policy {
		return with(good, func(files map[string][]byte) { files[api.PolicyFile] = []byte(strings.ReplaceAll(text, old, new)) })
	}
	renamed := func(old, new string) api.Policy {
		p := rewrite(old, new)
		p.Files[new] = p.Files[old]
		delete(p.Files, old)
		return p
	}
	for name, c := range map[string]struct {
		policy api.Policy
		want   string
	}{
		"id with a newline":     {api.Policy{Database: "a\nb", Generation: 1}, "an id has"},
		"no id":                 {api.Policy{Generation: 1}, "an id has"},
		"generation 0":          {api.Policy{Database: database}, "start at 1"},
		"no policy.yaml":        {with(good, func(files map[string][]byte) { delete(files, api.PolicyFile) }), "lacks policy.yaml"},
		"no header":             {rewrite("# written by", "# made by"), "not its header"},
		"another's header":      {rewrite(database, "other"), "not its header"},
		"another generation":    {rewrite(`"generation":"3"`, `"generation":"4"`), `says generation "4"`},
		"a key that is unknown": {rewrite(`"generation"`, `"degeneration"`), "would refuse"},
		"a missing file":        {with(good, func(files map[string][]byte) { delete(files, key) }), "is missing"},
		"a file too many":       {with(good, func(files map[string][]byte) { files["extra.pem"] = nil }), "does not name"},
		"a file outside":        {renamed(key, "../"+key), "would refuse"},
		"a file in a directory": {renamed(key, "sub/"+key), "not named after its content"},
		"content changed":       {with(good, func(files map[string][]byte) { files[key] = []byte("x") }), "not named after its content"},
		"a key named pem":       {renamed(key, strings.TrimSuffix(key, "key")+"pem"), "have the extension key"},
		"a file too large":      {with(good, func(files map[string][]byte) { files[key] = make([]byte, maxFile+1) }), "larger than 1024 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(c.policy)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want something with %q", err, c.want)
			}
			courier := &Publisher{Database: c.policy.Database, Dir: t.TempDir()}
			if _, err := courier.Publish(t.Context(), c.policy); err == nil {
				t.Error("it was published")
			}
			if left := names(t, courier.Dir); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

func TestAnotherDatabasesPolicyIsNotThisCouriersToBring(t *testing.T) {
	c := &Publisher{Database: "other", Dir: t.TempDir()}
	if _, err := c.Publish(t.Context(), newSpace(t).policy(t, edition{Generation: 1})); err == nil || !strings.Contains(err.Error(), "was given to the proxy of") {
		t.Errorf("got %v", err)
	}
}

func TestNoVerbPrintsAKey(t *testing.T) {
	p := newSpace(t).policy(t, edition{Generation: 1})
	key := string(p.Files[fileOf(p, "key")])
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
	sent := newSpace(t).policy(t, edition{Generation: 9})
	text, err := json.Marshal(sent)
	must.OK(t, err)
	var got api.Policy
	must.OK(t, json.Unmarshal(text, &got))
	if digestOf(got) != digestOf(sent) || Check(got) != nil {
		t.Errorf("another policy arrived: %v", got)
	}
}

func TestAHeaderIsReadBack(t *testing.T) {
	id, generation, ok := ParseHeader([]byte(Header(database, 42) + "generation: \"42\"\n"))
	if id != database || generation != 42 || !ok {
		t.Errorf("got %q, %d, %t", id, generation, ok)
	}
	for _, text := range []string{
		"", "\n", "generation: \"42\"\n", " " + Header(database, 1), strings.TrimSpace(Header(database, 1)),
		Header(database, 0), Header(database, -1), Header("", 1), Header("a b", 1), Header(strings.Repeat("a", 65), 1),
		"# written by pgmtls for database a; generation +1\n", "# written by pgmtls for database a; generation 01\n",
		"# written by pgmtls for database a; generation 1 \n", "# written by pgmtls for database a; generation 99999999999999999999\n",
	} {
		if id, generation, ok := ParseHeader([]byte(text)); ok || id != "" || generation != 0 {
			t.Errorf("%q: got %q, %d, %t", text, id, generation, ok)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(Header(database, 42)))
	f.Add([]byte("generation: 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if id, generation, ok := ParseHeader(text); ok && !strings.HasPrefix(string(text), Header(id, generation)) {
			t.Errorf("%q was read as %q, %d", text, id, generation)
		}
	})
}
