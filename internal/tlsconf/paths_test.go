package tlsconf

import (
	"crypto/x509"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/Netflix/bettertls/test-suites/pathbuilding"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// A client comes in if and only if there is a path without an invalid certificate, whatever else it sends and in whatever
// order.
func TestClientComesInExactlyWhereThereIsAPath(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 81))
	reasons := pathbuilding.InvalidReasons()[1:]
	in, out := 0, 0
	for i := range 60 {
		edges := []pathbuilding.Edge{{Source: "E", Destination: "Leaf"}}
		var invalid []pathbuilding.Edge
		for _, from := range []string{"Root", "A", "B", "C", "D", "E"} {
			for _, to := range []string{"A", "B", "C", "D", "E"} {
				if from == to || random.IntN(5) > 1 || len(edges) == maxChain {
					continue
				}
				edge := pathbuilding.Edge{Source: from, Destination: to}
				edges = append(edges, edge)
				if random.IntN(2) == 0 {
					invalid = append(invalid, edge)
				}
			}
		}
		why := map[pathbuilding.Edge]pathbuilding.InvalidReason{}
		for _, edge := range invalid {
			why[edge] = reasons[random.IntN(len(reasons))]
		}
		graph := pathbuilding.NewGraph(fmt.Sprint("random ", i), append(edges, pathbuilding.Edge{Source: "Root", Destination: "Aside"}))
		root, chain := build(t, graph, "Root", "Leaf", func(edge pathbuilding.Edge) pathbuilding.InvalidReason { return why[edge] })
		chain = chain[:len(chain)-1] // all but the one aside, which makes the root a node of every graph
		random.Shuffle(len(chain)-1, func(a, b int) { chain[1+a], chain[1+b] = chain[1+b], chain[1+a] })

		want := graph.Reachable(invalid, "Root", "Leaf") != nil
		_, no := mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}}).Verify(chain, time.Now())
		if (no == nil) != want {
			t.Errorf("graph %d: a path is there: %v; got %v\n%v\nwithout %v", i, want, no, edges, why)
		}
		if want {
			in++
		} else {
			out++
		}
	}
	if in < 10 || out < 10 {
		t.Errorf("%d of the graphs have a path and %d have none: they show nothing", in, out)
	}
}

// meshOf makes CAs that the root and all others of them issued, and a client of the last one.
func meshOf(t *testing.T, size int, change func(*testpki.Template)) (root *testpki.CA, chain []*x509.Certificate) {
	t.Helper()
	root = testpki.MustCA(t, "Root")
	nodes := []*testpki.CA{root}
	for i := range size {
		nodes = append(nodes, testpki.MustCA(t, fmt.Sprint("Node ", i)))
	}
	client := testpki.Client("app")
	client.DNSNames = []string{"app.example"}
	chain = []*x509.Certificate{nodes[size].MustIssue(t, client).Cert}
	for i, from := range nodes {
		for k, to := range nodes[1:] {
			if i == k+1 {
				continue
			}
			template := testpki.Authority(to.Cert.Subject.CommonName)
			template.Signer = to.Key
			change(&template)
			chain = append(chain, from.MustIssue(t, template).Cert)
		}
	}
	return root, chain
}

// CAs that a root vouches for can be as many and as tangled as their owner likes. The search ends.
func TestSearchForPathsIsBounded(t *testing.T) {
	root, chain := meshOf(t, 6, func(template *testpki.Template) { template.PermittedDNS = []string{"other.example"} })
	found := mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}}).findPaths(chain[0], chain[1:], time.Now())
	if len(found.chains) > 0 || found.err == nil {
		t.Errorf("%d chains against all name constraints, error %v", len(found.chains), found.err)
	}
	if found.checks < 0 || found.steps != 0 {
		t.Errorf("%d signatures and %d steps are left, want the end of the search", found.checks, found.steps)
	}
	judged{"all constrained", chain[:maxChain], refusal.CertificateInvalid, "(name constraints)."}.
		check(t, mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}}), time.Now())

	root, chain = meshOf(t, 4, func(*testpki.Template) {})
	judged{"four CAs that all issued one another", chain, ok, ""}.check(t, mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}}), time.Now())
}

