package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Clients of the API that take no CA file, such as Terraform's providers, find the CA where docs/clients.md says.
func TestClientsTakeTheCAOfTheAPIFromTheEnvironment(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	token := strings.TrimSpace(readFile(t, filepath.Join(p.Dir, "admin.token")))
	ca := filepath.Join(p.Dir, "control-ca.pem")
	document := readFile(t, "../../docs/clients.md")
	const fetch = `fetch(process.env.PGMTLS_URL + "/v1/databases", { headers: { authorization: "Bearer " + process.env.PGMTLS_TOKEN } })
		.then((answer) => answer.text()).then(console.log).catch((e) => { console.log(String(e.cause)); process.exitCode = 1 })`
	for _, client := range []struct {
		variable, want string
		command        []string
	}{
		{"SSL_CERT_FILE", "There are no databases yet", []string{pgmtlsPath, "databases"}}, // a Go program, as Terraform is
		{"NODE_EXTRA_CA_CERTS", "[]", []string{"node", "-e", fetch}},                       // as Heroku's command line is
	} {
		t.Run(client.variable, func(t *testing.T) {
			if !strings.Contains(document, "`"+client.variable+"=/etc/app/control-ca.pem`") {
				t.Errorf("the document does not name %s", client.variable)
			}
			k := &kitchen{dir: t.TempDir()}
			base := append(os.Environ(), raceOptions, "HOME="+k.dir, "PGMTLS_URL="+p.url(t), "PGMTLS_TOKEN="+token)
			if _, err := k.run(t, []string{client.command[0], "--version"}); err != nil && client.command[0] != pgmtlsPath {
				t.Skipf("there is no %s here", client.command[0])
			}
			k.env = base
			if output, err := k.run(t, client.command); err == nil || !strings.Contains(output, "certificate") {
				t.Errorf("without the CA: %v: %s", err, output)
			}
			k.env = append(base, client.variable+"="+ca)
			if output, err := k.run(t, client.command); err != nil || !strings.Contains(output, client.want) {
				t.Errorf("with the CA: %v: %s", err, output)
			}
		})
	}
}
