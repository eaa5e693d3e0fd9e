package tlsconf

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// tlv encodes a value in DER; the parts of a constructed one follow one another.
func tlv(tag byte, parts ...[]byte) []byte {
	value := bytes.Join(parts, nil)
	out, err := asn1.Marshal(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 31), IsCompound: tag&32 != 0, Bytes: value})
	if err != nil {
		panic(err)
	}
	return out
}

func uri(text string) []byte { return tlv(0x86, []byte(text)) }

// point is a DistributionPointName with full names.
func point(names ...[]byte) []byte { return tlv(0xa0, tlv(0xa0, names...)) }

var yes = []byte{0xff}

// idp is the extension of a list.
func idp(fields ...[]byte) pkix.Extension {
	return pkix.Extension{Id: oidDistribution, Critical: true, Value: tlv(0x30, fields...)}
}

// cdp is the extension of a certificate: each point is the content of a DistributionPoint.
func cdp(points ...[]byte) pkix.Extension {
	var list [][]byte
	for _, p := range points {
		list = append(list, tlv(0x30, p))
	}
	return pkix.Extension{Id: oidPoints, Value: tlv(0x30, list...)}
}

func TestListsThatAreNotCompleteAreRefusedByTheNameOfTheFlag(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	url := point(uri("http://crl.example/space.crl"))
	for name, row := range map[string]struct {
		extension pkix.Extension
		want      string
	}{
		"indirect":            {idp(tlv(0x84, yes)), "indirectCRL"},
		"indirect, with more": {idp(url, tlv(0x81, yes), tlv(0x84, yes)), "indirectCRL"},
		"some reasons":        {idp(tlv(0x83, []byte{1, 0x60})), "onlySomeReasons"},
		"no reasons":          {idp(tlv(0x83, []byte{0})), "onlySomeReasons"},
		"CAs only":            {idp(tlv(0x82, yes)), "onlyContainsCACerts"},
		"CAs at a URL":        {idp(url, tlv(0x82, yes)), "onlyContainsCACerts"},
		"attributes only":     {idp(tlv(0x85, yes)), "onlyContainsAttributeCerts"},
		"a relative name":     {idp(tlv(0xa0, tlv(0xa1, tlv(0x30)))), "nameRelativeToCRLIssuer"},
		"no name":             {idp(tlv(0xa0, tlv(0xa0))), "nameRelativeToCRLIssuer"},
		"an unknown field":    {idp(url, tlv(0x86, yes)), "can't be read"},
		"an unknown value":    {idp(tlv(0x81, []byte{1})), "can't be read"},
		"fields out of order": {idp(tlv(0x81, yes), url), "can't be read"},
		"nothing":             {idp(), "can't be read"},
		"no sequence":         {pkix.Extension{Id: oidDistribution, Value: tlv(0x31)}, "can't be read"},
		"something behind":    {pkix.Extension{Id: oidDistribution, Value: append(idp(url).Value, 0)}, "can't be read"},
		"delta":               {pkix.Extension{Id: oidDelta, Critical: true, Value: []byte{2, 1, 1}}, "deltaCRLIndicator"},
	} {
		for _, critical := range []bool{true, false} { // a list that hides what it is
			row.extension.Critical = critical
			list := space.MustCRL(t, testpki.CRL{Extra: []pkix.Extension{row.extension}})
			_, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", list}}})
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: got %v, want %s", name, err, row.want)
			}
		}
	}
}

