package e2e

import "testing"

func TestSmoke(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	p.succeeds(t, "")
	text, ids := p.refused(t, clientCertificate(""))
	t.Log(text, ids)
	t.Log(p.connection(t, ids[0]))
}
