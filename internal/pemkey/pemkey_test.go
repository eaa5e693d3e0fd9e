package pemkey_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"pgmtls-proxy/internal/pemkey"
	"pgmtls-proxy/internal/testkit/testpki"
)

func blocksOf(text []byte) (blocks []*pem.Block) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return blocks
		}
		blocks, text = append(blocks, block), rest
	}
}

func block(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}

// keys are one of each kind and form in which openssl writes them.
func keys(tb testing.TB) map[string][]byte {
	tb.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		tb.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			tb.Fatal(err)
		}
		return block("PRIVATE KEY", der)
	}
	weak := testpki.Server("db.example")
	weak.Key = testpki.RSA1024
	pair := testpki.MustCA(tb, "CA").MustIssue(tb, weak)
	key, err := pemkey.Parse(blocksOf(pair.KeyPEM))
	if err != nil {
		tb.Fatal(err)
	}
	return map[string][]byte{
		"SEC 1":                   block("EC PRIVATE KEY", sec1),
		"SEC 1 behind parameters": append(block("EC PARAMETERS", []byte{6, 1, 1}), block("EC PRIVATE KEY", sec1)...),
		"PKCS #8 ECDSA":           pkcs8(ec),
		"PKCS #8 Ed25519":         pkcs8(ed),
		"PKCS #8 RSA":             pkcs8(key),
		"PKCS #1":                 block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))),
	}
}

func TestKeysAreReadInEveryUsualForm(t *testing.T) {
	for form, text := range keys(t) {
		if key, err := pemkey.Parse(blocksOf(text)); err != nil || !pemkey.Belongs(key, key.Public()) {
			t.Errorf("%s: %v, %v", form, key, err)
		}
	}
}

func TestWhatIsNoUsableKeyIsRefusedWithItsRemedy(t *testing.T) {
	good := keys(t)["PKCS #8 ECDSA"]
	leaf := testpki.MustCA(t, "CA").MustIssue(t, testpki.Client("app"))
	for _, row := range []struct {
		name, want string
		text       []byte
	}{
		{"nothing", "there is no private key in it", nil},
		{"parameters only", "there is no private key in it", block("EC PARAMETERS", nil)},
		{"encrypted", "the program can't ask for its password; decrypt it with openssl pkey -in ENCRYPTED.key -out PLAIN.key and chmod 0600 PLAIN.key", testpki.EncryptedPKCS8},
		{"encrypted of old", "the private key is encrypted", testpki.EncryptedLegacy},
		{"OpenSSH", "is in OpenSSH's format; make one with openssl genpkey", block("OPENSSH PRIVATE KEY", nil)},
		{"a certificate", "there is a certificate where the private key is expected; give", leaf.CertPEM},
		{"a key and a certificate", "take the certificate out of the key's file", append(bytes.Clone(good), leaf.CertPEM...)},
		{"a public key", `"PUBLIC KEY" where the private key is expected; make one with openssl genpkey`, block("PUBLIC KEY", nil)},
		{"a hostile type", `type "A\u009b2J\u202e"`, block("A\u009b2J\u202e", nil)},
		{"two keys", "several private keys; keep the one", append(bytes.Clone(good), good...)},
		{"a damaged key", "can't be read (asn1: structure error", block("PRIVATE KEY", []byte("hello"))},
		{"a damaged SEC 1 key", "copy the file again", block("EC PRIVATE KEY", []byte("hello"))},
		{"a damaged PKCS #1 key", "copy the file again", block("RSA PRIVATE KEY", []byte("hello"))},
	} {
		key, err := pemkey.Parse(blocksOf(row.text))
		if err == nil || key != nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, %v, want %s", row.name, key, err, row.want)
		}
	}
}

func TestOneRuleSaysWhichKeysAreStrongEnough(t *testing.T) {
	length := func(bits uint) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int), int(bits)-1, 1), E: 65537}
	}
	curve := func(c elliptic.Curve) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: c} }
	for _, row := range []struct {
		name, want string
		key        any
	}{
		{"RSA 2047", "RSA key has 2047 bits, not 2048 to 4096", length(2047)},
		{"RSA 2048", "", length(2048)},
		{"RSA 4096", "", length(4096)},
		{"RSA 4097", "RSA key has 4097 bits, not 2048 to 4096", length(4097)},
		{"P-224", "ECDSA key is on the curve P-224, not P-256, P-384 or P-521", curve(elliptic.P224())},
		{"P-256", "", curve(elliptic.P256())},
		{"P-384", "", curve(elliptic.P384())},
		{"P-521", "", curve(elliptic.P521())},
		{"Ed25519", "", ed25519.PublicKey(make([]byte, ed25519.PublicKeySize))},
		{"nothing", "key is not of the kind ECDSA, Ed25519 or RSA", nil},
		{"X25519", "key is not of the kind ECDSA, Ed25519 or RSA", make([]byte, 32)},
	} {
		got := ""
		if err := pemkey.CheckStrength(row.key); err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range keys(f) {
		b := blocksOf(text)
		f.Add(b[len(b)-1].Type, b[len(b)-1].Bytes)
	}
	f.Add("PUBLIC KEY\u009b", []byte{0x30, 0x03})
	f.Fuzz(func(t *testing.T, kind string, content []byte) {
		key, err := pemkey.Parse([]*pem.Block{{Type: kind, Bytes: content}})
		if (key == nil) == (err == nil) {
			t.Fatalf("key %v and error %v", key, err)
		}
	})
}
