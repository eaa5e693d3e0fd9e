package tlsconf

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// der gives the first PEM block's bytes.
func der(text []byte) []byte {
	block, _ := pem.Decode(text)
	return block.Bytes
}

func TestTrustNamesTheFileAndTheFault(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	other := testpki.MustCA(t, "Other CA")
	impostor := testpki.MustCA(t, "Space CA")
	leaf := space.MustIssue(t, testpki.Client("app"))
	authority := func(change func(*testpki.Template)) []byte {
		template := testpki.Authority("Odd CA")
		change(&template)
		return testpki.MustNewCA(t, template).PEM()
	}
	list := func(change func(*testpki.CRL)) []byte {
		var template testpki.CRL
		change(&template)
		return space.MustCRL(t, template)
	}
	extension := func(last int, critical bool) func(*testpki.CRL) {
		return func(c *testpki.CRL) {
			c.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, last}, Critical: critical, Value: []byte{0x30, 0}}}
		}
	}
	ca, crl := space.PEM(), list(func(*testpki.CRL) {})
	for _, row := range []struct {
		name     string
		cas, crl []byte
		want     string
	}{
		{"an empty CA file", []byte{}, nil, "ca.pem: the file is empty"},
		{"white space", []byte(" \r\n\n"), nil, "ca.pem: the file is empty"},
		{"no PEM", []byte("hello"), nil, "ca.pem: no PEM block; a file in DER can be converted"},
		{"DER", der(ca), nil, "ca.pem: no PEM block; a file in DER can be converted"},
		{"a leaf", leaf.CertPEM, nil, `ca.pem: certificate 1, "CN=app": it is not the certificate of a CA (basic constraints); use the CA`},
		{"a CA and a leaf", append(bytes.Clone(ca), leaf.CertPEM...), nil, `ca.pem: certificate 2, "CN=app": it is not the certificate of a CA`},
		{"a key", leaf.KeyPEM, nil, "ca.pem: there is a private key where certificates are expected; keep it in a separate file"},
		{"a list", crl, nil, "ca.pem: there is a revocation list where certificates are expected; it belongs in client_crl"},
		{"a request", bytes.ReplaceAll(ca, []byte("CERTIFICATE"), []byte("CERTIFICATE REQUEST")), nil, "the CA has to sign it first"},
		{"another block", bytes.ReplaceAll(ca, []byte("CERTIFICATE"), []byte("TRUSTED CERTIFICATE")), nil, `ca.pem: PEM block 1 has the type "TRUSTED CERTIFICATE" where a CERTIFICATE is expected`},
		{"nonsense in PEM", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hello")}), nil, "ca.pem: certificate 1 can't be read (x509: malformed certificate): it is damaged or was cut: copy the file again"},
		{"RSA 1024", authority(func(c *testpki.Template) { c.Key = testpki.RSA1024 }), nil, `ca.pem: certificate 1, "CN=Odd CA": its RSA key has 1024 bits, not 2048 to 4096; a CA with such a key can't be trusted`},
		{"SHA-1", authority(func(c *testpki.Template) { c.Signature = x509.ECDSAWithSHA1 }), nil, "it is signed with ECDSA-SHA1; SHA-256 or stronger is needed"},
		{"no keyCertSign", authority(func(c *testpki.Template) { c.KeyUsage = x509.KeyUsageCRLSign }), nil, "its key usage lacks keyCertSign, so certificates that it issues are not valid"},

		{"an empty list", ca, []byte{}, "crl.pem: the file is empty"},
		{"a certificate as a list", ca, ca, `crl.pem: PEM block 1 has the type "CERTIFICATE" where an X509 CRL is expected`},
		{"only a list of another CA", ca, other.MustCRL(t, testpki.CRL{}), `there are revocation lists, but none of the CA "CN=Space CA", whose certificates could then not be checked; add its list to client_crl`},
		{"a list of another CA of the name", ca, impostor.MustCRL(t, testpki.CRL{}), "the CA of that name in client_ca did not sign it"},
		{"a delta list", ca, list(extension(27, true)), `crl.pem: revocation list 1 of "CN=Space CA": it is a delta list (deltaCRLIndicator); use the full list`},
		{"an unknown critical extension", ca, list(extension(99, true)), "it has the unknown critical extension 2.5.29.99; issue it without"},
		{"a list signed with SHA-1", ca, list(func(c *testpki.CRL) { c.Signature = x509.ECDSAWithSHA1 }), "it is signed with ECDSA-SHA1"},
		{"bytes behind DER", ca, append(der(crl), 0), "crl.pem: there are bytes behind the revocation list"},
		{"a CA without a list", append(bytes.Clone(ca), other.PEM()...), crl, `there are revocation lists, but none of the CA "CN=Other CA", whose certificates could then not be checked; add its list to client_crl`},
	} {
		files := TrustFiles{CAs: []File{{"ca.pem", row.cas}}}
		if row.crl != nil {
			files.CRLs = []File{{"crl.pem", row.crl}}
		}
		trust, err := NewClientVerifier(files)
		if err == nil || trust != nil {
			t.Errorf("%s: accepted", row.name)
		} else if !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", row.name, err, row.want)
		}
	}
}

