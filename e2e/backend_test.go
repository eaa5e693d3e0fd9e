package e2e

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/testkit/pgtest"
)

// overTLS is a proxy.yaml whose backend is the package's PostgreSQL, reached by TLS.
func overTLS(t *testing.T, change map[string]any) options {
	backend := map[string]any{
		"address": fmt.Sprintf("127.0.0.1:%d", server(t).Port),
		"tls":     "verify-full", "ca": pki.root("backend"), "server_name": backendName,
	}
	for key, value := range change {
		if backend[key] = value; value == nil {
			delete(backend, key)
		}
	}
	return options{Config: map[string]any{"backend": backend}}
}

// howItCame asks PostgreSQL how the proxy has reached it.
const howItCame = "select coalesce(host(client_addr), 'socket'), ssl, coalesce(client_dn, '') from pg_stat_activity join pg_stat_ssl using (pid) where pid = pg_backend_pid()"

func TestBackendIsReachedInEveryWay(t *testing.T) {
	t.Parallel()
	stem := filepath.Join(t.TempDir(), "proxy")
	if err := pki.toPG.Write(stem); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		options options
		user    string
		want    string
	}{
		"unix socket":                {options{}, "postgres", "socket|f|\n"},
		"TCP":                        {options{Backend: fmt.Sprintf("127.0.0.1:%d", server(t).Port)}, "postgres", "127.0.0.1|f|\n"},
		"TCP by name":                {options{Backend: fmt.Sprintf("localhost:%d", server(t).Port)}, "postgres", "127.0.0.1|f|\n"},
		"verify-full":                {overTLS(t, nil), "postgres", "127.0.0.1|t|\n"},
		"verify-full by the address": {overTLS(t, map[string]any{"server_name": nil}), "postgres", "127.0.0.1|t|\n"},
		"verify-ca, another name":    {overTLS(t, map[string]any{"tls": "verify-ca", "server_name": "other.test"}), "postgres", "127.0.0.1|t|\n"},
		"require":                    {overTLS(t, map[string]any{"tls": "require", "ca": nil}), "postgres", "127.0.0.1|t|\n"},
		"client certificate":         {overTLS(t, map[string]any{"cert": stem + ".crt", "key": stem + ".key"}), "proxied", "127.0.0.1|t|/CN=proxied\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, c.options)
			result := p.psql(t, "user="+c.user, "-c", howItCame)
			if result.Stdout != c.want {
				t.Errorf("PostgreSQL says %q %s, want %q", result.Stdout, result.Stderr, c.want)
			}
		})
	}
}

// Whoever answers in PostgreSQL's place gets nothing, not even the startup packet.
func TestBackendThatCannotBeVerifiedIsDown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options options
		log     string
	}{
		"another CA":            {overTLS(t, map[string]any{"ca": pki.root("private")}), "unknown authority"},
		"another CA, verify-ca": {overTLS(t, map[string]any{"ca": pki.root("private"), "tls": "verify-ca"}), "unknown authority"},
		"another name":          {overTLS(t, map[string]any{"server_name": "other.test"}), "other.test"},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, c.options)
			text, ids := p.refused(t, "")
			if !strings.HasPrefix(text, "FATAL:  the database system is not available (connection ID)") {
				t.Errorf("psql shows %s", text)
			}
			if e := p.connection(t, ids[0]); e.text("level") != "error" || !strings.Contains(e.text("error"), c.log) {
				t.Errorf("the log has %v, want an error with %q", e, c.log)
			}
			if strings.Contains(text, "127.0.0.1") {
				t.Errorf("the client learns where the backend is: %s", text)
			}
			if p.metric(t, "pgmtls_backend_dial_errors_total") != 1 {
				t.Error("the dial's error is not counted")
			}
		})
	}
}

// 57P03 makes libpq try the next host of its list; the first proxy's backend is down.
func TestLibpqTriesTheNextHostWhenTheBackendIsDown(t *testing.T) {
	t.Parallel()
	server(t)
	down := start(t, options{Backend: "unix:/nonexistent/.s.PGSQL.5432"})
	up := start(t, options{})
	hosts := fmt.Sprintf("host=%[1]s,%[1]s hostaddr=127.0.0.1,127.0.0.1 port=%s,%s", privateName, down.port(), up.port())
	for _, mode := range []string{"verify-full", "prefer"} {
		up.succeeds(t, hosts+" sslmode="+mode)
	}
	if n := down.refusals(t, "backend_unavailable"); n != 2 {
		t.Errorf("the first proxy has refused %v, want 2", n)
	}
}

