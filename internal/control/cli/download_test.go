package cli_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/authority"
)

// issued is a certificate as the control plane makes it.
type issued struct{ certificate, key, root string }

func issue(t *testing.T) issued {
	t.Helper()
	ca, err := authority.NewCA(authority.Subject{CommonName: "space CA"}, time.Now().Add(-time.Hour), time.Now().AddDate(10, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	key, keyPEM, err := authority.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.IssueClient(authority.Request{CommonName: "app", PublicKey: key.Public(), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return issued{string(leaf.CertificatePEM), string(keyPEM), string(ca.ChainPEM())}
}

func fileWorld(t *testing.T, has issued, withKey bool) *world {
	files := api.CertificateFiles{CertificateWithChain: has.certificate, Root: has.root}
	if withKey {
		files.PrivateKey = has.key
	}
	return newWorld(t, map[string][]canned{
		"GET " + endpoint + "/certificates/" + certID + "/files": {ok(files)},
		"GET " + endpoint + "/certificates":                      {ok([]api.Certificate{certificate(api.Disabled), certificate(api.Ready)})},
		"POST " + endpoint + "/certificates":                     {{201, certificate(api.Pending)}},
	})
}

func (w *world) download(args ...string) outcome {
	w.t.Helper()
	return w.run(append([]string{"certificates", "download", "shop", "--dir", filepath.Join(w.dir, "files")}, args...)...)
}

// read reads one of the files, and checks its mode.
func (w *world) read(name string, mode fs.FileMode) string {
	w.t.Helper()
	path := filepath.Join(w.dir, "files", name)
	text, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if info.Mode() != mode {
		w.t.Errorf("%s has mode %v, not %v", name, info.Mode(), mode)
	}
	return string(text)
}

// names lists the files.
func (w *world) names() string {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "files"))
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, " ")
}

func TestDownloadWritesWhatLibpqReads(t *testing.T) {
	has := issue(t)
	w := fileWorld(t, has, true)
	got := w.download("--prefix", "shop-")
	want := `wrote /home/me/files/shop-postgresql.crt
wrote /home/me/files/shop-postgresql.key
wrote /home/me/files/shop-root.crt

export PGSSLCERT=/home/me/files/shop-postgresql.crt
export PGSSLKEY=/home/me/files/shop-postgresql.key
export PGSSLROOTCERT=/home/me/files/shop-root.crt
`
	if got.code != 0 || got.stdout != want {
		t.Errorf("%+v", got)
	}
	if w.read("shop-postgresql.crt", 0o644) != has.certificate || w.read("shop-postgresql.key", 0o600) != has.key || w.read("shop-root.crt", 0o644) != has.root {
		t.Error("the files differ from what the server has")
	}
	if block, _ := pem.Decode([]byte(w.read("shop-postgresql.key", 0o600))); block == nil || block.Type != "PRIVATE KEY" {
		t.Error("the key is not PKCS #8 in PEM")
	}
	if names := w.names(); names != "shop-postgresql.crt shop-postgresql.key shop-root.crt" {
		t.Errorf("there are %s", names)
	}
}

func TestOtherFilesAreNotWrittenOverWithoutForce(t *testing.T) {
	w := fileWorld(t, issue(t), true)
	if got := w.download(); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := w.download(); got.code != 0 {
		t.Errorf("the same again: %+v", got)
	}
	w.write("files/postgresql.key", "another key", 0o600)
	w.write("files/root.crt", "another root", 0o644)
	if err := os.Remove(filepath.Join(w.dir, "files", "postgresql.crt")); err != nil {
		t.Fatal(err)
	}
	got := w.download()
	want := "these files already exist and differ:\n  /home/me/files/root.crt\n  /home/me/files/postgresql.key\nNothing was written. Choose another --prefix or --dir, or overwrite them with --force\n"
	if got.code != 1 || got.stderr != want {
		t.Errorf("%+v", got)
	}
	if w.names() != "postgresql.key root.crt" || w.read("postgresql.key", 0o600) != "another key" {
		t.Errorf("it wrote: %s", w.names())
	}
	if got := w.download("--force"); got.code != 0 || w.read("postgresql.key", 0o600) == "another key" {
		t.Errorf("with --force: %+v", got)
	}
}

// A key that everybody may read, or that is a link to elsewhere, is in the way even with the right content.
func TestKeyThatOthersMayReadIsInTheWay(t *testing.T) {
	has := issue(t)
	w := fileWorld(t, has, true)
	if got := w.download(); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	w.write("files/postgresql.key", has.key, 0o644)
	if got := w.download(); got.code != 1 {
		t.Errorf("%+v", got)
	}
	if got := w.download("--force"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	elsewhere := w.write("elsewhere", "precious", 0o600)
	key := filepath.Join(w.dir, "files", "postgresql.key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, key); err != nil {
		t.Fatal(err)
	}
	if got := w.download("--force"); got.code != 0 || w.read("postgresql.key", 0o600) != has.key {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(elsewhere); err != nil || string(text) != "precious" {
		t.Errorf("it wrote through the link: %s %v", text, err)
	}
}

func TestPK8IsWhatJDBCReads(t *testing.T) {
	has := issue(t)
	w := fileWorld(t, has, true)
	got := w.download("--format", "pk8")
	if got.code != 0 || !strings.HasSuffix(got.stdout, "\n\nFor JDBC:  sslcert=/home/me/files/postgresql.crt&sslkey=/home/me/files/postgresql.pk8&sslrootcert=/home/me/files/root.crt\n") {
		t.Errorf("%+v", got)
	}
	key, err := x509.ParsePKCS8PrivateKey([]byte(w.read("postgresql.pk8", 0o600)))
	if err != nil {
		t.Fatal(err)
	}
	again, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode([]byte(has.key)); !bytes.Equal(block.Bytes, again) {
		t.Error("it is another key")
	}
	if w.names() != "postgresql.crt postgresql.pk8 root.crt" {
		t.Errorf("there are %s", w.names())
	}
}

func TestP12OpensWithItsPassword(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("there is no openssl")
	}
	cases := []struct {
		name     string
		prepare  func(*world) []string
		password string // empty: the one that is shown
	}{
		{"made", func(*world) []string { return nil }, ""},
		{"from a file", func(w *world) []string {
			return []string{"--password-file", w.write("password", "correct horse\r\n", 0o600)}
		}, "correct horse"},
		{"from the environment", func(w *world) []string { w.env["PGMTLS_P12_PASSWORD"] = "staple"; return nil }, "staple"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := fileWorld(t, issue(t), true)
			got := w.download(append([]string{"--format", "p12"}, c.prepare(w)...)...)
			if got.code != 0 {
				t.Fatalf("%+v", got)
			}
			password := c.password
			if password == "" {
				_, shown, ok := strings.Cut(got.stdout, "shown only once: ")
				if !ok {
					t.Fatalf("%+v", got)
				}
				password, _, _ = strings.Cut(shown, "\n")
			} else if strings.Contains(got.stdout+got.stderr, password) {
				t.Error("it shows the password")
			}
			if !strings.HasSuffix(got.stdout, "\nFor JDBC:  sslkey=/home/me/files/postgresql.p12&sslrootcert=/home/me/files/root.crt&sslpassword=PASSWORD\n") {
				t.Errorf("%+v", got)
			}
			w.read("postgresql.p12", 0o600)
			command := exec.CommandContext(t.Context(), openssl, "pkcs12", "-in", filepath.Join(w.dir, "files", "postgresql.p12"), "-noenc", "-passin", "pass:"+password)
			text, err := command.CombinedOutput()
			if err != nil || strings.Count(string(text), "BEGIN CERTIFICATE") != 2 || !strings.Contains(string(text), "BEGIN PRIVATE KEY") {
				t.Errorf("%v: %d bytes", err, len(text))
			}
			if w.names() != "postgresql.p12 root.crt" {
				t.Errorf("there are %s", w.names())
			}
		})
	}
}

func TestOwnKeyNeverLeavesButGetsIntoThePK8(t *testing.T) {
	has, other := issue(t), issue(t)
	w := fileWorld(t, has, false)
	got := w.download()
	if got.code != 0 || !strings.Contains(got.stdout, "export PGSSLKEY=YOUR.key\n") || w.names() != "postgresql.crt root.crt" {
		t.Errorf("%+v", got)
	}
	if got := w.download("--format", "pk8"); got.code != 2 || !strings.Contains(got.stderr, "name its file with --key FILE") {
		t.Errorf("without the key: %+v", got)
	}
	if got := w.download("--format", "pk8", "--key", w.write("other.key", other.key, 0o600)); got.code != 2 || !strings.Contains(got.stderr, "does not belong") {
		t.Errorf("with another key: %+v", got)
	}
	if got := w.download("--format", "pk8", "--key", w.write("my.key", has.key, 0o600)); got.code != 0 || w.names() != "postgresql.crt postgresql.pk8 root.crt" {
		t.Errorf("with the key: %+v", got)
	}
	for _, asked := range w.asked {
		if strings.Contains(asked, "PRIVATE KEY") {
			t.Errorf("the key was sent: %s", asked)
		}
	}
}

func TestTheOneUsableCertificateNeedsNoID(t *testing.T) {
	w := fileWorld(t, issue(t), true)
	if got := w.download(); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestCreateWithRequestSendsTheRequestOnly(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("there is no openssl")
	}
	for _, form := range []string{"PEM", "DER"} {
		t.Run(form, func(t *testing.T) {
			w := fileWorld(t, issue(t), false)
			request := filepath.Join(w.dir, "my.csr")
			command := exec.CommandContext(t.Context(), openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
				"-subj", "/CN=x", "-keyout", filepath.Join(w.dir, "my.key"), "-out", request, "-outform", form)
			if text, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			got := w.run("certificates", "create", "shop", "--name", "mine", "--csr", request, "--download", "--dir", filepath.Join(w.dir, "files"))
			if got.code != 0 || w.names() != "postgresql.crt root.crt" {
				t.Fatalf("%+v", got)
			}
			if !strings.Contains(w.asked[0], `"name":"mine","csr":"-----BEGIN CERTIFICATE REQUEST-----\n`) {
				t.Errorf("it asked %s", w.asked[0])
			}
			got = w.run("certificates", "create", "shop", "--csr", filepath.Join(w.dir, "my.key"))
			if got.code != 2 || len(w.asked) != 2 {
				t.Errorf("a key in place of the request: %+v, %d questions", got, len(w.asked))
			}
		})
	}
}

func TestNoCertificateIsMadeWhoseFilesHaveNoPlace(t *testing.T) {
	w := fileWorld(t, issue(t), true)
	if got := w.download("--id", certID); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	w.asked = nil
	create := []string{"certificates", "create", "shop", "--download", "--dir", filepath.Join(w.dir, "files")}
	got := w.run(create...)
	if got.code != 1 || !strings.Contains(got.stderr, "postgresql.crt already exists, so no certificate was created") || len(w.asked) != 0 {
		t.Errorf("%+v, %v", got, w.asked)
	}
	if got := w.run(append(create, "--prefix", "two-")...); got.code != 0 || !strings.Contains(w.names(), "two-postgresql.key") {
		t.Errorf("%+v", got)
	}
}

func TestImportedCAIsCheckedBeforeItIsSent(t *testing.T) {
	has := issue(t)
	w := newWorld(t, nil)
	cert, key := w.write("ca.crt", has.certificate, 0o600), w.write("ca.key", has.key, 0o600)
	got := w.run("ca", "import", "default", "--cert", cert, "--key", key)
	if got.code != 2 || !strings.Contains(got.stderr, "this CA can't be used") || len(w.asked) != 0 {
		t.Errorf("a leaf: %+v", got)
	}
}
