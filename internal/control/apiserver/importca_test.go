package apiserver

import (
	"testing"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/testkit/testpki"
)

// refusesConstrainedCA imports a CA that may not issue what the space needs: it is the caller's fault, and the active one stays.
func (p *plane) refusesConstrainedCA(t *testing.T, path, active string) {
	t.Helper()
	constrained := testpki.Authority("constrained")
	constrained.PermittedDNS = []string{"elsewhere.example"}
	pair, err := testpki.MustNewCA(t, constrained).Pair()
	if err != nil {
		t.Fatal(err)
	}
	p.refused(422, api.InvalidParams, ask{method: "POST", path: path + "/import", token: p.admin, body: api.ImportCA{Certificate: string(pair.CertPEM), PrivateKey: string(pair.KeyPEM)}})
	var list []api.Authority
	p.must(200, ask{method: "GET", path: path, token: p.reader}, &list)
	if list[0].ID != active || list[0].State != api.ActiveCA {
		t.Errorf("the authorities are %+v", list)
	}
}