func TestListsThatSayLessThanTheySeemAreRefused(t *testing.T) {
	// crypto/x509 does not make this one.
	if _, err := checkList(&x509.RevocationList{}); err == nil || !strings.Contains(err.Error(), "it has no nextUpdate") {
		t.Errorf("without a nextUpdate: %v", err)
	}
	space := testpki.MustCA(t, "Space CA")
	entry := func(critical bool) []byte {
		other := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: critical, Value: []byte{0x30, 0}} // certificateIssuer
		list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now(), ReasonCode: 1, ExtraExtensions: []pkix.Extension{other}}}},
			space.Cert, space.Key)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	files := TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", entry(true)}}}
	if _, err := NewClientVerifier(files); err == nil || !strings.Contains(err.Error(), "its entry for serial 07 has the unknown critical extension 2.5.29.29") {
		t.Errorf("a critical extension of an entry: %v", err)
	}
	files.CRLs[0].Text = entry(false)
	mustTrust(t, files)
}

func TestTrustWithoutACAIsAnError(t *testing.T) {
	if _, err := NewClientVerifier(TrustFiles{}); err == nil || !strings.Contains(err.Error(), "no CA certificate is given") {
		t.Errorf("got %v", err)
	}
}

func TestAllFaultyFilesAreNamed(t *testing.T) {
	_, err := NewClientVerifier(TrustFiles{CAs: []File{{"one.pem", nil}, {"two.pem", []byte("x")}}})
	var first *FileError
	if err == nil || !strings.Contains(err.Error(), "one.pem: ") || !strings.Contains(err.Error(), "two.pem: ") || !errors.As(err, &first) || first.File != "one.pem" {
		t.Errorf("got %v", err)
	}
}

func TestBundlesHoldSeveralOfEach(t *testing.T) {
	old, fresh := testpki.MustCA(t, "Old CA"), testpki.MustCA(t, "New CA")
	bundle := bytes.Join([][]byte{[]byte("# the old one\r\n"), old.PEM(), []byte("subject=CN=New CA\n"), fresh.PEM(), old.PEM(), []byte("\n# end")}, nil)
	lists := append(old.MustCRL(t, testpki.CRL{Revoked: []*big.Int{big.NewInt(5)}}), fresh.MustCRL(t, testpki.CRL{})...)
	later := old.MustCRL(t, testpki.CRL{ThisUpdate: time.Now().Add(-time.Minute)})
	trust := mustTrust(t, TrustFiles{
		CAs:  []File{{"ca", bundle}, {"again", bytes.ReplaceAll(fresh.PEM(), []byte("\n"), []byte("\r\n"))}},
		CRLs: []File{{"crl", lists}, {"der", der(later)}},
	})
	if cas := trust.CAs(); len(cas) != 2 || cas[0].Subject != "CN=Old CA" || cas[1].Subject != "CN=New CA" ||
		!cas[0].NotAfter.Equal(old.Cert.NotAfter) || cas[0].Serial != FormatSerial(old.Cert.SerialNumber) {
		t.Errorf("CAs %+v", cas)
	}
	crls := trust.CRLs()
	if len(crls) != 3 || crls[0].Issuer != "CN=Old CA" || crls[0].Revoked != 0 || crls[1].Revoked != 1 || crls[2].Issuer != "CN=New CA" ||
		!crls[0].ThisUpdate.After(crls[1].ThisUpdate) || !crls[0].NextUpdate.After(time.Now()) {
		t.Errorf("CRLs %+v", crls)
	}
	for _, ca := range []*testpki.CA{old, fresh} {
		judged{ca.Cert.Subject.String(), ca.MustIssue(t, testpki.Client("app")).Chain, ok, ""}.check(t, trust, time.Now())
	}
}

