package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// passage is a way in which a connection comes and goes.
type passage struct {
	name string
	pass func(*testing.T, *proxy)
}

// passages are all of them: served, refused for each reason that a client can bring about, given up by either side in each
// phase.
func passages() []passage {
	var list []passage
	add := func(name string, pass func(*testing.T, *proxy)) { list = append(list, passage{name, pass}) }
	for _, o := range openings() {
		add(o.name, func(t *testing.T, p *proxy) {
			w := dial(t, p)
			o.begin(t, w)
			if o.want.reason == "" {
				w.login(t, nil)
				w.send(t, goodbye)
			}
			io.Copy(io.Discard, w) // to the end, whatever it says
			w.Close()
			w.socket.Close()
		})
	}
	for client := range pki.clients {
		add("certificate "+client, func(t *testing.T, p *proxy) {
			if _, err := p.visit(clientTLS(client)); err == nil && client != "app" && client != "other" && client != "below" {
				t.Errorf("the client %q came in", client)
			}
		})
	}
	add("no certificate", func(t *testing.T, p *proxy) { p.staysOut(t, "", invalidCertificate) })
	add("another user", func(t *testing.T, p *proxy) {
		w := dial(t, p).negotiate(t, clientTLS("app"))
		w.send(t, startup(protocol30, "user", "somebody"))
		w.fatal(t)
	})
	add("another address", func(t *testing.T, p *proxy) {
		w := dialFrom(t, p, "127.0.0.2")
		if _, err := w.Write(asPostgres()); err == nil {
			io.Copy(io.Discard, w)
		}
		w.socket.Close()
	})
	add("probe", func(t *testing.T, p *proxy) { dial(t, p).socket.Close() })
	add("cancel", func(t *testing.T, p *proxy) {
		w := dial(t, p).negotiate(t, clientTLS("app"))
		key := w.login(t, asPostgres())
		canceller := dial(t, p)
		canceller.send(t, key.packet())
		canceller.closed(t)
		canceller.socket.Close()
		w.send(t, goodbye)
		w.ended(t)
		w.socket.Close()
	})
	for _, r := range resets() {
		add("reset "+r.name, func(t *testing.T, p *proxy) {
			w := dial(t, p)
			r.begin(t, w)
			w.socket.SetLinger(0) // a close is a reset now
			w.socket.Close()
		})
		add("half-close "+r.name, func(t *testing.T, p *proxy) {
			w := dial(t, p)
			r.begin(t, w)
			w.socket.CloseWrite()
			io.Copy(io.Discard, w.socket)
			w.socket.Close()
		})
	}
	return list
}

// resets are the phases of a connection in which its client goes away without a word.
func resets() []opening {
	inTLS := then(asking(sslRequest, byte('S')), handshaking(clientTLS("app")))
	loggedIn := then(inTLS, func(t *testing.T, w *wire) { w.login(t, asPostgres()) })
	inside := func(sql string, answer byte) func(*testing.T, *wire) {
		return then(loggedIn, sending(query(sql)), func(t *testing.T, w *wire) {
			if kind, body := w.message(t); kind != answer {
				t.Errorf("message %q %q, want %q", kind, body, answer)
			}
		})
	}
	return []opening{
		{name: "before a byte", begin: func(*testing.T, *wire) {}},
		{name: "in SSLRequest", begin: sending(sslRequest[:5])},
		{name: "after GSSENCRequest", begin: asking(gssRequest, byte('N'))},
		{name: "after SSLRequest", begin: asking(sslRequest, byte('S'))},
		{name: "in the ClientHello", begin: then(asking(sslRequest, byte('S')), sending([]byte{0x16, 3, 1, 2, 0, 1}))},
		{name: "behind the ServerHello", begin: then(asking(sslRequest, byte('S')), func(t *testing.T, w *wire) {
			stopping, errStopped := clientTLS(""), errors.New("stopped")
			stopping.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return nil, errStopped }
			if err := w.handshake(stopping); !errors.Is(err, errStopped) {
				t.Errorf("the handshake ends with %v", err)
			}
		})},
		{name: "after the handshake", begin: inTLS},
		{name: "in the startup packet", begin: then(inTLS, sending(asPostgres()[:20]))},
		{name: "in the login", begin: then(inTLS, sending(asPostgres()))},
		{name: "in a plaintext startup packet", begin: sending(asPostgres()[:20])},
		{name: "in a cancel request", begin: sending(recorderKey.packet()[:12])},
		{name: "in a session", begin: loggedIn},
		{name: "in a query", begin: then(loggedIn, sending(query("select pg_sleep(600) /* left */")))},
		{name: "in a result", begin: inside("select repeat('x', 1000), generate_series(1, 100000)", 'T')},
		{name: "in a COPY from it", begin: inside("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout", 'H')},
		{name: "in a COPY to it", begin: then(inside("create temp table copied (line text); copy copied from stdin", 'C'), func(t *testing.T, w *wire) {
			w.message(t) // CopyInResponse
			w.send(t, append([]byte{'d', 0, 0, 0, 9}, "line\n"...))
		})},
	}
}

// After more than a thousand connections of every kind, four at a time, the process has the goroutines and the descriptors
// that it had after one of each.
func TestNoConnectionLeavesAnythingBehind(t *testing.T) {
	t.Parallel()
	const workers, rounds = 4, 3
	s := server(t)
	p := start(t, options{Policy: func(first *policy) {
		first.IPRules[0].CIDR = "127.0.0.1/32"
		first.Revoked = []string{pki.serial("revoked")}
		first.Identities = []identity{{SubjectCN: "app", Users: []string{"postgres"}}, {SubjectCN: "other", Users: []string{"postgres"}}, {SubjectCN: "below", Users: []string{"postgres"}}}
	}})
	each := func(t *testing.T) {
		for _, passage := range passages() {
			passage.pass(t, p)
		}
	}
	each(t)
	before := p.settled(t)
	t.Run("workers", func(t *testing.T) {
		for n := range workers {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				for range rounds {
					each(t)
				}
			})
		}
	})
	eventually.OK(t, patience, func() error {
		if after := p.settled(t); after.goroutines > before.goroutines || after.descriptors > before.descriptors {
			return fmt.Errorf("%+v, but %+v before", after, before)
		}
		return nil
	})
	waitQuery(t, s, "/* left */", 0)
	connections := p.metric(t, "pgmtls_connections_total")
	if connections < 1000 {
		t.Errorf("there were %v connections", connections)
	}
	for _, reason := range []string{
		"unencrypted_data", "protocol_violation", "unsupported_protocol", "tls_required", "tls_handshake_failed", "alpn_missing",
		"address_not_allowed", "no_client_certificate", "certificate_expired", "certificate_not_yet_valid", "certificate_revoked",
		"certificate_unknown_ca", "certificate_wrong_purpose", "certificate_weak_key", "certificate_invalid", "user_missing",
		"user_not_allowed", "cancel_denied",
	} {
		if p.refusals(t, reason) == 0 {
			t.Errorf("nobody was refused for %s", reason)
		}
	}
	t.Logf("%v connections, of which %v sessions; %+v before, %+v after", connections,
		p.metric(t, "pgmtls_session_seconds_count"), before, p.settled(t))
}

// holdings are what a process holds.
type holdings struct{ goroutines, descriptors float64 }

// settled waits until no connection is open, and gives what the process holds then.
func (p *proxy) settled(t *testing.T) holdings {
	t.Helper()
	p.waitSessions(t, 0)
	p.waitMetric(t, "pgmtls_unfinished_connections", 0)
	return holdings{p.metric(t, "go_goroutines"), p.metric(t, "process_open_fds")}
}
