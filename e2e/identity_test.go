package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// whoAmI is a query for what the server knows of the client.
const whoAmI = "select current_setting('pgmtls.client_addr'), current_setting('pgmtls.client_subject'), current_setting('pgmtls.client_serial'), current_setting('e2e.canary', true) is not null"

func identifying(t *testing.T) map[string]any {
	t.Helper()
	return map[string]any{"backend": map[string]any{"address": "unix:" + server(t).SocketPath, "identity_settings": true}}
}

func TestSessionCanAskWhoItsClientIs(t *testing.T) {
	t.Parallel()
	p := start(t, options{Config: identifying(t)})
	want := "127.0.0.1|CN=app|" + pki.serial("app") + "|t\n"
	for name, options := range map[string]string{
		"nothing":       "",
		"a switch":      `-c pgmtls.client_addr=192.0.2.1 -cpgmtls.client_subject=CN=boss --pgmtls.client-serial=00`,
		"another case":  `-c PgMTLS.Client_Addr=192.0.2.1`,
		"behind others": `-ecpgmtls.client_addr=192.0.2.1`,
		"an escape":     `-c e2e.text=a\ b\\c\ `,
	} {
		client := pgtest.Client{Env: []string{"PGAPPNAME=claims " + name}}
		result := p.run(t, client, "options='-c e2e.canary=x "+strings.ReplaceAll(options, `\`, `\\`)+"'", "-c", whoAmI)
		if result.ExitCode != 0 || result.Stdout != want {
			t.Errorf("a client that claims %s: psql prints %q %s, want %q", name, result.Stdout, result.Stderr, want)
		}
	}
	result := p.psql(t, "options='-c e2e.text=a\\\\ b\\\\\\\\c'", "-c", "select current_setting('e2e.text')")
	if result.Stdout != "a b\\c\n" {
		t.Errorf("the client's own setting is %q %s", result.Stdout, result.Stderr)
	}
	result = p.psql(t, "", "-c", "set pgmtls.client_addr = 'elsewhere'; reset pgmtls.client_addr", "-c", "show pgmtls.client_addr")
	if !strings.HasSuffix(result.Stdout, "127.0.0.1\n") {
		t.Errorf("after a reset: %q %s", result.Stdout, result.Stderr)
	}
}

func TestSessionKnowsNothingOfItsClientUnlessAsked(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	if result := p.psql(t, "", "-c", "select current_setting('pgmtls.client_addr', true) is null"); result.Stdout != "t\n" {
		t.Errorf("psql prints %q %s", result.Stdout, result.Stderr)
	}
}

// The example of docs/install.md.
func TestAuditTriggerOfTheDocumentation(t *testing.T) {
	t.Parallel()
	s := server(t)
	s.Query(t, "create schema audited")
	s.Query(t, "set search_path = audited; "+documentedSQL(t))
	p := start(t, options{Config: identifying(t)})
	result := p.psql(t, "options='-c search_path=audited'", "-q", "-c", "insert into orders values (1, 'tea')", "-c", "select action, client_addr, client_subject, client_serial from orders_audit")
	if want := "INSERT|127.0.0.1|CN=app|" + pki.serial("app") + "\n"; result.ExitCode != 0 || result.Stdout != want {
		t.Errorf("psql prints %q %s, want %q", result.Stdout, result.Stderr, want)
	}
}

// documentedSQL is the example of an audit trigger.
func documentedSQL(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, example := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(example[1], "create trigger note_client") {
			return example[1]
		}
	}
	t.Fatal("docs/install.md has no audit trigger")
	return ""
}
