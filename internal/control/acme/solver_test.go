package acme

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/acmetest"
)

func TestAnUpdateMakesAndRemovesExactlyOneRecord(t *testing.T) {
	t.Parallel()
	d := acmetest.StartDNS(t, zone, `_acme-challenge.db TXT "somebody else's"`)
	key, err := ParseTSIGKey([]byte(`key "acme" { algorithm hmac-sha256; secret "` + d.KeySecret + `"; };`))
	if err != nil {
		t.Fatal(err)
	}
	s := &RFC2136{Server: d.Address, Zone: zone, Key: key}
	name := challengeName("db." + zone)
	one, two := TXT{name, "one"}, TXT{name, "two"}
	steps := []struct {
		do   func(context.Context, TXT) error
		what TXT
		want []string
	}{
		{s.Present, one, []string{"one", "somebody else's"}},
		{s.Present, one, []string{"one", "somebody else's"}},
		{s.Present, two, []string{"one", "somebody else's", "two"}},
		{s.Remove, one, []string{"somebody else's", "two"}},
		{s.Remove, one, []string{"somebody else's", "two"}},
		{s.Remove, two, []string{"somebody else's"}},
	}
	for i, step := range steps {
		if err := step.do(t.Context(), step.what); err != nil {
			t.Fatal(err)
		}
		got := d.TXT(name)
		slices.Sort(got)
		if !slices.Equal(got, step.want) {
			t.Errorf("after step %d: %q, want %q", i+1, got, step.want)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnUpdateThatIsRefusedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	d := acmetest.StartDNS(t, zone)
	good := RFC2136{Server: d.Address, Zone: zone, Key: TSIGKey{Name: d.KeyName, Algorithm: d.KeyAlgorithm, secret: d.KeySecret}}
	for _, c := range []struct {
		name   string
		change func(*RFC2136)
		text   string
	}{
		{"secret", func(s *RFC2136) { s.Key.secret = "c29tZWJvZHkgZWxzZQ==" }, "does not accept the key"},
		{"key name", func(s *RFC2136) { s.Key.Name = "other." }, "does not accept the key"},
		{"zone", func(s *RFC2136) { s.Zone = "other.test" }, "is not in the zone other.test"},
		{"server", func(s *RFC2136) { s.Server = "127.0.0.1:1" }, "at the name server 127.0.0.1:1"},
	} {
		s := good
		c.change(&s)
		err := s.Present(t.Context(), TXT{challengeName("db." + zone), "x"})
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.text)
		}
		if err != nil && strings.Contains(err.Error(), s.Key.secret) {
			t.Errorf("%s: the secret is shown", c.name)
		}
	}
	s := good
	s.Zone = "missing.example.test"
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "has no zone missing.example.test") {
		t.Errorf("a zone that is missing: %v", err)
	}
}

func TestANameServerThatIsSilentHoldsUpNoOtherCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, nil, nil)
	silent := make(chan struct{})
	solver := w.options.Solver
	w.options.Solver = solverFunc(func(ctx context.Context, present bool, record TXT) error {
		if strings.Contains(record.Name, "silent") {
			close(silent)
			<-ctx.Done()
			return ctx.Err()
		}
		if present {
			return solver.Present(ctx, record)
		}
		return solver.Remove(ctx, record)
	})
	ctx, stop := context.WithCancel(w.ctx)
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	for _, name := range []string{"silent", "fine"} {
		_, err := w.Want(w.ctx, Want{ID: name, Space: "acme", Names: []string{name + "." + zone}})
		w.done(err)
	}
	<-silent
	w.await(func() bool { cert := w.is("fine"); return cert.Reason == Issued && !w.hasOrder("fine") })
	stop()
	if err := <-ended; err != context.Canceled {
		t.Errorf("Run: %v", err)
	}
	w.issued("fine")
}

// await waits until something that others do has been done. The clock goes on meanwhile.
func (w *world) await(is func() bool) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
			w.pass(10 * time.Millisecond)
		case <-w.ctx.Done():
			w.t.Fatal(w.ctx.Err())
		}
	}
}