// A file that is being written must never be taken for a smaller file.
func TestTrustCutAnywhereIsAnErrorOrTheSame(t *testing.T) {
	one, two := testpki.MustCA(t, "One"), testpki.MustCA(t, "Two")
	cas := append(append([]byte("# one\n"), one.PEM()...), two.PEM()...)
	crls := append(one.MustCRL(t, testpki.CRL{}), two.MustCRL(t, testpki.CRL{})...)
	secondCA := len(cas) - len(two.PEM())
	for cut := range cas {
		trust, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", cas[:cut]}}})
		switch {
		case err != nil:
		case cut == secondCA || cut == secondCA-1: // exactly between two certificates: nothing shows the cut
		case len(trust.CAs()) != 2:
			t.Errorf("cut at byte %d of %d: %d CAs, and no error", cut, len(cas), len(trust.CAs()))
		}
	}
	list := der(crls)
	for cut := range crls {
		// Even between two lists: the CA whose list is gone has none.
		if _, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", cas}}, CRLs: []File{{"crl", crls[:cut]}}}); err == nil && cut < len(crls)-1 {
			t.Errorf("lists cut at byte %d of %d: no error", cut, len(crls))
		}
	}
	for cut := range list {
		if _, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", one.PEM()}}, CRLs: []File{{"crl", list[:cut]}}}); err == nil {
			t.Errorf("DER cut at byte %d of %d: no error", cut, len(list))
		}
	}
}

