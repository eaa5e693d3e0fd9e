package authority

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/testpki"
)

// Here other implementations judge: OpenSSL, which libpq uses, and Java's, which the JDBC driver uses.

// files writes texts into a directory of the test's own, which the command runs in.
func files(t *testing.T, texts map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run gives what the command prints, and whether it succeeded.
func run(t *testing.T, dir, program string, args ...string) (output string, ok bool) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("there is no %s here", program)
	}
	command := exec.CommandContext(t.Context(), program, args...)
	command.Dir = dir
	text, err := command.CombinedOutput()
	return string(text), err == nil
}

// mustRun wants success, and each of the texts in the output.
func mustRun(t *testing.T, dir string, want []string, program string, args ...string) {
	t.Helper()
	output, ok := run(t, dir, program, args...)
	if !ok {
		t.Fatalf("%s %s: %s", program, strings.Join(args, " "), output)
	}
	for _, text := range want {
		if !strings.Contains(output, text) {
			t.Errorf("%s %s: no %q in %s", program, args[0], text, output)
		}
	}
}

func TestOpenSSLVerifiesWhatIsIssued(t *testing.T) {
	certPEM, keyPEM := outside(t, testpki.Authority("intermediate"))
	intermediate, err := ParseCA(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	for name, ca := range map[string]*CA{"own": newCA(t), "intermediate": intermediate} {
		t.Run(name, func(t *testing.T) {
			request, _ := clientRequest(t)
			client, err := ca.IssueClient(request)
			if err != nil {
				t.Fatal(err)
			}
			server, err := ca.IssueServer(serverRequest(t, "db.example", "192.0.2.1"))
			if err != nil {
				t.Fatal(err)
			}
			revoked, err := ca.IssueClient(request)
			if err != nil {
				t.Fatal(err)
			}
			crl, err := ca.SignCRL(CRL{Number: 3, ThisUpdate: start, NextUpdate: start.AddDate(0, 0, 30), Entries: []Revoked{{revoked.Serial, start}}})
			if err != nil {
				t.Fatal(err)
			}
			// client.crt's own chain is what a peer sends; -partial_chain trusts the CA as the proxy does.
			dir := files(t, map[string][]byte{
				"ca.pem": ca.CertificatePEM(), "chain.pem": ca.ChainPEM(), "crl.pem": crl,
				"client.crt": client.CertificatePEM, "server.crt": server.CertificatePEM, "revoked.crt": revoked.CertificatePEM,
			})
			mustRun(t, dir, []string{"client.crt: OK"}, "openssl", "verify", "-x509_strict", "-CAfile", "chain.pem", "-untrusted", "client.crt", "-purpose", "sslclient", "client.crt")
			mustRun(t, dir, []string{"client.crt: OK"}, "openssl", "verify", "-x509_strict", "-partial_chain", "-CAfile", "ca.pem", "-crl_check", "-CRLfile", "crl.pem", "-purpose", "sslclient", "client.crt")
			for _, host := range [][]string{{"-verify_hostname", "db.example"}, {"-verify_ip", "192.0.2.1"}} {
				args := append([]string{"verify", "-x509_strict", "-CAfile", "chain.pem", "-untrusted", "server.crt", "-purpose", "sslserver"}, host...)
				mustRun(t, dir, []string{"server.crt: OK"}, "openssl", append(args, "server.crt")...)
			}
			mustRun(t, dir, []string{"CRL Number", "verify OK"}, "openssl", "crl", "-in", "crl.pem", "-CAfile", "ca.pem", "-noout", "-text")
			for _, bad := range []struct{ want, file, purpose string }{
				{"certificate revoked", "revoked.crt", "sslclient"},
				{"unsuitable certificate purpose", "client.crt", "sslserver"},
				{"unsuitable certificate purpose", "server.crt", "sslclient"},
			} {
				output, ok := run(t, dir, "openssl", "verify", "-partial_chain", "-CAfile", "ca.pem", "-crl_check", "-CRLfile", "crl.pem", "-purpose", bad.purpose, bad.file)
				if ok || !strings.Contains(strings.ReplaceAll(output, "unsupported", "unsuitable"), bad.want) {
					t.Errorf("%s as %s: %s", bad.file, bad.purpose, output)
				}
			}
			mustRun(t, dir, []string{"serial=" + strings.ToUpper(strings.ReplaceAll(client.Serial, ":", "")), "URI:urn:pgmtls:database:7f1d", "TLS Web Client Authentication"},
				"openssl", "x509", "-in", "client.crt", "-noout", "-serial", "-ext", "subjectAltName,extendedKeyUsage")
		})
	}
}

func TestOpenSSLRequestsAreRead(t *testing.T) {
	for _, key := range [][]string{{"ec", "-pkeyopt", "ec_paramgen_curve:P-256"}, {"rsa:3072"}, {"ed25519"}} {
		dir := t.TempDir()
		mustRun(t, dir, nil, "openssl", append([]string{"req", "-new", "-nodes", "-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=anything", "-newkey"}, key...)...)
		text, err := os.ReadFile(filepath.Join(dir, "client.csr"))
		if err != nil {
			t.Fatal(err)
		}
		public, err := ParseRequest(text)
		if err != nil {
			t.Fatal(err)
		}
		request, _ := clientRequest(t)
		request.PublicKey = public
		issued, err := newCA(t).IssueClient(request)
		if err != nil {
			t.Fatal(err)
		}
		keyPEM, err := os.ReadFile(filepath.Join(dir, "client.key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := MatchesKey(issued.CertificatePEM, keyPEM); err != nil {
			t.Errorf("%s: %v", key[0], err)
		}
	}
}

// Operators bring what openssl wrote, in whichever of its forms.
func TestOpenSSLKeysOfEveryFormAreRead(t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"sec1.key":  {"ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1.key"}, // with its EC PARAMETERS
		"pkcs1.key": {"genrsa", "-traditional", "-out", "pkcs1.key", "2048"},
		"pkcs8.key": {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "pkcs8.key"},
	} {
		mustRun(t, dir, nil, "openssl", args...)
		mustRun(t, dir, nil, "openssl", "req", "-x509", "-new", "-key", name, "-subj", "/CN=operator's", "-days", "30", "-out", "ca.pem",
			"-addext", "keyUsage=critical,keyCertSign,cRLSign")
		certPEM, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		keyPEM, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		ca, err := ParseCA(certPEM, keyPEM)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if block, _ := pem.Decode(ca.KeyPEM()); block.Type != "PRIVATE KEY" {
			t.Errorf("%s is kept as %s", name, block.Type)
		}
	}
}

func TestKeysForJDBCAreReadByOpenSSL(t *testing.T) {
	_, keyPEM, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := EncodePK8(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	dir := files(t, map[string][]byte{"client.pk8": der})
	output, ok := run(t, dir, "openssl", "pkcs8", "-inform", "DER", "-nocrypt", "-in", "client.pk8")
	if !ok || output != string(keyPEM) {
		t.Error("openssl reads another key than was written")
	}
	if _, err := EncodePK8(newCA(t).CertificatePEM()); err == nil {
		t.Error("a certificate was encoded as a key")
	}
}

// p12 makes a file of an intermediate's certificate, with the root beside it.
func p12(t *testing.T) (file []byte, leaf *x509.Certificate) {
	t.Helper()
	certPEM, caKeyPEM := outside(t, testpki.Authority("intermediate"))
	ca, err := ParseCA(certPEM, caKeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	request, keyPEM := clientRequest(t)
	issued, err := ca.IssueClient(request)
	if err != nil {
		t.Fatal(err)
	}
	file, err = EncodeP12(P12{CertificatePEM: issued.CertificatePEM, KeyPEM: keyPEM, CAPEM: ca.ChainPEM(), Password: "pass \"word\""})
	if err != nil {
		t.Fatal(err)
	}
	return file, parse(t, issued.CertificatePEM)[0]
}

func TestPKCS12IsReadByOpenSSL(t *testing.T) {
	file, leaf := p12(t)
	dir := files(t, map[string][]byte{"client.p12": file, "password": []byte("pass \"word\"\n"), "wrong": []byte("password\n")})
	mustRun(t, dir, []string{"PBES2", "AES-256-CBC", "hmacWithSHA256", "MAC: sha256, Iteration 100000"}, "openssl", "pkcs12", "-in", "client.p12", "-passin", "file:password", "-info", "-noout")
	output, ok := run(t, dir, "openssl", "pkcs12", "-in", "client.p12", "-passin", "file:password", "-nodes")
	if !ok {
		t.Fatal(output)
	}
	if count := strings.Count(output, "-----BEGIN CERTIFICATE-----"); count != 3 {
		t.Errorf("%d certificates, want the leaf, the intermediate and the root once each", count)
	}
	if !bytes.Contains([]byte(output), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})) {
		t.Error("the leaf is not in the file")
	}
	if !strings.Contains(output, "friendlyName: user") {
		t.Errorf("the key has no name, or another one: %s", output)
	}
	if output, ok := run(t, dir, "openssl", "pkcs12", "-in", "client.p12", "-passin", "file:wrong", "-nodes"); ok {
		t.Errorf("a wrong password opens the file: %s", output)
	}
}

// What nameKey can't read it refuses, wherever the file ends.
func TestKeyIsNamedInAWholeFileOnly(t *testing.T) {
	file, _ := p12(t)
	for length := range file {
		if _, err := nameKey(file[:length], "user", "pass \"word\""); err == nil {
			t.Fatalf("%d of %d bytes are taken for a file", length, len(file))
		}
	}
	if _, err := nameKey(append(bytes.Clone(file), 0), "user", "pass \"word\""); err == nil {
		t.Error("a byte behind the file is taken for a part of it")
	}
}

func TestPKCS12IsReadByJava(t *testing.T) {
	file, leaf := p12(t)
	dir := files(t, map[string][]byte{"client.p12": file})
	mustRun(t, dir, []string{"Alias name: user\n", "PrivateKeyEntry", "Certificate chain length: 3", "URIName: urn:pgmtls:database:7f1d", leaf.SerialNumber.Text(16)},
		"keytool", "-J-Duser.language=en", "-list", "-v", "-storetype", "PKCS12", "-keystore", "client.p12", "-storepass", "pass \"word\"")
}

// Java, and so pgjdbc, follows issuers as far as the file has them, and sends nothing if the last one is not named by the
// proxy, which names the CA and the one above it.
func TestNothingAboveTheIssuerOfTheCAIsInAChain(t *testing.T) {
	root := testpki.MustCA(t, "Root")
	upper := root.MustIntermediate(t, testpki.Authority("Upper"))
	lower := upper.MustIntermediate(t, testpki.Authority("Lower"))
	pair, err := lower.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ParseCA(slices.Concat(lower.PEM(), upper.PEM(), root.PEM()), pair.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	request, keyPEM := clientRequest(t)
	issued, err := ca.IssueClient(request)
	if err != nil {
		t.Fatal(err)
	}
	presented, err := ClientChain(issued.CertificatePEM)
	if err != nil {
		t.Fatal(err)
	}
	if certs := parse(t, presented); len(certs) != 2 || !certs[1].Equal(lower.Cert) {
		t.Errorf("the chain has %d certificates, and not the CA alone above the client's", len(certs))
	}
	file, err := EncodeP12(P12{CertificatePEM: presented, KeyPEM: keyPEM, CAPEM: ca.ChainPEM(), Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	dir := files(t, map[string][]byte{"client.p12": file})
	output, ok := run(t, dir, "openssl", "pkcs12", "-in", "client.p12", "-passin", "pass:p", "-nokeys")
	if !ok || strings.Count(output, "BEGIN CERTIFICATE") != 3 || strings.Contains(output, "subject=CN = Upper") || !strings.Contains(output, "subject=CN = Root") {
		t.Errorf("the file has %s", output)
	}
	// One of the control plane's own CA has nothing above it.
	own, err := newCA(t).IssueClient(request)
	if err != nil {
		t.Fatal(err)
	}
	if presented, err := ClientChain(own.CertificatePEM); err != nil || string(presented) != string(own.CertificatePEM) {
		t.Errorf("got %s, %v", presented, err)
	}
	_, err = ClientChain(keyPEM)
	wantError(t, err, "private key")
}

func TestBadPKCS12IsRefused(t *testing.T) {
	request, keyPEM := clientRequest(t)
	issued, err := newCA(t).IssueClient(request)
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		file P12
		want string
	}{
		{P12{CertificatePEM: issued.CertificatePEM, KeyPEM: keyPEM}, "needs a password"},
		{P12{CertificatePEM: issued.CertificatePEM, KeyPEM: keyPEM, Password: "wörd"}, "printable ASCII"},
		{P12{CertificatePEM: issued.CertificatePEM, KeyPEM: otherKey, Password: "p"}, "does not belong"},
		{P12{CertificatePEM: keyPEM, KeyPEM: keyPEM, Password: "p"}, "the certificate:"},
		{P12{CertificatePEM: issued.CertificatePEM, KeyPEM: nil, Password: "p"}, "the key: it is empty"},
		{P12{CertificatePEM: issued.CertificatePEM, KeyPEM: keyPEM, CAPEM: []byte("x"), Password: "p"}, "the CAs:"},
	} {
		_, err := EncodeP12(test.file)
		wantError(t, err, test.want)
	}
}

func TestKeyOfAnotherCertificateIsTold(t *testing.T) {
	request, _ := clientRequest(t)
	issued, err := newCA(t).IssueClient(request)
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, MatchesKey(issued.CertificatePEM, otherKey), "does not belong to the certificate")
	wantError(t, MatchesKey(otherKey, otherKey), "the certificate:")
	wantError(t, MatchesKey(issued.CertificatePEM, issued.CertificatePEM), "the key:")
}
