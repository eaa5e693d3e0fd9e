package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/testkit/testpki"
)

// checked is what check says of the client CAs and their lists.
func checked(t *testing.T, space *testpki.CA, lists map[string][]byte, now time.Time) string {
	t.Helper()
	dir := t.TempDir()
	pair := space.MustIssue(t, testpki.Server("db.example.com"))
	names := ""
	files := map[string][]byte{"ca.pem": space.PEM(), "server.crt": pair.CertPEM, "server.key": pair.KeyPEM}
	for name, text := range lists {
		files[name] = text
		names += name + ", "
	}
	files["policy.yaml"] = fmt.Appendf(nil, "client_ca: [ca.pem]\nclient_crl: [%s]\ncertificates: [{cert: server.crt, key: server.key}]\nip_rules: []\n", strings.TrimSuffix(names, ", "))
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	snapshot, err := policy.Check(t.Context(), dir, policy.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	summarizeTrust(w, snapshot, now)
	summarizeCertificates(w, snapshot, now)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestCheckWarnsOfAListThatIsNotInForce(t *testing.T) {
	now := time.Now()
	space := testpki.MustCA(t, "Space CA")
	list := func(from time.Duration) []byte {
		return space.MustCRL(t, testpki.CRL{ThisUpdate: now.Add(from), NextUpdate: now.Add(48 * time.Hour)})
	}
	const warning = "NOT IN FORCE before "
	if text := checked(t, space, map[string][]byte{"crl.pem": list(-time.Hour)}, now); strings.Contains(text, warning) {
		t.Errorf("a list in force is warned of:\n%s", text)
	}
	text := checked(t, space, map[string][]byte{"crl.pem": list(time.Hour), "old.pem": list(-time.Hour)}, now)
	if strings.Count(text, warning) != 1 || !strings.Contains(text, warning+now.Add(time.Hour).UTC().Format(time.DateTime)) {
		t.Errorf("want one warning of the list of the future:\n%s", text)
	}
}

func TestCheckShowsListsOfCAsBelow(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	below := space.MustIntermediate(t, testpki.Authority("Below"))
	text := checked(t, space, map[string][]byte{"crl.pem": space.MustCRL(t, testpki.CRL{}), "below.pem": below.MustCRL(t, testpki.CRL{})}, time.Now())
	if !strings.Contains(text, "of CN=Below, 0 revoked, for clients that send this CA") || !strings.Contains(text, "of CN=Space CA, 0 revoked, valid until") {
		t.Errorf("got\n%s", text)
	}
}

// What has expired is refused or left out by a process that runs; check, which is asked before one does, must say so.
func TestCheckWarnsOfWhatHasExpired(t *testing.T) {
	now := time.Now()
	space := testpki.MustCA(t, "Space CA")
	end := space.Cert.NotAfter
	for name, row := range map[string]struct {
		at       time.Time
		lists    map[string][]byte
		warnings []string
	}{
		"nothing": {now, map[string][]byte{"crl.pem": space.MustCRL(t, testpki.CRL{NextUpdate: now.Add(48 * time.Hour)})}, nil},
		"a revocation list": {now.Add(12 * time.Hour), map[string][]byte{"crl.pem": space.MustCRL(t, testpki.CRL{NextUpdate: now.Add(time.Hour)})},
			[]string{"every client of CN=Space CA is refused"}},
		"the CA, and all that it issued": {end.Add(time.Second), nil, []string{"every client CA has EXPIRED", "this certificate has EXPIRED: a running proxy leaves it out"}},
	} {
		text := checked(t, space, row.lists, row.at)
		if strings.Count(text, "WARNING") != len(row.warnings) {
			t.Errorf("%s: want %d warnings:\n%s", name, len(row.warnings), text)
		}
		for _, warning := range row.warnings {
			if !strings.Contains(text, warning) {
				t.Errorf("%s: want %q:\n%s", name, warning, text)
			}
		}
	}
}

// Whoever has the key of a client CA lets in anybody. Here it is found under any name, in every format, and behind a link.
func TestCheckWarnsOfTheKeyOfAClientCA(t *testing.T) {
	space, other := testpki.MustCA(t, "Space CA"), testpki.MustCA(t, "Other CA")
	der := func(ca *testpki.CA) []byte {
		key, err := x509.MarshalPKCS8PrivateKey(ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	pemOf := func(ca *testpki.CA) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der(ca)})
	}
	for name, row := range map[string]struct {
		file  string
		text  []byte
		warns bool
	}{
		"the key":                  {"space-ca.key", pemOf(space), true},
		"with its certificate":     {"ca-and-key.pem", append(space.PEM(), pemOf(space)...), true},
		"in DER":                   {"ca.der", der(space), true},
		"in a directory":           {"old/backup", pemOf(space), true},
		"of another CA":            {"other.key", pemOf(other), false},
		"the certificate alone":    {"copy.pem", space.PEM(), false},
		"no PEM":                   {"notes.txt", []byte("-----BEGIN PRIVATE KEY-----\nx\n"), false},
		"a volume's own directory": {"..2026_11_28/ca.key", pemOf(space), false},
	} {
		dir := t.TempDir()
		pair := space.MustIssue(t, testpki.Server("db.example.com"))
		for file, text := range map[string][]byte{
			"ca.pem": space.PEM(), "server.crt": pair.CertPEM, "server.key": pair.KeyPEM, row.file: row.text,
			"policy.yaml": []byte("client_ca: [ca.pem]\ncertificates: [{cert: server.crt, key: server.key}]\nip_rules: []\n"),
		} {
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		link := filepath.Join(t.TempDir(), "policy")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		snapshot, err := policy.Check(t.Context(), link, policy.Builder{})
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		summarizeKeys(w, snapshot, link)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		want := filepath.Join(dir, row.file) + " has the private key of the client CA CN=Space CA"
		if got := strings.Contains(text.String(), want); got != row.warns || strings.Count(text.String(), "WARNING") > 1 {
			t.Errorf("%s: %q", name, text.String())
		}
	}
}