func TestRevocation(t *testing.T) {
	now := time.Now()
	hour, day := time.Hour, 24*time.Hour
	space := testpki.MustCA(t, "Space CA")
	below := space.MustIntermediate(t, testpki.Authority("Intermediate"))
	leaf := space.MustIssue(t, testpki.Client("app"))
	deep := below.MustIssue(t, testpki.Client("deep"))
	both := append(space.PEM(), below.PEM()...)

	type crl = testpki.CRL
	of := func(ca *testpki.CA, list crl, revoked ...*testpki.Pair) []byte {
		for _, pair := range revoked {
			list.Revoked = append(list.Revoked, pair.Cert.SerialNumber)
		}
		return ca.MustCRL(t, list)
	}
	belowPair, err := below.Pair()
	if err != nil {
		t.Fatal(err)
	}
	stale := crl{ThisUpdate: now.Add(-2 * day), NextUpdate: now.Add(-hour)}
	early := crl{ThisUpdate: now.Add(hour), NextUpdate: now.Add(day)}
	later := crl{ThisUpdate: now.Add(2 * hour), NextUpdate: now.Add(day)}
	earlier := crl{ThisUpdate: now.Add(-2 * hour), NextUpdate: now.Add(day)}

	for _, row := range []struct {
		judged
		cas     []byte
		lists   [][]byte
		serials []*big.Int
	}{
		{judged{"a list without it", leaf.Chain, ok, ""}, space.PEM(), [][]byte{of(space, crl{})}, nil},
		{judged{"on the list", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), [][]byte{of(space, crl{}, leaf)}, nil},
		{judged{"another one is on the list", leaf.Chain, ok, ""}, space.PEM(), [][]byte{of(space, crl{}, deep)}, nil},
		{judged{"a stale list", leaf.Chain, refusal.RevocationUnknown, `can't be checked: the revocation list of "CN=Space CA" is out of date since ` + formatTime(stale.NextUpdate) + "."}, space.PEM(), [][]byte{of(space, stale)}, nil},
		{judged{"on a stale list", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), [][]byte{of(space, stale, leaf)}, nil},
		{judged{"a list of the future", leaf.Chain, ok, ""}, space.PEM(), [][]byte{of(space, early)}, nil},
		{judged{"on a list of the future", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), [][]byte{of(space, early, leaf)}, nil},
		{judged{"a stale list and one of the future", leaf.Chain, ok, ""}, space.PEM(), [][]byte{of(space, stale), of(space, early)}, nil},
		{judged{"on a stale list, not on that of the future", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), [][]byte{of(space, stale, leaf), of(space, early)}, nil},
		{judged{"on the list in force, not on that of the future", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), [][]byte{of(space, early), of(space, crl{}, leaf)}, nil},
		{judged{"on the older of two lists of the future", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), [][]byte{of(space, early, leaf), of(space, later)}, nil},
		{judged{"on a list that the one in force replaced, beside one of the future", leaf.Chain, ok, ""}, space.PEM(), [][]byte{of(space, earlier, leaf), of(space, crl{}), of(space, early)}, nil},
		{judged{"a stale list and a current one", leaf.Chain, ok, ""}, space.PEM(), [][]byte{of(space, stale, leaf), of(space, crl{})}, nil},
		{judged{"the newest list counts", leaf.Chain, refusal.CertificateRevoked, ""}, space.PEM(), [][]byte{of(space, crl{Number: 2}, leaf), of(space, earlier)}, nil},
		{judged{"of one second, the higher number counts", leaf.Chain, refusal.CertificateRevoked, ""}, space.PEM(),
			[][]byte{of(space, crl{ThisUpdate: now.Add(-hour), Number: 2}, leaf), of(space, crl{ThisUpdate: now.Add(-hour), Number: 3}, leaf), of(space, crl{ThisUpdate: now.Add(-hour), Number: 1})}, nil},
		{judged{"on a list of the future, beside one in force", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), [][]byte{of(space, early, leaf), of(space, crl{})}, nil},

		{judged{"by its serial", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), nil, []*big.Int{leaf.Cert.SerialNumber}},
		{judged{"by its serial, beside a list", leaf.Chain, refusal.CertificateRevoked, " has been revoked."}, space.PEM(), [][]byte{of(space, crl{})}, []*big.Int{leaf.Cert.SerialNumber}},
		{judged{"another serial", leaf.Chain, ok, ""}, space.PEM(), nil, []*big.Int{deep.Cert.SerialNumber}},
		{judged{"the root's serial", leaf.Chain, ok, ""}, space.PEM(), nil, []*big.Int{space.Cert.SerialNumber}},
		{judged{"the intermediate's serial", deep.Chain, refusal.CertificateRevoked, `was issued by the CA "CN=Intermediate", which has been revoked.`}, space.PEM(), nil, []*big.Int{below.Cert.SerialNumber}},
		{judged{"the intermediate's serial, which is configured", deep.Chain[:1], refusal.CertificateRevoked, `which has been revoked.`}, both, nil, []*big.Int{below.Cert.SerialNumber}},

		{judged{"both issuers have lists", deep.Chain, ok, ""}, both, [][]byte{of(space, crl{}), of(below, crl{})}, nil},
		{judged{"the intermediate need not be sent", deep.Chain[:1], ok, ""}, both, [][]byte{of(space, crl{}), of(below, crl{})}, nil},
		{judged{"the intermediate is on the root's list", deep.Chain, refusal.CertificateRevoked, `was issued by the CA "CN=Intermediate", which has been revoked.`}, both, [][]byte{of(space, crl{}, belowPair), of(below, crl{})}, nil},
		{judged{"the leaf is on the intermediate's list", deep.Chain, refusal.CertificateRevoked, " has been revoked."}, both, [][]byte{of(space, crl{}), of(below, crl{}, deep)}, nil},
		{judged{"the leaf's serial on the list of another CA", deep.Chain, ok, ""}, both, [][]byte{of(space, crl{}, deep), of(below, crl{})}, nil},
		{judged{"the root's list is stale", deep.Chain, refusal.RevocationUnknown, `the revocation list of "CN=Space CA" is out of date since ` + formatTime(stale.NextUpdate) + "."}, both, [][]byte{of(space, stale), of(below, crl{})}, nil},
		{judged{"a known revocation goes before a stale list", deep.Chain, refusal.CertificateRevoked, ""}, both, [][]byte{of(space, crl{}, belowPair), of(below, stale)}, nil},
		{judged{"an intermediate without a list is sent", deep.Chain, refusal.RevocationUnknown, `can't be checked: there is no revocation list of "CN=Intermediate".`}, space.PEM(), [][]byte{of(space, crl{})}, nil},
	} {
		files := TrustFiles{CAs: []File{{"ca", row.cas}}, Revoked: row.serials}
		for _, list := range row.lists {
			files.CRLs = append(files.CRLs, File{"crl", list})
		}
		row.check(t, mustTrust(t, files), now)
	}
}

