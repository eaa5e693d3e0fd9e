package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/api"
)

func versionWorld(t *testing.T) *world {
	return newWorld(t, map[string][]canned{
		"GET /v1/databases": {ok([]api.Database{})}, "GET /v1/version": {ok(api.Version{Version: "v9"})},
	})
}

func TestServerIsFoundByFlagsThenEnvironmentThenFile(t *testing.T) {
	w := versionWorld(t)
	file := w.env["PGMTLS_CONFIG"]
	ca, token := filepath.Join(w.dir, "control-ca.pem"), filepath.Join(w.dir, "token")
	xdg := t.TempDir()
	if err := os.MkdirAll(filepath.Join(xdg, "pgmtls"), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	absolute := strings.NewReplacer("control-ca.pem", ca, "token_file: token", "token_file: "+token).Replace(string(text))
	if err := os.WriteFile(filepath.Join(xdg, "pgmtls", "client.yaml"), []byte(absolute), 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(xdg, "pgmtls"), filepath.Join(home, ".config", "pgmtls")); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		env  map[string]string
		args []string
	}{
		{"file that the environment names", map[string]string{"PGMTLS_CONFIG": file}, nil},
		{"file of XDG_CONFIG_HOME", map[string]string{"XDG_CONFIG_HOME": xdg}, nil},
		{"file of the home directory", map[string]string{"HOME": home}, nil},
		{"environment", map[string]string{"PGMTLS_URL": w.server.URL, "PGMTLS_CA": ca, "PGMTLS_TOKEN": " pgmtls_1_secret\n"}, nil},
		{"environment with a file", map[string]string{"PGMTLS_URL": w.server.URL, "PGMTLS_CA": ca, "PGMTLS_TOKEN_FILE": token}, nil},
		{"flags", map[string]string{"PGMTLS_URL": "https://127.0.0.1:1", "PGMTLS_TOKEN": "pgmtls_other"},
			[]string{"--url", w.server.URL, "--ca", ca, "--token-file", token}},
		{"flag beats a file's token", map[string]string{"PGMTLS_CONFIG": file, "PGMTLS_TOKEN_FILE": "/nowhere"}, []string{"--token-file", token}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w.env = c.env
			if got := w.run(append([]string{"databases"}, c.args...)...); got.code != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestTokenOfAFileDoesNotGoToAnotherServer(t *testing.T) {
	w := versionWorld(t)
	got := w.run("databases", "--url", w.server.URL, "--ca", filepath.Join(w.dir, "control-ca.pem"))
	if got.code != 1 || !strings.Contains(got.stderr, "Provide a token: --token-file") {
		t.Errorf("%+v", got)
	}
}

func TestBadSettingsSayWhatToDo(t *testing.T) {
	cases := []struct {
		name, want string
		prepare    func(*world)
		args       []string
	}{
		{"nothing found", "no control plane is configured. Looked at:\n  --url and PGMTLS_URL: not set\n  /home/me/.config/pgmtls/client.yaml: does not exist\n  /nowhere/client.yaml: does not exist\nSet --url, or start one with pgmtls serve\n",
			func(w *world) { w.env = map[string]string{"HOME": w.dir} }, nil},
		{"named file not there", "  /home/me/none.yaml: does not exist\n",
			func(w *world) { w.env["PGMTLS_CONFIG"] = filepath.Join(w.dir, "none.yaml") }, nil},
		{"unknown key", "the client's settings in /home/me/client.yaml: [1:1] unknown field \"uri\"",
			func(w *world) { w.write("client.yaml", "uri: x\n", 0o644) }, nil},
		{"no url", "have no url: write one",
			func(w *world) { w.write("client.yaml", "ca: x\n", 0o644) }, nil},
		{"token that others may read", "others can read the token in /home/me/token (mode 0644): chmod 600 /home/me/token, or in a Kubernetes volume set defaultMode: 0440 and the pod's fsGroup\n",
			func(w *world) { w.write("token", "pgmtls_1_secret", 0o644) }, nil},
		{"token that a group may read", "(mode 0640)",
			func(w *world) { w.write("token", "pgmtls_1_secret", 0o640) }, nil},
		{"no token in the file", "does not contain a token: a token begins with pgmtls_",
			func(w *world) { w.write("token", "hunter2", 0o600) }, nil},
		{"token file not there", "read the token: open /home/me/token",
			func(w *world) { os.Remove(filepath.Join(w.dir, "token")) }, nil},
		{"token file too long", "check that it is the right file",
			func(w *world) { w.write("token", strings.Repeat("x", 5000), 0o600) }, nil},
		{"CA not there", "read the control plane's CA: open /nowhere: no such file",
			func(*world) {}, []string{"--ca", "/nowhere"}},
		{"CA is none", "the control plane's CA has no certificate in PEM",
			func(w *world) { w.write("control-ca.pem", "x", 0o644) }, nil},
		{"plain HTTP to elsewhere", "would show the token to everybody",
			func(*world) {}, []string{"--url", "http://192.0.2.1:9816"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := versionWorld(t)
			c.prepare(w)
			got := w.run(append([]string{"databases"}, c.args...)...)
			if got.code != 2 || !strings.Contains(got.stderr, c.want) {
				t.Errorf("exit %d:\n%s\nwithout\n%s", got.code, got.stderr, c.want)
			}
			if strings.Contains(got.stderr, "hunter2") {
				t.Error("it shows what may be another secret")
			}
			if len(w.asked) > 0 {
				t.Errorf("it asked %v", w.asked)
			}
		})
	}
}

func TestConnectionErrorsSayWhatToDo(t *testing.T) {
	w := versionWorld(t)
	ca, url := filepath.Join(w.dir, "control-ca.pem"), w.server.URL
	if got := w.run("databases", "--url", url); got.code != 1 || !strings.Contains(got.stderr, "Name the control plane's CA with --ca") {
		t.Errorf("unknown CA: %+v", got)
	}
	w.server.Close()
	if got := w.run("databases", "--url", url, "--ca", ca); got.code != 1 || !strings.Contains(got.stderr, "Nothing listens there: start pgmtls serve, or correct the URL (from --url)") {
		t.Errorf("nobody there: %+v", got)
	}
}

func TestUnknownTokenSaysWhereItIsFrom(t *testing.T) {
	w := versionWorld(t)
	w.env["PGMTLS_TOKEN"] = "pgmtls_1_other"
	got := w.run("databases")
	want := "this token is not known\nThe token is from PGMTLS_TOKEN. With scope all, create another: pgmtls tokens create\n"
	if got.code != 1 || got.stderr != want {
		t.Errorf("%+v", got)
	}
}

func TestVersionNeedsNoServerUnlessOneIsNamed(t *testing.T) {
	w := versionWorld(t)
	w.env = map[string]string{}
	if got := w.run("version"); got.code != 0 || got.stdout != "pgmtls v1.2.3\nbuilt with go1.26.11\n" {
		t.Errorf("without a server: %+v", got)
	}
	w.env["PGMTLS_URL"] = "https://127.0.0.1:1"
	if got := w.run("version"); got.code != 1 || got.stdout != "pgmtls v1.2.3\nbuilt with go1.26.11\n" {
		t.Errorf("with one that is away: %+v", got)
	}
}

func TestColoursAreOnlyForTerminalsThatWantThem(t *testing.T) {
	answers := func() map[string][]canned { return map[string][]canned{"GET " + endpoint: {ok(tls(api.Operational))}} }
	for name, c := range map[string]struct {
		tty    bool
		env    [2]string
		colour bool
	}{
		"terminal": {tty: true, colour: true}, "pipe": {}, "NO_COLOR": {tty: true, env: [2]string{"NO_COLOR", "1"}},
		"dumb": {tty: true, env: [2]string{"TERM", "dumb"}},
	} {
		w := newWorld(t, answers())
		w.tty = c.tty
		if c.env[0] != "" {
			w.env[c.env[0]] = c.env[1]
		}
		if got := w.run("mtls", "shop"); strings.Contains(got.stdout, "␛") != c.colour {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// PowerShell writes files, and gives variables, with a byte order mark.
func TestMarksInSettingsAreSkipped(t *testing.T) {
	for _, name := range []string{"client.yaml", "token", "control-ca.pem"} {
		w := versionWorld(t)
		text, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		w.write(name, "\ufeff"+string(text), 0o600)
		if got := w.run("version"); got.code != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if got := w.run("databases"); strings.Contains(got.stderr, "does not contain a token") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	w := versionWorld(t)
	w.env["PGMTLS_TOKEN"] = "\ufeffpgmtls_1_secret"
	if got := w.run("databases"); strings.Contains(got.stderr, "does not contain a token") {
		t.Errorf("%+v", got)
	}
}
