package e2e

import (
	"fmt"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// libpq is the distribution's psql with the client library of a later PostgreSQL.
func libpq(t *testing.T, major int) pgtest.Client {
	t.Helper()
	return pgtest.Client{LibDir: pgtest.Embedded(t, major).LibDir}
}

func TestDirectTLSOfLibpq(t *testing.T) {
	t.Parallel()
	for _, major := range []int{17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			client := libpq(t, major)
			server(t)
			p := start(t, options{})
			for negotiation, direct := range map[string]bool{"direct": true, "postgres": false} {
				for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
					name := negotiation + "_" + version
					mustAnswer(t, p.run(t, client, fmt.Sprintf("sslnegotiation=%s ssl_max_protocol_version=%s application_name=%s", negotiation, version, name), "-c", querySQL))
					var found event
					eventually.OK(t, patience, func() error {
						found = p.log.find(func(e event) bool { return e.text("application") == name })
						if found == nil {
							return eventually.ErrNotYet
						}
						return nil
					})
					if found["direct_tls"] != direct {
						t.Errorf("%s: the log has direct_tls %v", name, found["direct_tls"])
					}
				}
			}
			// The refusals are as readable as ever.
			result := p.run(t, client, "sslnegotiation=direct "+clientCertificate(""), "-c", querySQL)
			if text, _ := spoken(result.Stderr); text != (told{"", "", invalidCertificate, "The client sent no certificate.", noCertificateHint}).shown() {
				t.Errorf("psql shows %s", text)
			}
			interrupt(t, p, server(t), client, "sslnegotiation=direct")
		})
	}
}

// Newer clients through the proxy to newer servers: login, query and Ctrl-C.
func TestServersAndLibpqOfLaterVersions(t *testing.T) {
	t.Parallel()
	for _, major := range []int{17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			install := pgtest.Embedded(t, major)
			s := pgtest.Start(t, pgtest.Options{Install: install})
			p := start(t, options{Backend: "unix:" + s.SocketPath})
			p.succeeds(t, "") // the distribution's libpq
			client := pgtest.Client{LibDir: install.LibDir}
			mustAnswer(t, p.run(t, client, "", "-c", querySQL))
			interrupt(t, p, s, client, "")
		})
	}
}

// Protocol 3.2 has cancel keys of up to 256 bytes; PostgreSQL 18 sends 32.
func TestProtocol32AndItsLongCancelKeys(t *testing.T) {
	t.Parallel()
	install := pgtest.Embedded(t, 18)
	s := pgtest.Start(t, pgtest.Options{Install: install})
	p := start(t, options{Backend: "unix:" + s.SocketPath})
	client := pgtest.Client{LibDir: install.LibDir}

	const newest = "min_protocol_version=3.2 max_protocol_version=3.2"
	mustAnswer(t, p.run(t, client, newest, "-c", querySQL))
	interrupt(t, p, s, client, newest)
	interrupt(t, p, s, client, newest+" sslnegotiation=direct")

	w := dial(t, p).negotiate(t, clientTLS("app"))
	key := w.login(t, startup(protocol32, "user", "postgres", "database", "postgres"))
	if len(key.secret) != 32 {
		t.Fatalf("the cancel key has %d bytes, want 32", len(key.secret))
	}
	w.send(t, query("select pg_sleep(600) as long_key"))
	waitQuery(t, s, "long_key", 1)
	short := dial(t, p)
	short.send(t, cancelKey{key.pid, key.secret[:4]}.packet())
	short.closed(t)
	p.waitMetric(t, `pgmtls_cancel_requests_total{result="denied"}`, 1)
	waitQuery(t, s, "long_key", 1)
	whole := dial(t, p)
	whole.send(t, key.packet())
	whole.ended(t)
	sleeper{wire: w}.isCancelled(t)
	w.Close()
}

// An older server negotiates a newer client down: what it says passes, and the client goes on.
func TestOlderServerNegotiatesTheProtocolDown(t *testing.T) {
	t.Parallel()
	server(t)
	p := start(t, options{})
	for _, minor := range []uint32{2, 9999} {
		w := dial(t, p).negotiate(t, clientTLS("app"))
		w.send(t, startup(3<<16|minor, "user", "postgres", "database", "postgres", "_pq_.grease", "1"))
		if kind, body := w.message(t); kind != 'v' {
			t.Errorf("3.%d: the server begins with %q %q, want NegotiateProtocolVersion", minor, kind, body)
		}
		w.login(t, nil)
		w.Close()
	}
	client := libpq(t, 18)
	mustAnswer(t, p.run(t, client, "max_protocol_version=latest", "-c", querySQL))
}
