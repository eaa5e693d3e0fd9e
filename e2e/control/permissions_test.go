package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// token makes a token with the command line, which prints nothing else to standard output.
func (p *plane) token(t testing.TB, name string, flags ...string) string {
	t.Helper()
	text := strings.TrimSuffix(p.do(t, append([]string{"tokens", "create", name}, flags...)...), "\n")
	if found := token.FindString(text); found != text {
		t.Fatalf("tokens create printed %d bytes that are not a token", len(text))
	}
	return text
}

func TestTokensOpenWhatTheirScopeSays(t *testing.T) {
	t.Parallel()
	p, _, admin := newShop(t)
	admin.gets(t, http.StatusCreated, "POST /v1/databases", `{"name": "books", "hosts": ["localhost"]}`, nil)
	admin.gets(t, http.StatusCreated, "POST "+endpointPath, "", nil)
	admin.polled(t, endpointPath, "status", "Operational")
	var certificates []fields
	admin.gets(t, http.StatusOK, "GET "+certsPath, "", &certificates)
	key := certsPath + "/" + certificates[0].text("id")

	for _, caller := range []*web{p.web(t, ""), p.web(t, "pgmtls_00000000_"+strings.Repeat("A", 43)), p.web(t, p.admin(t)[:20])} {
		for _, request := range []string{"GET /v1/databases", "GET " + endpointPath, "POST " + rulesPath, "DELETE " + endpointPath, "GET " + key, "GET /v1/audit", "GET /v1/snapshot", "GET /metrics"} {
			caller.refused(t, http.StatusUnauthorized, request, "")
		}
	}

	reader := p.web(t, p.token(t, "reader", "--scope", "read"))
	for _, path := range []string{"/v1/databases", endpointPath, rulesPath, certsPath, "/v1/audit", "/v1/tokens", "/v1/spaces/default/ca"} {
		reader.gets(t, http.StatusOK, "GET "+path, "", nil)
	}
	for _, request := range []string{"POST " + rulesPath, "POST " + certsPath, "DELETE " + endpointPath, "DELETE " + key, "POST /v1/databases", "POST /v1/tokens", "POST /v1/spaces/default/ca/rotate", "GET " + key + "/files", "GET /v1/snapshot"} {
		reader.refused(t, http.StatusForbidden, request, "")
	}
	if got := reader.gets(t, http.StatusOK, "GET "+key, "", nil); strings.Contains(string(got.body), "PRIVATE KEY") {
		t.Error("a token that may read sees a private key")
	}

	books := p.web(t, p.token(t, "books", "--scope", "database", "--database", "books"))
	books.gets(t, http.StatusCreated, "POST "+strings.Replace(endpointPath, "shop", "books", 1), "", nil)
	there := books.gets(t, http.StatusNotFound, "GET "+endpointPath, "", nil)
	nowhere := books.gets(t, http.StatusNotFound, "GET "+strings.Replace(endpointPath, "shop", "none", 1), "", nil)
	if strings.Replace(string(there.body), "shop", "none", 1) != string(nowhere.body) {
		t.Errorf("a database of somebody else's answers %s, and one that there is not %s", there.body, nowhere.body)
	}
	for _, request := range []string{"GET " + rulesPath, "POST " + rulesPath, "GET " + certsPath, "GET " + key, "DELETE " + endpointPath, "GET /v1/databases/shop", "GET /v1/audit?database=shop"} {
		books.refused(t, http.StatusNotFound, request, "")
	}
	for _, request := range []string{"POST /v1/databases", "GET /v1/tokens", "POST /v1/tokens", "GET /v1/snapshot", "POST /v1/spaces/default/ca/rotate"} {
		books.refused(t, http.StatusForbidden, request, "")
	}
	var seen []fields
	if got, err := books.send(http.MethodGet, "/v1/databases", ""); err != nil || got.status == http.StatusOK && (json.Unmarshal(got.body, &seen) != nil || len(seen) != 1 || seen[0].text("name") != "books") {
		t.Errorf("a token of one database sees %s, %v", got.body, err)
	}
}

