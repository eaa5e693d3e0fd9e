package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/testpki"
)

// told is what a client is told, and the name under which the log has it.
type told struct{ reason, sqlState, message, detail, hint string }

// shown is how psql prints it.
func (r told) shown() string {
	text := "FATAL:  " + r.message + " (connection ID)"
	if r.detail != "" {
		text += "\nDETAIL:  " + r.detail
	}
	if r.hint != "" {
		text += "\nHINT:  " + r.hint
	}
	return text
}

const (
	invalidCertificate = "connection requires a valid client certificate"
	renewHint          = "Download the current client certificate of this database."
	noCertificateHint  = "Set sslcert and sslkey to a client certificate of this database and its key. If they are set, the file does not exist, or the client " +
		`held the certificate back: it has to be issued by "CN=Space CA", and its key can't be RSA-PSS or secp256k1.`
)

// tlsRequired is what plaintext is told, unless something else stands in the way already.
var tlsRequired = told{"tls_required", "28000", "connection requires TLS", "",
	"Connect with sslmode=require or stricter, and with sslcert and sslkey if a client certificate is needed."}

// refused is a client that must not come in.
type refusedClient struct {
	name   string
	client string // certificate
	user   string // empty: postgres
	policy func(*policy)
	config map[string]any
	before func(*testing.T, *proxy) // makes the situation
	down   bool                     // there is no backend
	every  bool                     // try every sslmode, not only the usual ones
	noPsql bool                     // libpq's own OpenSSL doesn't let the client come so far
	plain  *told                    // what plaintext is told; nil: tlsRequired
	want   told
}