func TestListEndsWithItsNextUpdate(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	space := testpki.MustCA(t, "Space CA")
	trust := mustTrust(t, TrustFiles{
		CAs:  []File{{"ca", space.PEM()}},
		CRLs: []File{{"crl", space.MustCRL(t, testpki.CRL{ThisUpdate: now.Add(-time.Minute), NextUpdate: now})}},
	})
	chain := space.MustIssue(t, testpki.Client("app")).Chain
	for offset, want := range map[time.Duration]refusal.Reason{
		-61 * time.Second: ok, // signed by a clock that is ahead
		-60 * time.Second: ok,
		-time.Second:      ok,
		0:                 ok,
		time.Second:       refusal.RevocationUnknown,
	} {
		judged{offset.String(), chain, want, ""}.check(t, trust, now.Add(offset))
	}
}

// A CA that is renewed with the same key keeps its certificates and its list; a revocation of its old certificate by
// the root above does not reach the new one.
func TestRenewedIntermediateKeepsWhatItIssued(t *testing.T) {
	root := testpki.MustCA(t, "Root")
	template := testpki.Authority("Space CA")
	old := root.MustIntermediate(t, template)
	template.Signer = old.Key
	renewed := root.MustIntermediate(t, template)
	leaf := old.MustIssue(t, testpki.Client("app"))
	trust := mustTrust(t, TrustFiles{
		CAs: []File{{"ca", testpki.CertPEM(root.Cert, old.Cert, renewed.Cert)}},
		CRLs: []File{{"root", root.MustCRL(t, testpki.CRL{Revoked: []*big.Int{old.Cert.SerialNumber}})},
			{"space", renewed.MustCRL(t, testpki.CRL{})}},
	})
	judged{"leaf", leaf.Chain[:1], ok, ""}.check(t, trust, time.Now())
}

func TestCAsThatIssuedOneAnotherNeedARoot(t *testing.T) {
	a, b := testpki.MustCA(t, "A"), testpki.MustCA(t, "B")
	cross := func(by, of *testpki.CA, name string) *x509.Certificate {
		template := testpki.Authority(name)
		template.Signer = of.Key
		return by.MustIntermediate(t, template).Cert
	}
	bundle := testpki.CertPEM(cross(a, b, "B"), cross(b, a, "A"))
	if _, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", bundle}}}); err == nil || !strings.Contains(err.Error(), "add the root CA") {
		t.Errorf("got %v", err)
	}
	mustTrust(t, TrustFiles{CAs: []File{{"ca", append(a.PEM(), bundle...)}}})
}