// SCRAM binds a login to the certificate that the client sees. It works where PostgreSQL sees no TLS or the same
// certificate, and where the client leaves the binding out; elsewhere the client reads why it doesn't.
func TestSCRAMWorksWithoutASecondCertificate(t *testing.T) {
	t.Parallel()
	same := overTLS(t, nil)
	same.Policy = func(p *policy) { p.Certificates = []servedPair{{Cert: "backend.crt", Key: "backend.key"}} }
	for name, c := range map[string]struct {
		options options
		binding []string
	}{
		"unix socket":                {options{}, []string{"prefer", "disable"}},
		"TCP":                        {options{Backend: fmt.Sprintf("127.0.0.1:%d", server(t).Port)}, []string{"prefer", "disable"}},
		"TLS, the same certificate":  {same, []string{"prefer", "disable", "require"}},
		"TLS, different certificate": {overTLS(t, nil), []string{"disable"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, c.options)
			for _, binding := range c.binding {
				for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
					conninfo := fmt.Sprintf("user=scram sslrootcert=%s channel_binding=%s ssl_max_protocol_version=%s", pki.root(serving(c.options)), binding, version)
					p.succeeds(t, conninfo)
				}
			}
		})
	}
}

// serving is the CA of the certificate that a proxy with the options serves.
func serving(o options) string {
	if o.Policy != nil {
		return "backend"
	}
	return "private"
}

const bindingHint = "HINT:  A TLS proxy is between this client and PostgreSQL, and the two connections use different certificates. " +
	"Connect with channel_binding=disable, or let the proxy connect to PostgreSQL over a unix socket or with the same certificate and key."

func TestChannelBindingErrorsAreExplained(t *testing.T) {
	t.Parallel()
	p := start(t, overTLS(t, nil))
	for _, binding := range []string{"prefer", "require"} {
		text, _ := p.refused(t, "user=scram channel_binding="+binding)
		if want := "FATAL:  SCRAM channel binding check failed\n" + bindingHint; text != want {
			t.Errorf("channel_binding=%s: psql shows\n%s\nwant\n%s", binding, text, want)
		}
	}

	// A client that would bind, and believes that the server can't: the server takes that for a downgrade. libpq does it
	// when -PLUS was taken out of the list on the way.
	w := dial(t, p).negotiate(t, clientTLS("app"))
	w.send(t, startup(protocol30, "user", "scram", "database", "postgres"))
	if kind, body := w.message(t); kind != 'R' || binary.BigEndian.Uint32(body) != pgproto3.AuthTypeSASL {
		t.Fatalf("the server asks %q %q, want SASL", kind, body)
	}
	first := pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("y,,n=,r=bm9uY2U")}
	packet, err := first.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.send(t, packet)
	e := w.fatal(t)
	if e.Code != "28000" || e.Message != "SCRAM channel binding negotiation error" || !strings.HasSuffix(e.Hint, strings.TrimPrefix(bindingHint, "HINT:  ")) {
		t.Errorf("the client reads %s %s, hint %s", e.Code, e.Message, e.Hint)
	}
}

// What else fails at PostgreSQL is PostgreSQL's own word.
func TestErrorsOfTheServerPassUnchanged(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := start(t, options{})
	for _, conninfo := range []string{"dbname=absent", "user=absent", "user=scram password=wrong"} {
		through, _ := p.refused(t, conninfo)
		direct, err := pgtest.Psql(t.Context(), nil, s.DSN()+" "+conninfo, "-c", querySQL)
		if err != nil {
			t.Fatal(err)
		}
		if _, want, _ := strings.Cut(direct.Stderr, "failed: "); through != strings.TrimSpace(want) {
			t.Errorf("%s: psql shows %s, without the proxy %s", conninfo, through, want)
		}
	}
}