// detailOf is how a detail begins that is about a client's certificate.
func detailOf(client string) string {
	cert := pki.clients[client].Cert
	return fmt.Sprintf("Client certificate \"CN=%s\" (serial %s, valid until %s)", client, serialText(cert), utc(cert.NotAfter))
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func refusedClients(t *testing.T) []refusedClient {
	address := told{"address_not_allowed", "28000", `no allowlist entry for host "127.0.0.1", user "postgres", database "postgres"`, "",
		"The connection comes from the IPv4 address 127.0.0.1. Add 127.0.0.1/32 to the database's IP rules."}
	return []refusedClient{
		{name: "address", client: "app", policy: nobody, every: true, plain: &address, want: address},
		{name: "no rules", client: "app", policy: func(p *policy) { p.IPRules = []ipRule{} }, plain: &address, want: address},
		{name: "rule expired", client: "app", policy: func(p *policy) { p.IPRules[0].ExpiresAt = "2020-01-01T00:00:00Z" }, plain: &address, want: address},
		{name: "no certificate", every: true, want: told{"no_client_certificate", "28000", invalidCertificate,
			"The client sent no certificate.", noCertificateHint}},
		{name: "expired", client: "expired", want: told{"certificate_expired", "28000", invalidCertificate, detailOf("expired") + " has expired.", renewHint}},
		{name: "not yet valid", client: "early", want: told{"certificate_not_yet_valid", "28000", invalidCertificate,
			detailOf("early") + " is not valid before " + utc(pki.clients["early"].Cert.NotBefore) + ".",
			"Check the client's certificate, and the clocks of the client's issuer and of this server."}},
		{name: "revoked by serial", client: "revoked", policy: func(p *policy) { p.Revoked = []string{pki.serial("revoked")} },
			want: told{"certificate_revoked", "28000", invalidCertificate, detailOf("revoked") + " has been revoked.", renewHint}},
		{name: "revoked by list", client: "revoked", policy: withCRL, before: putCRL(testpki.CRL{Revoked: []*big.Int{pki.clients["revoked"].Cert.SerialNumber}}),
			want: told{"certificate_revoked", "28000", invalidCertificate, detailOf("revoked") + " has been revoked.", renewHint}},
		{name: "stale list", client: "app", policy: withCRL, before: putCRL(staleCRL),
			want: told{"revocation_unknown", "28000", invalidCertificate,
				detailOf("app") + " can't be checked: the revocation list of \"CN=Space CA\" is out of date since " + utc(staleCRL.NextUpdate) + ".",
				"The server can't tell whether the certificate has been revoked. Its operator has to renew the revocation list (CRL)."}},
		{name: "stranger", client: "stranger", want: told{"certificate_unknown_ca", "28000", invalidCertificate,
			detailOf("stranger") + ` was issued by "CN=Strangers", which this server does not trust.`,
			"Use a client certificate that was issued for this database, with its intermediate certificates."}},
		{name: "purpose", client: "purpose", want: told{"certificate_wrong_purpose", "28000", invalidCertificate,
			detailOf("purpose") + " is not for TLS clients: its extended key usage lacks clientAuth.", "Use a certificate issued for TLS client authentication."}},
		{name: "weak key", client: "weak", noPsql: true, want: told{"certificate_weak_key", "28000", invalidCertificate,
			detailOf("weak") + " is too weak: its RSA key has 1024 bits, not 2048 to 4096.",
			"Use an ECDSA P-256, P-384 or P-521, an Ed25519, or an RSA key of 2048 to 4096 bits."}},
		{name: "issued by a leaf", client: "grandchild", want: told{"certificate_unknown_ca", "28000", invalidCertificate,
			detailOf("grandchild") + ` was issued by "CN=app", which this server does not trust.`,
			"Use a client certificate that was issued for this database, with its intermediate certificates."}},
		{name: "too deep", client: "deep", want: told{"certificate_invalid", "28000", invalidCertificate,
			detailOf("deep") + ` has more CAs above it than "CN=Flat" allows (path length).`, "Use a client certificate that was issued for this database."}},
		{name: "another's user", client: "other", policy: func(p *policy) { p.Identities = []identity{{SubjectCN: "app", Users: []string{"postgres"}}} },
			want: told{"user_not_allowed", "28000", `certificate authentication failed for user "postgres"`,
				`Client certificate "CN=other" (serial ` + pki.serial("other") + ") is not for this database.", "Use a client certificate that was issued for this database."}},
		{name: "too many sessions", client: "app", config: limits("sessions", 1), before: occupy,
			want: told{"too_many_sessions", "53300", "sorry, too many clients already", "", "Try again later."}},
		{name: "too many sessions from here", client: "app", config: limits("sessions_per_address", 1), before: occupy,
			want: told{"too_many_sessions_from_address", "53300", "sorry, too many clients already", "", "Close unused connections from this address."}},
		{name: "backend down", client: "app", down: true, every: true, want: told{"backend_unavailable", "57P03", "the database system is not available", "",
			"The gate is up, but the database behind it does not answer. Try again later."}},
	}
}

var staleCRL = testpki.CRL{ThisUpdate: time.Now().Add(-48 * time.Hour), NextUpdate: time.Now().Add(-24 * time.Hour)}

func withCRL(p *policy) { p.ClientCRL = []string{"space-crl.pem"} }

// putCRL writes the revocation list, which the policy names and which is not there yet.
func putCRL(list testpki.CRL) func(*testing.T, *proxy) {
	return func(t *testing.T, p *proxy) {
		writeFile(t, p.policyFile("space-crl.pem"), pki.spaceCA.MustCRL(t, list))
		p.edit(t, func(*policy) {})
	}
}

func limits(name string, n int) map[string]any {
	return map[string]any{"limits": map[string]any{name: n}}
}

// occupy takes the one place that there is.
func occupy(t *testing.T, p *proxy) {
	dial(t, p).negotiate(t, clientTLS("app")).login(t, asPostgres())
}

// Each refusal is tried with psql and with two drivers' views of the wire, in both versions of TLS and under the
// sslmodes; what psql prints is compared word for word. None of it may reach the backend.
func TestEachRefusalIsReadable(t *testing.T) {
	for _, c := range refusedClients(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			backend := record(t)
			o := options{Backend: backend.Address, Config: c.config, Policy: c.policy}
			if c.down {
				o.Backend = "unix:/nonexistent/.s.PGSQL.5432"
			}
			p := launch(t, o)
			if c.before == nil {
				eventually.OK(t, patience, p.ready)
			} else {
				c.before(t, p)
			}
			dials := backend.dials()
			if c.user == "" {
				c.user = "postgres"
			}
			if !c.noPsql {
				c.asPsqlShowsIt(t, p, "TLSv1.2")
				c.asPsqlShowsIt(t, p, "TLSv1.3")
			}
			c.asTheWireHasIt(t, p, tls.VersionTLS12)
			c.asTheWireHasIt(t, p, tls.VersionTLS13)
			c.asPgconnReadsIt(t, p)
			if n := backend.dials(); n != dials {
				t.Errorf("the backend was dialled %d times by clients that were refused", n-dials)
			}
		})
	}
}

