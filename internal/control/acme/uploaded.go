package acme

import (
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/pemkey"
)

// Uploaded is a server certificate that somebody brings, with its chain and key as they are kept.
type Uploaded struct {
	Leaf             // without what an order has
	ChainPEM, KeyPEM []byte
}

// ParseUploaded reads a certificate with its chain, leaf first, and its private key, both in PEM. It refuses what a proxy would
// refuse, and what has ended, by the same checks that a chain from an authority goes through. That the chain leads to a
// public root is not asked. The error says what to do, and shows nothing of the key.
func ParseUploaded(chainPEM, keyPEM []byte, now time.Time) (Uploaded, error) {
	var blocks []*pem.Block
	for block, rest := pem.Decode(keyPEM); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	key, err := pemkey.Parse(blocks)
	if err != nil {
		return Uploaded{}, problem.New(problem.InvalidParams, "private_key: %s", err)
	}
	chain, err := parseChain(chainPEM)
	if err != nil {
		return Uploaded{}, problem.New(problem.InvalidParams, "certificate: %s; send the certificate and what is above it, in PEM, the server's own first", err)
	}
	var names []string
	for _, name := range chain[0].DNSNames {
		if name = strings.ToLower(name); CheckName(name) == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if err := checkChain(chain, key, names, now); err != nil {
		return Uploaded{}, problem.New(problem.InvalidParams, "certificate: %s", err)
	}
	if len(names) == 0 {
		return Uploaded{}, problem.New(problem.InvalidParams, "certificate: it has no DNS name that a client could verify")
	}
	var text []byte
	for _, block := range blocks {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			text = append(text, pem.EncodeToMemory(block)...)
		}
	}
	return Uploaded{ChainPEM: encodeChain(chain), KeyPEM: text, Leaf: Leaf{Names: names, Issuer: clean(chain[0].Issuer.CommonName),
		Serial: fmt.Sprintf("%x", chain[0].SerialNumber), NotBefore: chain[0].NotBefore.UTC(), NotAfter: chain[0].NotAfter.UTC()}}, nil
}
