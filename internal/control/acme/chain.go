package acme

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/pemkey"
)

// maxChain bounds the certificates of a chain.
const maxChain = 10

// parseChain reads PEM with certificates and nothing else.
func parseChain(text []byte) (chain []*x509.Certificate, err error) {
	for rest := bytes.TrimSpace(text); len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("it is not a list of certificates in PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		if chain = append(chain, cert); len(chain) > maxChain {
			return nil, fmt.Errorf("it has more than %d certificates", maxChain)
		}
		rest = bytes.TrimSpace(rest)
	}
	if len(chain) == 0 {
		return nil, errors.New("it is empty")
	}
	return chain, nil
}

// checkChain refuses what a proxy would refuse, and what is not what was ordered: a proxy takes a policy as a whole, so
// one chain that it can't take would keep rules and revocations from it.
func checkChain(chain []*x509.Certificate, key crypto.Signer, names []string, now time.Time) error {
	leaf := chain[0]
	if !pemkey.Belongs(key, leaf.PublicKey) {
		return errors.New("it is for another key than the one that was asked for")
	}
	for _, name := range names {
		if !slices.ContainsFunc(leaf.DNSNames, func(got string) bool { return strings.EqualFold(got, name) }) {
			return fmt.Errorf("it lacks the name %s", name)
		}
	}
	switch {
	case leaf.IsCA:
		return errors.New("it is a certificate authority's")
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
		return errors.New("it is not for TLS servers")
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("its key usage lacks digitalSignature")
	case !leaf.NotAfter.After(now):
		return fmt.Errorf("it ended at %s", leaf.NotAfter.Format(time.RFC3339))
	case leaf.NotBefore.After(now.Add(maxSkew)):
		return fmt.Errorf("it is valid from %s only", leaf.NotBefore.Format(time.RFC3339))
	}
	for i, cert := range chain {
		if err := checkStrength(cert); err != nil {
			return fmt.Errorf("certificate %d of the chain: %w", i+1, err)
		}
		if i == 0 {
			continue
		}
		below := chain[i-1]
		if !bytes.Equal(below.RawIssuer, cert.RawSubject) || below.CheckSignatureFrom(cert) != nil {
			return fmt.Errorf("certificate %d of the chain did not issue the one before it", i+1)
		}
		if !cert.NotAfter.After(now) {
			return fmt.Errorf("certificate %d of the chain ended at %s", i+1, cert.NotAfter.Format(time.RFC3339))
		}
	}
	return nil
}

// checkStrength refuses keys and signatures that proxies refuse. The signature of a root is nobody's to rely on.
func checkStrength(cert *x509.Certificate) error {
	if err := pemkey.CheckStrength(cert.PublicKey); err != nil {
		return fmt.Errorf("its %w", err)
	}
	if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
		return nil
	}
	switch cert.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return nil
	}
	return fmt.Errorf("it is signed with %v, not with SHA-256 or stronger", cert.SignatureAlgorithm)
}

// choose returns the chain that leads to the preferred root, by the SHA-256 of the root in hexadecimal, or the first one
// when none does: a preference that can't be met must not cost a certificate.
func choose(chains [][]*x509.Certificate, preferred string, roots *x509.CertPool) []*x509.Certificate {
	for _, chain := range chains {
		if preferred == "" {
			break
		}
		between := x509.NewCertPool()
		for _, cert := range chain[1:] {
			between.AddCert(cert)
		}
		// At the leaf's beginning: where the chain leads does not depend on our clock, which may be some seconds behind.
		paths, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: chain[0].NotBefore})
		if err != nil {
			continue
		}
		for _, path := range paths {
			root := sha256.Sum256(path[len(path)-1].Raw)
			// The path must be the chain's own: another of its certificates may lead elsewhere.
			if hex.EncodeToString(root[:]) == preferred && len(path) >= len(chain) && path[len(chain)-1].Equal(chain[len(chain)-1]) {
				return chain
			}
		}
	}
	return chains[0]
}

func encodeChain(chain []*x509.Certificate) []byte {
	var text []byte
	for _, cert := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return text
}