// asPsqlShowsIt tries the sslmodes. Under prefer libpq comes again in plaintext, unless the code was 57P03; under allow
// it comes in plaintext first.
func (c *refusedClient) asPsqlShowsIt(t *testing.T, p *proxy, version string) {
	t.Helper()
	plain := tlsRequired
	if c.plain != nil {
		plain = *c.plain
	}
	afterTLS := []told{c.want, plain}
	if c.want.sqlState == "57P03" {
		afterTLS = afterTLS[:1]
	}
	modes := map[string][]told{"verify-full": {c.want}, "prefer": afterTLS}
	if c.every {
		modes["require"], modes["verify-ca"] = []told{c.want}, []told{c.want}
		modes["allow"], modes["disable"] = []told{plain, c.want}, []told{plain}
	}
	for mode, want := range modes {
		conninfo := fmt.Sprintf("sslmode=%s ssl_min_protocol_version=%s ssl_max_protocol_version=%s user=%s %s", mode, version, version, c.user, clientCertificate(c.client))
		got, ids := p.refused(t, conninfo)
		var lines []string
		for _, answer := range want {
			lines = append(lines, answer.shown())
		}
		if expected := strings.Join(lines, "\n"); got != expected {
			t.Errorf("%s, sslmode=%s: psql shows\n%s\nwant\n%s", version, mode, got, expected)
			continue
		}
		for i, answer := range want {
			e := p.connection(t, ids[i])
			if e.text("outcome") != "refused" || e.text("refusal") != answer.reason {
				t.Errorf("%s, sslmode=%s: the log has %v, want refusal %s", version, mode, e, answer.reason)
			}
		}
	}
}

// asTheWireHasIt reads the fields that psql does not print.
func (c *refusedClient) asTheWireHasIt(t *testing.T, p *proxy, version uint16) {
	t.Helper()
	config := clientTLS(c.client)
	config.MinVersion, config.MaxVersion = version, version
	w := dial(t, p).negotiate(t, config)
	w.send(t, startup(protocol30, "user", c.user, "database", "postgres"))
	e := w.fatal(t)
	got := told{c.want.reason, e.Code, withoutID(e.Message), e.Detail, e.Hint}
	if got != c.want {
		t.Errorf("%s: the client reads %+v, want %+v", tls.VersionName(version), got, c.want)
	}
	if logged := p.connection(t, idOf(t, e.Message)); logged.text("tls") != tls.VersionName(version) {
		t.Errorf("the log has %v, want %s", logged, tls.VersionName(version))
	}
}

// asPgconnReadsIt asks a driver.
func (c *refusedClient) asPgconnReadsIt(t *testing.T, p *proxy) {
	t.Helper()
	conninfo := fmt.Sprintf("host=127.0.0.1 port=%s user=%s dbname=postgres sslmode=verify-full sslrootcert=%s", p.port(), c.user, pki.root("private"))
	if c.client != "" {
		conninfo += " " + clientCertificate(c.client)
	}
	conn, err := pgconn.Connect(t.Context(), conninfo)
	if err == nil {
		conn.Close(t.Context())
		t.Fatal("pgconn came in")
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || e.Code != c.want.sqlState {
		t.Errorf("pgconn gives %v, want SQLSTATE %s", err, c.want.sqlState)
	}
}