func TestTokensEndAtOnce(t *testing.T) {
	t.Parallel()
	p := configured(t, nil)
	revoked := p.web(t, p.token(t, "soon-revoked", "--scope", "all"))
	revoked.gets(t, http.StatusOK, "GET /v1/databases", "", nil)
	var tokens []struct{ ID, Name string }
	p.read(t, &tokens, "tokens")
	for _, listed := range tokens {
		if listed.Name == "soon-revoked" {
			p.do(t, "tokens", "revoke", listed.ID)
		}
	}
	revoked.refused(t, http.StatusUnauthorized, "GET /v1/databases", "")

	end := time.Now().Add(5 * time.Second).UTC()
	short := p.web(t, p.token(t, "soon-over", "--scope", "all", "--expires", end.Format(time.RFC3339Nano)))
	eventually.OK(t, patience, func() error {
		before := time.Now()
		got, err := short.send(http.MethodGet, "/v1/databases", "")
		switch {
		case err != nil:
			return err
		case got.status == http.StatusOK && before.After(end):
			t.Errorf("it is good at %v, after %v", before, end)
			return nil
		case got.status != http.StatusUnauthorized:
			return errNotYet(got.status)
		case time.Now().Before(end.Truncate(time.Second)):
			t.Errorf("it is over before %v", end)
		}
		return nil
	})
	says(t, p.do(t, "audit"), "token.revoke", "token.create")
	if text := p.do(t, "audit", "--json") + p.do(t, "tokens", "--json"); token.MatchString(text) {
		t.Error("a token is shown again")
	}
}

// What an agent enrols for is one proxy of one database, and it may do nothing else, with its certificate or its token.
func TestCertificateOfAnAgentOpensNothingElse(t *testing.T) {
	t.Parallel()
	p, _, admin := newShop(t)
	admin.gets(t, http.StatusCreated, "POST "+endpointPath, "", nil)
	admin.gets(t, http.StatusCreated, "POST /v1/databases/shop/proxies", `{"name": "edge"}`, nil)
	var enrolment struct {
		Token     string
		ControlCA string `json:"control_ca"`
	}
	admin.gets(t, http.StatusCreated, "POST /v1/agents", `{"database": "shop", "proxy": "edge"}`, &enrolment)
	once := p.web(t, enrolment.Token)
	for _, request := range []string{"GET /v1/databases", "GET " + endpointPath, "GET " + rulesPath, "GET /v1/agent/stream"} {
		once.refused(t, http.StatusForbidden, request, "")
	}
	key, request := newRequest(t)
	var certified struct{ Certificate string }
	once.gets(t, http.StatusCreated, "POST /v1/agent/enroll", request, &certified)
	_, again := newRequest(t)
	once.gets(t, http.StatusUnauthorized, "POST /v1/agent/enroll", again, nil) // a token works once

	pair, err := tls.X509KeyPair([]byte(certified.Certificate), key)
	if err != nil {
		t.Fatal(err)
	}
	agent := p.web(t, "")
	agent.certify = &pair
	agent.connect(t, enrolment.ControlCA)
	for _, request := range []string{"GET /v1/databases", "GET " + endpointPath, "GET " + rulesPath, "POST " + rulesPath, "GET " + certsPath, "GET /v1/databases/shop", "GET /v1/audit", "GET /v1/tokens", "GET /v1/snapshot", "POST /v1/agents"} {
		agent.refused(t, http.StatusForbidden, request, "")
	}
	agent.gets(t, http.StatusNoContent, "POST /v1/agent/reports", "{}", nil)

	var agents []fields
	admin.gets(t, http.StatusOK, "GET /v1/agents", "", &agents)
	if len(agents) != 1 || agents[0].text("proxy") != "edge" {
		t.Fatalf("got %v", agents)
	}
	admin.gets(t, http.StatusNoContent, "DELETE /v1/agents/"+agents[0].text("id"), "", nil)
	agent.refused(t, http.StatusUnauthorized, "POST /v1/agent/reports", "")

	// A client certificate of a database's CA is nobody to the API.
	client := p.download(t, nil, "shop", "")
	if pair, err = tls.LoadX509KeyPair(client.files+"postgresql.crt", client.files+"postgresql.key"); err != nil {
		t.Fatal(err)
	}
	stranger := p.web(t, "")
	stranger.certify = &pair
	stranger.connect(t, readFile(t, filepath.Join(p.Dir, "control-ca.pem")))
	if got, err := stranger.send(http.MethodGet, "/v1/databases", ""); err == nil && got.status != http.StatusUnauthorized {
		t.Errorf("a client of a database gets %d %s", got.status, got.body)
	}
}

// newRequest makes a key, and the body with which an agent enrols it.
func newRequest(t testing.TB) (keyPEM []byte, body string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), string(text)
}
