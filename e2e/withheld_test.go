package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// A client that has a certificate and holds it back reads why, since its driver says nothing about it.
func TestClientThatHoldsItsCertificateBackReadsWhy(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, text []byte) { must.OK(t, os.WriteFile(at(name), text, 0o600)) }

	pss, err := pki.spaceCA.IssueRSAPSS(testpki.Client("app"))
	must.OK(t, err)
	write("pss.crt", pss.CertPEM)
	write("pss.key", pss.KeyPEM)

	issuer, err := pki.spaceCA.Pair()
	must.OK(t, err)
	write("ca.crt", pki.spaceCA.PEM())
	write("ca.key", issuer.KeyPEM)
	write("ext", []byte("extendedKeyUsage=clientAuth\nkeyUsage=critical,digitalSignature\n"))
	for _, args := range []string{
		"ecparam -name secp256k1 -genkey -noout -out k1.key",
		"req -new -key k1.key -subj /CN=app -out k1.csr",
		"x509 -req -in k1.csr -CA ca.crt -CAkey ca.key -days 1 -extfile ext -out k1.crt",
	} {
		command := exec.CommandContext(t.Context(), "openssl", strings.Fields(args)...)
		command.Dir = dir
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v: %s", args, err, output)
		}
	}
	for name, files := range map[string]string{
		"a key that is not there": at("none"),
		"an RSA-PSS key":          at("pss"),
		"a key on secp256k1":      at("k1"),
	} {
		result := p.psql(t, fmt.Sprintf("sslcert=%s.crt sslkey=%s.key", files, files), "-c", querySQL)
		if text, _ := spoken(result.Stderr); text != (told{"", "", invalidCertificate, "The client sent no certificate.", noCertificateHint}).shown() {
			t.Errorf("%s: psql shows %s", name, text)
		}
	}

	// pgx sends nothing that none of the named CAs has issued.
	stranger := filepath.Join(pki.dir, "stranger")
	_, err = pgx.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%s user=postgres dbname=postgres sslmode=verify-full sslrootcert=%s sslcert=%s.crt sslkey=%s.key",
		p.port(), pki.root("private"), stranger, stranger))
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || refused.Code != "28000" || refused.Detail != "The client sent no certificate." || refused.Hint != noCertificateHint {
		t.Errorf("pgx reads %v, %+v", err, refused)
	}
}
