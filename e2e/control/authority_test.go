package control

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"pgmtls-proxy/internal/testkit/eventually"
)

func TestCARotationCutsNobodyOff(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	l.letIn(t, "shop")
	before := l.download(t, l.shop, "shop", "")
	live := before.converse(t)
	var list []struct{ ID, State string }
	l.read(t, &list, "ca")
	if len(list) != 1 || list[0].State != "active" {
		t.Fatalf("got %+v", list)
	}
	old := list[0].ID
	l.do(t, "ca", "rotate", "default")
	says(t, l.do(t, "ca"), "retiring")
	live.goesOn(t)
	before.comesIn(t)

	// The successor was issued by itself.
	var certificates []struct{ ID, Status, Successor string }
	eventually.OK(t, patience, func() error {
		l.read(t, &certificates, "certificates", "shop")
		if len(certificates) != 2 || certificates[0].Successor != certificates[1].ID || certificates[1].Status != "ready" {
			return errNotYet(certificates)
		}
		return nil
	})
	after := l.download(t, l.shop, "shop", certificates[1].ID)
	after.comesIn(t)
	openssl(t, "verify", "-x509_strict", "-CAfile", after.files+"root.crt", after.files+"postgresql.crt")
	// Who has not come with its successor yet would be cut off, whether it is connected or not.
	l.refuses(t, "--force", "ca", "retire", "default", "--id", old)
	live.goesOn(t)

	crl := filepath.Join(t.TempDir(), "crl.pem")
	if err := os.WriteFile(crl, []byte(l.do(t, "ca", "crl", "default")), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "crl", "-in", crl, "-noout", "-CAfile", after.files+"root.crt")

	l.do(t, "ca", "retire", "default", "--id", old, "--force", "--confirm", "default")
	l.inForce(t, "shop")
	live.wasEnded(t, "")
	after.comesIn(t) // also by the server certificate of the new one
	says(t, l.do(t, "ca"), "active", "retired")
}

// What was reported last may be minutes old. A client that came with the old CA in this very second is not cut off.
func TestCAIsRetiredByWhatProxiesSayNow(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	f := p.enable(t, "shop")
	p.letIn(t, "shop")
	before := p.download(t, f, "shop", "")
	var list []struct{ ID string }
	p.read(t, &list, "ca")
	old := list[0].ID
	retire := []string{"ca", "retire", "default", "--id", old}
	p.do(t, "ca", "rotate", "default")
	p.inForce(t, "shop")
	var certificates []struct{ ID string }
	p.read(t, &certificates, "certificates", "shop")
	after := p.download(t, f, "shop", certificates[1].ID)

	after.comesIn(t)
	f.left(t)
	before.comesIn(t)
	p.refuses(t, "is still in use as of ", retire...)
	live := before.converse(t)
	after.comesIn(t)
	p.refuses(t, "is still in use as of ", retire...)
	says(t, p.do(t, "ca"), "as of:", "retiring")
	live.goesOn(t)
	live.leave(t)

	f.kill(t)
	p.refuses(t, "not possible to ask the proxy beside of shop (", retire...)
	says(t, p.do(t, "ca"), "The use at proxy beside of shop is that of its last report")
	f.start(t)
	before.comesIn(t)
	eventually.OK(t, patience, func() error {
		f.left(t)
		after.comesIn(t) // later than the other has left
		result := p.run(t, retire...)
		return errUnless(result.code == 0, "the retirement: "+result.stderr)
	})
	p.inForce(t, "shop")
	before.staysOut(t, "")
	after.comesIn(t)
}

// An intermediate that openssl has made signs from then on, and clients verify up to the root that is above it.
func TestCAFromOutside(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	curve := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"}
	openssl(t, append([]string{"req", "-x509", "-days", "3650", "-subj", "/CN=Company Root", "-keyout", at("root.key"), "-out", at("root.crt"),
		"-addext", "keyUsage=critical,keyCertSign,cRLSign"}, curve...)...)
	openssl(t, append([]string{"req", "-new", "-subj", "/CN=Company Databases", "-keyout", at("ca.key"), "-out", at("ca.csr")}, curve...)...)
	writeFile(t, at("ext"), "basicConstraints=critical,CA:true,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
	openssl(t, "x509", "-req", "-in", at("ca.csr"), "-CA", at("root.crt"), "-CAkey", at("root.key"), "-CAcreateserial", "-days", "1800", "-extfile", at("ext"), "-out", at("ca.crt"))
	writeFile(t, at("chain.crt"), readFile(t, at("ca.crt"))+readFile(t, at("root.crt")))

	f := newFront(t, p.policyDir(t, "shop"))
	p.do(t, "databases", "create", "shop", "--host", "localhost", "--proxy", "beside", "--policy-dir", f.PolicyDir, "--admin", f.Admin)
	if result := p.run(t, "ca", "import", "default", "--cert", at("chain.crt"), "--key", at("root.key")); result.code == 0 {
		t.Error("a CA was taken with the key of another")
	}
	says(t, p.do(t, "ca", "import", "default", "--cert", at("chain.crt"), "--key", at("ca.key")), "Company Databases", "active", "imported")
	p.do(t, "mtls", "create", "shop", "--wait")
	p.letIn(t, "shop")
	v := p.download(t, f, "shop", "")
	v.comesIn(t)
	openssl(t, "verify", "-purpose", "sslclient", "-CAfile", at("root.crt"), "-untrusted", v.files+"postgresql.crt", v.files+"postgresql.crt")
	if text := readFile(t, v.files+"root.crt"); text == "" {
		t.Error("there is no root.crt")
	}
}

// People are told of certificates that are replaced, in a form that they can verify.
func TestWebhookTellsOfSuccessors(t *testing.T) {
	t.Parallel()
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 8)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			t.Error(err)
		}
		calls <- call{r.Header, body}
	}))
	defer receiver.Close()
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("thirty-two bytes for the webhook"))
	file := filepath.Join(t.TempDir(), "webhook.secret")
	writeFile(t, file, secret+"\n")
	p := configured(t, map[string]any{"notify": map[string]any{"webhook": map[string]any{"url": receiver.URL + "/hook", "secret_file": file}}})
	p.enable(t, "shop")
	p.do(t, "ca", "rotate", "default")
	eventually.OK(t, patience, func() error { return errUnless(len(calls) > 0, "a call") })

	got := <-calls
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(got.body, got.header); err != nil {
		t.Error(err)
	}
	var told struct {
		Type string
		Data struct {
			Database    string
			Certificate struct{ ID string }
			Command     string
		}
	}
	if err := json.Unmarshal(got.body, &told); err != nil {
		t.Fatal(err)
	}
	if told.Type == "" || told.Data.Database != "shop" || told.Data.Certificate.ID == "" || told.Data.Command == "" {
		t.Errorf("told was %s", got.body)
	}
}
