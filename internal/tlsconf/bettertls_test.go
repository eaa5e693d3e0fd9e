package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"testing"
	"time"

	"github.com/Netflix/bettertls/test-suites/pathbuilding"
	bettertls "github.com/Netflix/bettertls/test-suites/test-case"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// BetterTLS has the cases of RFC 4158 on finding a path among cross-signed CAs, each with one kind of invalid certificate on
// the paths that must not be taken. Its certificates are a server's, so its graphs are built here for a client.
func TestPathsOfBetterTLSAreFoundAndNoOthers(t *testing.T) {
	provider := pathbuilding.NewTestCaseProvider()
	count, err := provider.GetTestCaseCount()
	if err != nil || count < 81 {
		t.Fatalf("%d cases: %v", count, err)
	}
	whole := 0
	for i := range count {
		each, err := provider.GetTestCase(i)
		if err != nil {
			t.Fatal(err)
		}
		c := each.(*pathbuilding.TestCaseImpl)
		name := fmt.Sprintf("%d, %s from %s to %s without %v (%s)", i, c.ExplicitTestCase.TrustGraph.Name(), c.ExplicitTestCase.SrcNode,
			c.ExplicitTestCase.DstNode, c.ExplicitTestCase.InvalidEdges, c.InvalidReason)
		root, chain := presentedBy(t, c)
		trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}})
		if len(chain) > maxChain {
			// The bridge CA's whole graph is more than is taken. All that can be above the leaf is not.
			judged{name, chain, refusal.CertificateInvalid, "At most 20 are accepted."}.check(t, trust, time.Now())
			above, _ := trust.above(chain[0], chain[1:])
			chain = append(chain[:1:1], above...)
			whole++
		}
		_, no := trust.Verify(chain, time.Now())
		switch want := c.ExpectedResult() == bettertls.EXPECTED_RESULT_PASS; {
		case want && no != nil:
			t.Errorf("%s: %d certificates refused: %s: %s", name, len(chain), no.Reason, no.Detail)
		case !want && no == nil:
			t.Errorf("%s: accepted", name)
		}
		if err := checkPresented(tls.ConnectionState{PeerCertificates: chain}); err != nil {
			t.Errorf("%s: %d certificates: %v", name, len(chain), err)
		}
	}
	if whole != 20 {
		t.Errorf("%d graphs are larger than what is taken, want the 20 of the bridge CA", whole)
	}
}

// presentedBy makes the trusted CA of a case, and what its client sends: the leaf, and every other certificate of the graph.
func presentedBy(t *testing.T, c *pathbuilding.TestCaseImpl) (*testpki.CA, []*x509.Certificate) {
	t.Helper()
	graph := c.ExplicitTestCase
	spoilt := func(edge pathbuilding.Edge) pathbuilding.InvalidReason {
		if edge.MemberOf(graph.InvalidEdges) {
			return c.InvalidReason
		}
		return pathbuilding.INVALID_REASON_UNSPECIFIED
	}
	return build(t, graph.TrustGraph, graph.SrcNode, graph.DstNode, spoilt)
}

// build makes the certificates of a graph: root and leaf are two of its nodes.
func build(t *testing.T, graph *pathbuilding.TrustGraph, root, leaf string, spoilt func(pathbuilding.Edge) pathbuilding.InvalidReason) (*testpki.CA, []*x509.Certificate) {
	t.Helper()
	cas := map[string]*testpki.CA{}
	for _, node := range graph.NodeNames() {
		cas[node] = testpki.MustCA(t, node)
	}
	var leaves, above []*x509.Certificate
	for _, edge := range graph.GetAllEdges() {
		template := testpki.Authority(edge.Destination)
		if edge.Destination == leaf {
			template = testpki.Client(edge.Destination)
			template.DNSNames = []string{"localhost"}
		}
		template.Signer = cas[edge.Destination].Key
		if why := spoilt(edge); why != pathbuilding.INVALID_REASON_UNSPECIFIED {
			spoil(t, &template, why)
		}
		cert := cas[edge.Source].MustIssue(t, template).Cert
		if edge.Destination == leaf {
			leaves = append(leaves, cert)
		} else {
			above = append(above, cert)
		}
	}
	return cas[root], append(leaves, above...)
}

// spoil makes the certificate of a CA one that must not be part of a path.
func spoil(t *testing.T, template *testpki.Template, why pathbuilding.InvalidReason) {
	t.Helper()
	switch why {
	case pathbuilding.INVALID_REASON_EXPIRED:
		template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	case pathbuilding.INVALID_REASON_NAME_CONSTRAINTS:
		template.PermittedDNS = []string{"bad.example.com"}
	case pathbuilding.INVALID_REASON_BAD_EKU:
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	case pathbuilding.INVALID_REASON_MISSING_BASIC_CONSTRAINTS:
		template.IsCA = false
	case pathbuilding.INVALID_REASON_NOT_A_CA:
		template.IsCA = false
		template.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0}}}
	case pathbuilding.INVALID_REASON_DEPRECATED_CRYPTO:
		template.Signature = x509.ECDSAWithSHA1
	default:
		t.Fatalf("no certificate is invalid by %s", why)
	}
}