// A list with a distribution point counts for the certificates that point to it, and no certificate is good for want of a list.
func TestScopedListsCountAsRFC5280Says(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	below := space.MustIntermediate(t, testpki.Authority("Intermediate"))
	one, two := uri("http://crl.example/1.crl"), uri("http://crl.example/2.crl")
	issue := func(ca *testpki.CA, extra ...pkix.Extension) *testpki.Pair {
		template := testpki.Client("app")
		template.Extra = extra
		return ca.MustIssue(t, template)
	}
	toOne, toTwo, toBoth, plain := issue(space, cdp(point(one))), issue(space, cdp(point(two))), issue(space, cdp(point(two), point(uri("ldap://x"), one))), issue(space)
	someReasons := issue(space, cdp(slices.Concat(point(one), tlv(0x81, []byte{1, 0x60}))))
	ofOther := issue(space, cdp(slices.Concat(point(one), tlv(0xa2, tlv(0xa4, space.Cert.RawSubject)))))
	list := func(ca *testpki.CA, fields [][]byte, at time.Duration, revoked ...*testpki.Pair) []byte {
		c := testpki.CRL{ThisUpdate: time.Now().Add(at), NextUpdate: time.Now().Add(24 * time.Hour)}
		if fields != nil {
			c.Extra = []pkix.Extension{idp(fields...)}
		}
		for _, pair := range revoked {
			c.Revoked = append(c.Revoked, pair.Cert.SerialNumber)
		}
		return ca.MustCRL(t, c)
	}
	const past, future = -time.Hour, time.Hour
	byURL := func(names ...[]byte) [][]byte { return [][]byte{point(names...)} }
	users := [][]byte{tlv(0x81, yes)}
	directory := byURL(tlv(0xa4, space.Cert.RawSubject))
	const elsewhere = "are for other certificates (issuing distribution point)."
	deep := issue(below)

	for _, row := range []struct {
		judged
		lists [][]byte
	}{
		{judged{"the certificate points to the list", toOne.Chain, ok, ""}, [][]byte{list(space, byURL(one), past)}},
		{judged{"and is on it", toOne.Chain, refusal.CertificateRevoked, ""}, [][]byte{list(space, byURL(one), past, toOne)}},
		{judged{"it points to another list", toTwo.Chain, refusal.RevocationUnknown, elsewhere}, [][]byte{list(space, byURL(one), past)}},
		{judged{"it points to another list, and is on this one", toTwo.Chain, refusal.CertificateRevoked, ""}, [][]byte{list(space, byURL(one), past, toTwo)}},
		{judged{"it points to several", toBoth.Chain, ok, ""}, [][]byte{list(space, byURL(one), past)}},
		{judged{"the list has several names", toTwo.Chain, ok, ""}, [][]byte{list(space, byURL(one, two), past)}},
		{judged{"it points to no list", plain.Chain, refusal.RevocationUnknown, elsewhere}, [][]byte{list(space, byURL(one), past)}},
		{judged{"it points to no list, and the list is named after the CA", plain.Chain, ok, ""}, [][]byte{list(space, directory, past)}},
		{judged{"it points there for some reasons only", someReasons.Chain, refusal.RevocationUnknown, elsewhere}, [][]byte{list(space, byURL(one), past)}},
		{judged{"it points to a list of another issuer", ofOther.Chain, refusal.RevocationUnknown, elsewhere}, [][]byte{list(space, byURL(one), past)}},
		{judged{"a full list beside it", plain.Chain, ok, ""}, [][]byte{list(space, byURL(one), past), list(space, nil, past)}},
		{judged{"on the full list, which is older", toOne.Chain, refusal.CertificateRevoked, ""}, [][]byte{list(space, nil, 2*past, toOne), list(space, byURL(one), past)}},
		{judged{"each has its list", toTwo.Chain, ok, ""}, [][]byte{list(space, byURL(one), past), list(space, byURL(two), past)}},
		{judged{"a newer list of the same name replaces the older", toOne.Chain, ok, ""}, [][]byte{list(space, byURL(one), 2*past, toOne), list(space, byURL(one), past)}},
		{judged{"a newer list of another name does not", toOne.Chain, refusal.CertificateRevoked, ""}, [][]byte{list(space, byURL(one), 2*past, toOne), list(space, byURL(two), past)}},
		{judged{"on a list of the future", toOne.Chain, refusal.CertificateRevoked, ""}, [][]byte{list(space, byURL(one), past), list(space, byURL(one), future, toOne)}},
		{judged{"users only", plain.Chain, ok, ""}, [][]byte{list(space, users, past)}},
		{judged{"users only, revoked", plain.Chain, refusal.CertificateRevoked, ""}, [][]byte{list(space, users, past, plain)}},
		{judged{"users only, and a CA in between", deep.Chain, refusal.RevocationUnknown, elsewhere}, [][]byte{list(space, users, past), list(below, nil, past)}},
		{judged{"all, and a CA in between", deep.Chain, ok, ""}, [][]byte{list(space, nil, past), list(below, users, past)}},
	} {
		files := TrustFiles{CAs: []File{{"ca", space.PEM()}}}
		for _, l := range row.lists {
			files.CRLs = append(files.CRLs, File{"crl", l})
		}
		row.check(t, mustTrust(t, files), time.Now())
	}

	// An intermediate of the bundle that no list covers would keep out everybody below it.
	_, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", append(space.PEM(), below.PEM()...)}},
		CRLs: []File{{"root", list(space, users, past)}, {"below", list(below, nil, past)}}})
	if err == nil || !strings.Contains(err.Error(), `no revocation list of the CA "CN=Space CA" covers the CA "CN=Intermediate"`) {
		t.Errorf("got %v", err)
	}
}

