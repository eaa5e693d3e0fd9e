package tlsconf

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// blocks are the PEM blocks of a file, each with its end.
func blocks(text []byte) [][]byte {
	var all [][]byte
	for _, part := range strings.SplitAfter(string(text), "-----\n") {
		if strings.HasPrefix(part, "-----BEGIN") {
			all = append(all, nil)
		}
		if len(all) > 0 {
			all[len(all)-1] = append(all[len(all)-1], part...)
		}
	}
	return all
}

// accepted are the clients that a verifier takes; nil if the files are refused.
func accepted(files TrustFiles, clients []*testpki.Pair) []bool {
	v, err := NewClientVerifier(files)
	if err != nil {
		return make([]bool, len(clients))
	}
	answers := make([]bool, len(clients))
	for i, c := range clients {
		_, refused := v.Verify(c.Chain, time.Now())
		answers[i] = refused == nil
	}
	return answers
}

// A PEM file that was cut exactly between two blocks can't be told from a whole one. It must only take away.
func TestFileCutBetweenTwoBlocksLetsInNobodyMore(t *testing.T) {
	space, other := testpki.MustCA(t, "Space CA"), testpki.MustCA(t, "Other CA")
	ended := testpki.Authority("Ended CA")
	ended.NotBefore, ended.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	expired := testpki.MustNewCA(t, ended)
	below, belowExpired := space.MustIntermediate(t, testpki.Authority("Below")), expired.MustIntermediate(t, testpki.Authority("Below the ended"))
	var clients []*testpki.Pair
	for _, ca := range []*testpki.CA{space, other, expired, below, belowExpired} {
		clients = append(clients, ca.MustIssue(t, testpki.Client("good")), ca.MustIssue(t, testpki.Client("revoked")))
	}
	list := func(ca *testpki.CA, number int64, at time.Time, revoked ...*x509.Certificate) []byte {
		c := testpki.CRL{Number: number, ThisUpdate: at}
		for _, cert := range revoked {
			c.Revoked = append(c.Revoked, new(big.Int).Set(cert.SerialNumber))
		}
		return ca.MustCRL(t, c)
	}
	old, fresh := time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	belowList := list(below, 1, fresh, clients[7].Cert)
	scoped := space.MustCRL(t, testpki.CRL{Number: 3, ThisUpdate: fresh, Revoked: []*big.Int{clients[1].Cert.SerialNumber}, Extra: []pkix.Extension{idp(tlv(0x81, yes))}})
	spaceOld, spaceNew := list(space, 1, old), list(space, 2, fresh, clients[1].Cert)
	otherList := list(other, 1, fresh, clients[3].Cert)

	for name, row := range map[string]struct {
		files TrustFiles
		want  string // of the refusal; empty: it is taken
	}{
		"two CAs":                                {TrustFiles{CAs: []File{{"ca", testpki.CertPEM(space.Cert, other.Cert)}}}, ""},
		"an intermediate behind its CA":          {TrustFiles{CAs: []File{{"ca", testpki.CertPEM(space.Cert, below.Cert, other.Cert)}}}, ""},
		"an intermediate behind one that ended":  {TrustFiles{CAs: []File{{"ca", testpki.CertPEM(expired.Cert, belowExpired.Cert, other.Cert)}}}, ""},
		"an intermediate before its CA":          {TrustFiles{CAs: []File{{"ca", testpki.CertPEM(belowExpired.Cert, expired.Cert)}}}, "put the issuing CA first"},
		"an intermediate whose CA is elsewhere":  {TrustFiles{CAs: []File{{"ca", belowExpired.PEM()}, {"more", testpki.CertPEM(other.Cert, expired.Cert)}}}, "put the issuing CA first"},
		"an intermediate whose CA has its file":  {TrustFiles{CAs: []File{{"ca", testpki.CertPEM(other.Cert, belowExpired.Cert)}, {"more", expired.PEM()}}}, ""},
		"lists of two CAs":                       {TrustFiles{CAs: []File{{"ca", testpki.CertPEM(space.Cert, other.Cert)}}, CRLs: []File{{"crl", slices.Concat(spaceNew, otherList)}}}, ""},
		"a newer list behind the older":          {TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", slices.Concat(spaceOld, spaceNew)}}}, "an older one would count again"},
		"a newer list behind one of another CA":  {TrustFiles{CAs: []File{{"ca", testpki.CertPEM(space.Cert, other.Cert)}}, CRLs: []File{{"old", spaceOld}, {"crl", slices.Concat(otherList, spaceNew)}}}, "an older one would count again"},
		"an older and a newer list in two files": {TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"old", spaceOld}, {"new", spaceNew}}}, ""},
		"lists of a CA and of one below it":      {TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", slices.Concat(spaceNew, belowList)}}}, ""},
		"a list of a CA below before its own":    {TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", slices.Concat(belowList, spaceNew)}}}, ""},
		"a list of users behind a full list":     {TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", slices.Concat(spaceOld, scoped)}}}, "an older one would count again"},
		"a list of users in its own file":        {TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"old", spaceOld}, {"users", scoped}}}, ""},
		"the same list twice":                    {TrustFiles{CAs: []File{{"ca", space.PEM()}}, CRLs: []File{{"crl", slices.Concat(spaceNew, spaceNew)}}}, ""},
	} {
		_, err := NewClientVerifier(row.files)
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
			continue
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: got %v, want %s", name, err, row.want)
		}
		if row.want != "" {
			continue
		}
		may := accepted(row.files, clients)
		if !slices.Contains(may, true) {
			t.Errorf("%s: nobody comes in", name)
		}
		for _, list := range []func(*TrustFiles) []File{func(f *TrustFiles) []File { return f.CAs }, func(f *TrustFiles) []File { return f.CRLs }} {
			for i := range list(&row.files) {
				parts := blocks(list(&row.files)[i].Text)
				for cut := range parts {
					files := TrustFiles{CAs: slices.Clone(row.files.CAs), CRLs: slices.Clone(row.files.CRLs)}
					list(&files)[i].Text = slices.Concat(parts[:cut]...)
					for c, yes := range accepted(files, clients) {
						if yes && !may[c] {
							t.Errorf("%s: %s of %d blocks lets in %s of %s", name, list(&files)[i].Name, cut, clients[c].Cert.Subject, clients[c].Cert.Issuer)
						}
					}
				}
			}
		}
	}
}