// Certificates that no CA vouches for cost no more than to see that.
func TestStrangersCostTheSearchOneSignatureEach(t *testing.T) {
	root := testpki.MustCA(t, "Root")
	stranger := testpki.MustCA(t, "Root") // the name, not the key
	_, chain := meshOf(t, 4, func(*testpki.Template) {})
	chain[0] = stranger.MustIssue(t, testpki.Client("app")).Cert
	found := mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}}).findPaths(chain[0], chain[1:], time.Now())
	if used := maxSignatureChecks - found.checks; used != 5 { // the leaf, and four CAs that name the root
		t.Errorf("%d signatures were verified, want 5", used)
	}
	if found.chains != nil || found.err != nil {
		t.Errorf("%d chains, error %v", len(found.chains), found.err)
	}
}

// An intermediate of two roots is good while one of its certificates is.
func TestRevokedCrossCertificateLeavesTheOtherPath(t *testing.T) {
	old, fresh := testpki.MustCA(t, "Old root"), testpki.MustCA(t, "New root")
	template := testpki.Authority("Intermediate")
	below := old.MustIntermediate(t, template)
	template.Signer = below.Key
	again := fresh.MustIntermediate(t, template)
	leaf := below.MustIssue(t, testpki.Client("app"))
	both := []File{{"old", old.PEM()}, {"new", fresh.PEM()}}
	for _, chain := range [][]*x509.Certificate{{leaf.Cert, below.Cert, again.Cert}, {leaf.Cert, again.Cert, below.Cert}} {
		for _, serial := range []*big.Int{below.Cert.SerialNumber, again.Cert.SerialNumber} {
			judged{"one is revoked", chain, ok, ""}.check(t, mustTrust(t, TrustFiles{CAs: both, Revoked: []*big.Int{serial}}), time.Now())
		}
		judged{"both are", chain, refusal.CertificateRevoked, "which has been revoked."}.check(t,
			mustTrust(t, TrustFiles{CAs: both, Revoked: []*big.Int{below.Cert.SerialNumber, again.Cert.SerialNumber}}), time.Now())
	}
}

// A weak certificate that no chain needs does no harm, and is no way in.
func TestWeakCertificateOnTheSideIsLeftOut(t *testing.T) {
	root := testpki.MustCA(t, "Root")
	template := testpki.Authority("Intermediate")
	good := root.MustIntermediate(t, template)
	template.Signer, template.Signature = good.Key, x509.ECDSAWithSHA1
	weak := root.MustIntermediate(t, template)
	small := testpki.Authority("Aside")
	small.Key = testpki.RSA1024
	aside := testpki.MustNewCA(t, small)
	leaf := good.MustIssue(t, testpki.Client("app"))
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}})
	for _, chain := range [][]*x509.Certificate{{leaf.Cert, weak.Cert, good.Cert}, {leaf.Cert, good.Cert, weak.Cert}, {leaf.Cert, aside.Cert, good.Cert}} {
		judged{"a good one beside it", chain, ok, ""}.check(t, trust, time.Now())
	}
	judged{"alone", []*x509.Certificate{leaf.Cert, weak.Cert}, refusal.CertificateWeakKey, "it is signed with ECDSA-SHA1; SHA-256 or stronger is needed."}.check(t, trust, time.Now())
}

// What a client sends beside its path is no part of the question that is remembered.
func TestCertificatesAsideAreNoOtherQuestion(t *testing.T) {
	root := testpki.MustCA(t, "Root")
	below := root.MustIntermediate(t, testpki.Authority("Intermediate"))
	leaf := below.MustIssue(t, testpki.Client("app"))
	trust := mustTrust(t, TrustFiles{CAs: []File{{"ca", root.PEM()}}})
	first, no := trust.Verify(leaf.Chain, time.Now())
	if no != nil {
		t.Fatal(no)
	}
	for i := range 3 {
		again, no := trust.Verify(slices.Concat(leaf.Chain[:1], []*x509.Certificate{testpki.MustCA(t, fmt.Sprint("Aside ", i)).Cert}, leaf.Chain[1:]), time.Now())
		if no != nil || again != first {
			t.Errorf("the same chain was verified anew: %v", no)
		}
	}
}