// The lists of the CAs that clients bring along are judged when such a CA is seen, by its key.
func TestListsOfCAsBelowCountForTheirClients(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	below, other := space.MustIntermediate(t, testpki.Authority("Below")), space.MustIntermediate(t, testpki.Authority("Other"))
	impostor := testpki.MustCA(t, "Below") // the name, not the key
	silent := testpki.Authority("Below")
	silent.KeyUsage, silent.Signer = x509.KeyUsageCertSign, below.Key
	mute := space.MustIntermediate(t, silent) // may not sign lists
	good, bad := below.MustIssue(t, testpki.Client("good")), below.MustIssue(t, testpki.Client("bad"))
	aside, direct := other.MustIssue(t, testpki.Client("aside")), space.MustIssue(t, testpki.Client("direct"))
	now := time.Now()
	stale := testpki.CRL{ThisUpdate: now.Add(-48 * time.Hour), NextUpdate: now.Add(-time.Hour)}
	of := func(ca *testpki.CA, c testpki.CRL, revoked ...*testpki.Pair) File {
		for _, pair := range revoked {
			c.Revoked = append(c.Revoked, pair.Cert.SerialNumber)
		}
		return File{"crl", ca.MustCRL(t, c)}
	}
	root := of(space, testpki.CRL{})
	const none = `can't be checked: there is no revocation list of `
	for _, row := range []struct {
		judged
		lists []File
	}{
		{judged{"not on it", good.Chain, ok, ""}, []File{root, of(below, testpki.CRL{}, bad)}},
		{judged{"on it", bad.Chain, refusal.CertificateRevoked, " has been revoked."}, []File{root, of(below, testpki.CRL{}, bad)}},
		{judged{"on it, and on nobody else's", bad.Chain, ok, ""}, []File{root, of(below, testpki.CRL{}), of(other, testpki.CRL{}, bad)}},
		{judged{"another CA below has none", aside.Chain, refusal.RevocationUnknown, none + `"CN=Other".`}, []File{root, of(below, testpki.CRL{})}},
		{judged{"no list of a CA below", good.Chain, refusal.RevocationUnknown, none + `"CN=Below".`}, []File{root}},
		{judged{"out of date", good.Chain, refusal.RevocationUnknown, "is out of date since " + formatTime(stale.NextUpdate) + "."}, []File{root, of(below, stale)}},
		{judged{"signed by another key", good.Chain, refusal.RevocationUnknown, none + `"CN=Below".`}, []File{root, of(impostor, testpki.CRL{})}},
		{judged{"two keys of one name", bad.Chain, refusal.CertificateRevoked, ""}, []File{root, of(impostor, testpki.CRL{ThisUpdate: now}), of(below, testpki.CRL{}, bad)}},
		{judged{"a CA that may not sign lists", mute.MustIssue(t, testpki.Client("x")).Chain, refusal.RevocationUnknown, none + `"CN=Below".`}, []File{root, of(below, testpki.CRL{})}},
		{judged{"directly below the root", direct.Chain, ok, ""}, []File{root, of(below, testpki.CRL{}, direct)}},
	} {
		trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: row.lists})
		row.check(t, trust, now)
		row.check(t, trust, now) // remembered
		for i, list := range trust.CRLs() {
			if list.Below != (i > 0) {
				t.Errorf("%s: list %d, of %s, is said to be below: %v", row.name, i, list.Issuer, list.Below)
			}
		}
	}
	if _, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{root,
		{"both", append(below.MustCRL(t, testpki.CRL{}), below.MustCRL(t, testpki.CRL{Number: 2})...)}}}); err == nil || !strings.Contains(err.Error(), "an older one would count again") {
		t.Errorf("two lists of a CA below in one file: %v", err)
	}
}

