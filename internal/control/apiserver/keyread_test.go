package apiserver

import (
	"slices"
	"strings"
	"testing"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// keysRead are the records of private keys that were given out, the oldest first.
func (p *plane) keysRead(t *testing.T) []audit.Record {
	t.Helper()
	records, err := p.trail.List(t.Context(), audit.Query{Action: "certificate.key_read"})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(records)
	return records
}

func TestEveryPrivateKeyThatIsGivenHasItsRecord(t *testing.T) {
	p := newPlane(t, nil)
	db := p.operational("orders")
	own := p.token(access.NewToken{Name: "orders-only", Kind: access.Database, Database: db.ID})
	_, csr := newRequest(t)
	certificates := endpoint("orders") + "/certificates"
	var made, theirs api.Certificate
	if body := p.must(201, ask{method: "POST", path: certificates, token: p.admin, body: api.NewCertificate{Name: "app"}}, &made); strings.Contains(string(body.body), "PRIVATE") {
		t.Error("creating a certificate gives its key, and no record tells of it")
	}
	p.must(201, ask{method: "POST", path: certificates, token: p.admin, body: api.NewCertificate{Name: "theirs", CSR: csr}}, &theirs)
	if records := p.keysRead(t); len(records) != 0 {
		t.Fatalf("nobody has read a key, and there are %+v", records)
	}
	for n, a := range []ask{
		{method: "GET", path: certificates + "/" + made.ID, token: p.admin},
		{method: "GET", path: certificates + "/" + made.ID + "/files", token: p.admin},
		{method: "GET", path: certificates + "/" + made.ID, token: own},
		{method: "GET", path: certificates + "/" + made.ID + "/files", token: own},
	} {
		body := p.must(200, a, nil)
		records := p.keysRead(t)
		if len(records) != n+1 || !strings.Contains(string(body.body), "PRIVATE") {
			t.Fatalf("%s: %d records", a.path, len(records))
		}
		last, actor := records[n], map[string]string{p.admin: "admin", own: "orders-only"}[a.token]
		if last.Actor != actor || last.Database != db.ID || last.Object != made.ID || last.Detail["serial"] != made.Serial || last.Detail["name"] != "app" || last.Address == "" || last.RequestID == "" {
			t.Errorf("%s: the record is %+v", a.path, last)
		}
	}
	// What gives no key has no record.
	for _, a := range []ask{
		{method: "GET", path: certificates, token: p.admin},
		{method: "GET", path: certificates + "/" + made.ID, token: p.reader},
		{method: "GET", path: certificates + "/" + theirs.ID, token: p.admin},
		{method: "GET", path: certificates + "/" + theirs.ID + "/files", token: p.admin},
	} {
		if body := p.must(200, a, nil); strings.Contains(string(body.body), "PRIVATE") {
			t.Errorf("%s gives a key", a.path)
		}
	}
	if records := p.keysRead(t); len(records) != 4 {
		t.Errorf("%d records of 4 keys", len(records))
	}
}

func TestPrivateKeyDoesNotLeaveWithoutItsRecord(t *testing.T) {
	p := newPlane(t, nil)
	p.operational("orders")
	certificates := endpoint("orders") + "/certificates"
	var made api.Certificate
	p.must(201, ask{method: "POST", path: certificates, token: p.admin, body: api.NewCertificate{Name: "app"}}, &made)
	p.must(200, ask{method: "GET", path: "/v1/version", token: p.admin}, nil) // its last use is noted

	// A trail that can't be written: its store is closed, and that of everything else is not.
	closed, err := store.Open(t.Context(), store.Options{DataDir: t.TempDir() + "/etcd", Log: p.server.log})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	p.server.trail = audit.New(&docstore.Docs{Store: closed}, nil)
	for _, path := range []string{certificates + "/" + made.ID, certificates + "/" + made.ID + "/files", "/v1/snapshot"} {
		got := p.ask(ask{method: "GET", path: path, token: p.admin})
		if got.status < 500 || strings.Contains(string(got.body), "PRIVATE") {
			t.Errorf("%s: answered %d, %.80q, and nobody recorded it", path, got.status, got.body)
		}
	}
	var seen api.Certificate
	if p.must(200, ask{method: "GET", path: certificates + "/" + made.ID, token: p.reader}, &seen); seen.CertificateWithChain == "" {
		t.Error("without the key the certificate is not given either")
	}
}