func TestTheWebhookSpeaksHTTPReq(t *testing.T) {
	t.Parallel()
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ FQDN, Value string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		user, password, _ := r.BasicAuth()
		got = append(got, fmt.Sprintf("%s %s %s:%s %s %s", r.Method, r.URL.Path, user, password, body.FQDN, body.Value))
		if body.Value == "bad" {
			http.Error(w, "no such zone\x1b[31m", http.StatusBadRequest)
		}
		if body.Value == "elsewhere" {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		}
	}))
	defer server.Close()
	base, err := url.Parse(server.URL + "/dns/")
	if err != nil {
		t.Fatal(err)
	}
	s := &Webhook{URL: base, Username: "me", Password: "secret"}
	record := TXT{"_acme-challenge.db.example.test.", "abc"}
	for _, f := range []func(context.Context, TXT) error{s.Present, s.Remove} {
		if err := f(t.Context(), record); err != nil {
			t.Error(err)
		}
	}
	want := []string{"POST /dns/present me:secret _acme-challenge.db.example.test. abc", "POST /dns/cleanup me:secret _acme-challenge.db.example.test. abc"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for value, text := range map[string]string{"bad": "400 Bad Request to " + server.URL + "/dns/present: no such zone?[31m", "elsewhere": "307"} {
		if err := s.Present(t.Context(), TXT{record.Name, value}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %q", value, err, text)
		}
	}
}

func TestTheProgramGetsItsArgumentsAndNoEnvironmentOfOurs(t *testing.T) {
	t.Setenv("PGMTLS_SECRET", "hidden")
	dir := t.TempDir()
	script := filepath.Join(dir, "dns")
	text := "#!/bin/sh\necho \"$@ ${PGMTLS_SECRET:-none} $ZONE\" >>" + dir + "/calls\n[ \"$3\" = bad ] && { echo no such zone >&2; exit 3; }\n[ \"$3\" = slow ] && exec sleep 60\nexit 0\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &Exec{Program: script, Environ: []string{"PATH=/usr/bin:/bin", "ZONE=z"}}
	for _, f := range []func(context.Context, TXT) error{s.Present, s.Remove} {
		if err := f(t.Context(), TXT{"_acme-challenge.db.example.test.", "a b"}); err != nil {
			t.Error(err)
		}
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "present _acme-challenge.db.example.test. a b none z\ncleanup _acme-challenge.db.example.test. a b none z\n"; string(calls) != want {
		t.Errorf("got %q, want %q", calls, want)
	}
	if err := s.Present(t.Context(), TXT{"x.", "bad"}); err == nil || !strings.Contains(err.Error(), "exit status 3: no such zone") {
		t.Errorf("a program that fails: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Present(ctx, TXT{"x.", "slow"}); err == nil || !strings.Contains(err.Error(), "did not end in time") {
		t.Errorf("a program that does not end: %v", err)
	}
}

func TestAKeyFileIsReadAsTSIGKeygenWritesIt(t *testing.T) {
	good := "key \"acme\" {\n\talgorithm hmac-sha256;\n\tsecret \"c2VjcmV0\";\n};\n"
	for _, text := range []string{good, "# made by tsig-keygen\n// " + "x\n/* y\n*/" + good, "key acme. {secret c2VjcmV0;algorithm HMAC-SHA512;}"} {
		if key, err := ParseTSIGKey([]byte(text)); err != nil || key.Name != "acme." || key.secret != "c2VjcmV0" {
			t.Errorf("%q: %+v, %v", text, key, err)
		}
	}
	for text, want := range map[string]string{
		"": "as tsig-keygen writes it", "c2VjcmV0": "as tsig-keygen writes it", good + good: "as tsig-keygen writes it",
		strings.Replace(good, "hmac-sha256", "hmac-md5", 1): "its algorithm", strings.Replace(good, "c2VjcmV0", "c2VjcmV", 1): "not base64",
		strings.Replace(good, "algorithm hmac-sha256;", "", 1): "as tsig-keygen writes it",
	} {
		if _, err := ParseTSIGKey([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "c2VjcmV") {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func FuzzTSIGKey(f *testing.F) {
	f.Add([]byte("key \"acme\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; };"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := ParseTSIGKey(text); err == nil && (key.Name == "" || key.Algorithm == "" || key.secret == "") {
			t.Errorf("%+v", key)
		}
	})
}