// A list that was changed, or that was cut or garbled in its entries, is never a smaller list.
func TestEntriesThatAreNotWhatWasSignedAreRefused(t *testing.T) {
	space := testpki.MustCA(t, "Space CA")
	serials := []*big.Int{big.NewInt(5), big.NewInt(0x80), new(big.Int).Lsh(big.NewInt(0xff), 152)}
	list := der(space.MustCRL(t, testpki.CRL{Revoked: serials}))
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", list}}})
	for _, serial := range serials {
		if !trust.issuers[0].revoked(string(serial.Bytes()), time.Now()) {
			t.Errorf("%v is not revoked", serial)
		}
	}
	if trust.issuers[0].revoked("\x06", time.Now()) || trust.CRLs()[0].Revoked != len(serials) {
		t.Errorf("%+v", trust.CRLs())
	}
	for i := range list {
		changed := bytes.Clone(list)
		changed[i] ^= 1
		if _, err := NewClientVerifier(TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", changed}}}); err == nil {
			t.Errorf("byte %d of %d changed: accepted", i, len(list))
		}
	}
}

// OpenSSL, and so PostgreSQL, is asked the same questions.
func TestOpenSSLJudgesScopesAlike(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	space := testpki.MustCA(t, "Space CA")
	one, two := uri("http://crl.example/1.crl"), uri("http://crl.example/2.crl")
	certs := map[string]*testpki.Pair{}
	for name, extra := range map[string][]pkix.Extension{"none": nil, "one": {cdp(point(one))}, "two": {cdp(point(two))}, "both": {cdp(point(two), point(one))}} {
		template := testpki.Client("app")
		template.Extra = extra
		certs[name] = space.MustIssue(t, template)
	}
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", space.PEM())
	for name, fields := range map[string][][]byte{
		"a URL": {point(one)}, "two URLs": {point(one, two)}, "users": {tlv(0x81, yes)}, "users at a URL": {point(one), tlv(0x81, yes)},
		// Not "the issuer": OpenSSL wants a point in the certificate even where RFC 5280 assumes one with the issuer's name.
	} {
		for _, on := range []bool{false, true} {
			for which, pair := range certs {
				c := testpki.CRL{Extra: []pkix.Extension{idp(fields...)}}
				if on {
					c.Revoked = []*big.Int{pair.Cert.SerialNumber}
				}
				list := space.MustCRL(t, c)
				_, no := mustTrust(t, TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", list}}}).Verify(pair.Chain, time.Now())
				out, err := exec.Command(openssl, "verify", "-crl_check", "-CAfile", ca, "-CRLfile", write("crl.pem", list), write("cert.pem", pair.CertPEM)).CombinedOutput()
				if (no == nil) != (err == nil) {
					t.Errorf("%s, revoked %v, certificate with %s: %v here, openssl: %s", name, on, which, no, out)
				}
			}
		}
	}
}

// FuzzScope reads issuing distribution points, and the points of certificates, from anybody.
func FuzzScope(f *testing.F) {
	f.Add(idp(point(uri("http://crl.example/1.crl")), tlv(0x81, yes)).Value)
	f.Add(idp(tlv(0x84, yes)).Value)
	f.Add(cdp(point(uri("http://crl.example/1.crl")), tlv(0x81, []byte{1, 0x60})).Value)
	f.Add(cdp(point(tlv(0xa4, tlv(0x30)))).Value)
	f.Fuzz(func(t *testing.T, extension []byte) {
		s, err := readScope(extension)
		if err == nil && s.raw != string(extension) {
			t.Errorf("%x is the scope of %x", s.raw, extension)
		}
		cert := &x509.Certificate{RawIssuer: tlv(0x30), Extensions: []pkix.Extension{{Id: oidPoints, Value: extension}}}
		names := pointsOf(cert)
		if err != nil {
			return
		}
		for cut := range extension {
			if _, err := readScope(extension[:cut]); err == nil {
				t.Errorf("%x is taken, and so is its beginning of %d bytes", extension, cut)
			}
		}
		cert.IsCA = true
		if s.covers(cert) && (s.usersOnly || len(s.points) > 0 && len(names) == 0 && !slices.Contains(s.points, string(tlv(0xa4, tlv(0x30))))) {
			t.Errorf("%x covers a CA that points nowhere", extension)
		}
	})
}
