package tlsconf

import (
	"bytes"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

const bom = "\ufeff"

// Windows editors and PowerShell put a mark in front of what they save.
func TestMarkInFrontOfPEMIsSkipped(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	pair := space.MustIssue(t, testpki.Server("db.example.com"))
	marked := func(text []byte) []byte { return append([]byte(bom), text...) }
	if _, err := ParseServerCertificate(marked(pair.CertPEM), marked(pair.KeyPEM)); err != nil {
		t.Error(err)
	}
	mustTrust(t, TrustFiles{CAs: []File{{"ca", marked(space.PEM())}}, CRLs: []File{{"crl", marked(space.MustCRL(t, testpki.CRL{}))}}})
	if _, err := Backend(BackendTLS{Mode: VerifyCA, CA: marked(space.PEM())}); err != nil {
		t.Error(err)
	}
	if _, err := ParseCertificates(marked(marked(space.PEM()))); err == nil {
		t.Error("two marks are skipped")
	}
}

// Copying a file again helps only if it was damaged.
func TestFaultsOfFilesHaveTheirOwnRemedies(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		command := exec.Command(openssl, args...)
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	read := func(name string) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, args := range map[string][]string{
		"p256": {"-name", "prime256v1"}, "k1": {"-name", "secp256k1"}, "brainpool": {"-name", "brainpoolP256r1"},
		"explicit": {"-name", "prime256v1", "-param_enc", "explicit"},
	} {
		run(append([]string{"ecparam", "-genkey", "-noout", "-out", name + ".key"}, args...)...)
		run("pkcs8", "-topk8", "-nocrypt", "-in", name+".key", "-out", name+".pk8")
		run("req", "-x509", "-new", "-key", name+".key", "-subj", "/CN="+name, "-days", "30", "-out", name+".crt")
	}
	run("req", "-x509", "-new", "-key", "p256.key", "-subj", "/CN=negative", "-days", "30", "-set_serial", "-5", "-out", "negative.crt")
	run("genpkey", "-algorithm", "ED448", "-out", "ed448.key")
	write("index.txt", "")
	write("ca.cnf", "[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\ncertificate=p256.crt\nprivate_key=p256.key\ndefault_md=sha256\ndefault_crl_days=30\n")
	run("ca", "-config", "ca.cnf", "-gencrl", "-out", "v1.crl")

	certificate := func(name string) error { _, err := ParseCertificates(read(name)); return err }
	key := func(name string) error { _, err := parseKey(read(name)); return err }
	const again = "issue it again for a key on P-256"
	joined := bytes.TrimRight(read("p256.crt"), "\n")
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"a certificate on secp256k1":        {certificate("k1.crt"), again},
		"a certificate on brainpool":        {certificate("brainpool.crt"), again},
		"a certificate with parameters":     {certificate("explicit.crt"), again},
		"a key on secp256k1":                {key("k1.key"), again},
		"a key on secp256k1, PKCS 8":        {key("k1.pk8"), again},
		"a key on brainpool, PKCS 8":        {key("brainpool.pk8"), again},
		"a key with parameters":             {key("explicit.key"), again},
		"a key with parameters, PKCS 8":     {key("explicit.pk8"), again},
		"a key of another kind":             {key("ed448.key"), "make one with openssl genpkey"},
		"a negative serial":                 {certificate("negative.crt"), "issue it again with a positive serial number"},
		"a list of version 1":               {second(parseLists(read("v1.crl"))), "openssl ca needs crlnumber"},
		"two certificates in one line":      {second(ParseCertificates(append(joined, read("p256.crt")...))), "PEM block 1 ends in the line in which the next one begins: two files were joined without a line break"},
		"a certificate and a key, joined":   {second(parseKey(append(joined, read("p256.key")...))), "joined without a line break"},
		"something else than a certificate": {second(ParseCertificates(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0x03, 2, 1, 1}}))), "it is complete, but not as RFC 5280 has it"},
	} {
		if row.err == nil || !strings.Contains(row.err.Error(), row.want) || strings.Contains(row.err.Error(), "copy") {
			t.Errorf("%s: %v\nwant %s, and nothing of copying", name, row.err, row.want)
		}
	}
	block, _ := pem.Decode(read("p256.crt"))
	for name, der := range map[string][]byte{"cut": block.Bytes[:200], "longer": append(slices.Clone(block.Bytes), 0), "garbled": garbled(block.Bytes)} {
		_, err := ParseCertificates(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		if err == nil || !strings.Contains(err.Error(), "copy the file again") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// garbled is a certificate with another length inside.
func garbled(der []byte) []byte {
	der = slices.Clone(der)
	der[7]++ // the length of what is signed
	return der
}

func second[T any](_ T, err error) error { return err }
