package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// opening is a way to begin a connection, and what comes of it.
type opening struct {
	name  string
	begin func(*testing.T, *wire)
	// want is what the client is told; without a SQLSTATE it is told nothing, and without a reason it is served.
	want told
}

// The beginnings of openings.
func asking(answers ...any) func(*testing.T, *wire) {
	return func(t *testing.T, w *wire) {
		for i := 0; i < len(answers); i += 2 {
			w.ask(t, answers[i].([]byte), answers[i+1].(byte))
		}
	}
}

func sending(packets ...[]byte) func(*testing.T, *wire) {
	return func(t *testing.T, w *wire) { w.send(t, slices.Concat(packets...)) }
}

func handshaking(config *tls.Config) func(*testing.T, *wire) {
	return func(t *testing.T, w *wire) { w.secure(t, config) }
}

// then does one thing after the other.
func then(steps ...func(*testing.T, *wire)) func(*testing.T, *wire) {
	return func(t *testing.T, w *wire) {
		for _, step := range steps {
			step(t, w)
		}
	}
}

// announcing is a packet's first eight bytes.
func announcing(length, code uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, length), code)
}

func violation(message string) told {
	return told{"protocol_violation", "08P01", message, "", protocolHint}
}

const (
	protocolHint = "This port speaks the PostgreSQL protocol."
	badLength    = "invalid length of startup packet"
	attackHint   = "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."
)

func openings() []opening {
	good, inTLS := clientTLS("app"), then(asking(sslRequest, byte('S')), handshaking(clientTLS("app")))
	direct := handshaking(good)
	version2, version4 := uint32(2<<16), uint32(4<<16|1)
	twice := violation("encryption was requested twice")
	unsupported := func(version string) told {
		return told{"unsupported_protocol", "0A000", "unsupported frontend protocol " + version + ": server supports 3.0 and later", "", "Connect with protocol version 3.0 or later."}
	}
	list := []opening{
		{"SSL", then(inTLS, sending(asPostgres())), told{}},
		{"GSS, SSL", then(asking(gssRequest, byte('N')), inTLS, sending(asPostgres())), told{}},
		{"direct TLS", then(direct, sending(asPostgres())), told{}},
		{"direct TLS, SSL and GSS once more inside", then(direct, asking(sslRequest, byte('N'), gssRequest, byte('N')), sending(asPostgres())), told{}},
		{"SSL without ALPN, as before libpq 17", then(asking(sslRequest, byte('S')), handshaking(offering(good)), sending(asPostgres())), told{}},

		{"plaintext", sending(asPostgres()), tlsRequired},
		{"GSS, plaintext", then(asking(gssRequest, byte('N')), sending(asPostgres())), tlsRequired},
		{"GSS twice", then(asking(gssRequest, byte('N')), sending(gssRequest)), twice},
		{"SSL twice", then(asking(sslRequest, byte('S')), sending(sslRequest)), told{reason: "tls_handshake_failed"}},
		{"SSL inside", then(inTLS, sending(sslRequest)), twice},
		{"GSS inside", then(inTLS, sending(gssRequest)), twice},
		{"direct TLS, SSL twice inside", then(direct, asking(sslRequest, byte('N')), sending(sslRequest)), twice},
		{"direct TLS, GSS twice inside", then(direct, asking(gssRequest, byte('N')), sending(gssRequest)), twice},
		{"direct TLS without ALPN", handshaking(offering(good)), told{reason: "alpn_missing"}},
		{"a cancel of nobody", sending(recorderKey.packet()), told{reason: "cancel_denied"}},
		{"a cancel of nobody in TLS", then(inTLS, sending(recorderKey.packet())), told{reason: "cancel_denied"}},
		{"HTTP", sending([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")), violation(badLength)},
		{"version 2 in plaintext", sending(announcing(16, version2), make([]byte, 8)), unsupported("2.0")},
		{"version 2", then(inTLS, sending(announcing(16, version2), make([]byte, 8))), unsupported("2.0")},
		{"version 4.1", then(inTLS, sending(startup(version4, "user", "postgres"))), unsupported("4.1")},
		{"a long SSLRequest", sending(announcing(9, 80877103), []byte{0}), violation(badLength)},
		{"a cancel without a key", sending(announcing(12, 80877102), []byte{0, 0, 0, 1}), told{reason: "protocol_violation"}},
		{"no user", then(inTLS, sending(startup(protocol30, "database", "postgres"))),
			told{"user_missing", "28000", "no PostgreSQL user name specified in startup packet", "", ""}},
		{"two users", then(inTLS, sending(startup(protocol30, "user", "postgres", "user", "app"))),
			told{"protocol_violation", "08P01", `invalid startup packet: parameter "user" given twice`, "",
				"The connection string, the driver's properties or a service file set it more than once. Keep one."}},
		{"no terminator", then(inTLS, sending(append(asPostgres(), 'x')[:len(asPostgres())-1], []byte{'x'})),
			violation("invalid startup packet layout: expected terminator as last byte")},
	}
	for _, length := range []uint32{0, 4, 7, 10005, 1<<31 - 1, 1<<32 - 1} {
		want := violation(badLength)
		if length == 10005 { // what a client may mean, rather than another protocol
			want.detail = "The startup packet has 10005 bytes. PostgreSQL and this server take 10004."
			want.hint = "Shorten the parameters of the connection: options, application_name, and others that the driver sends."
		}
		list = append(list,
			opening{fmt.Sprintf("startup of %d bytes in plaintext", length), sending(announcing(length, protocol30)), want},
			opening{fmt.Sprintf("startup of %d bytes", length), then(inTLS, sending(announcing(length, protocol30))), want})
	}
	return append(list, stuffed()...)
}

// offering is a configuration with another list of protocols.
func offering(config *tls.Config, protocols ...string) *tls.Config {
	changed := config.Clone()
	changed.NextProtos = protocols
	return changed
}

// stuffed are the openings in which somebody puts plaintext behind a request for encryption, to have it taken for the
// client's (CVE-2021-23214): what a login would send, cut or repeated to the size.
func stuffed() []opening {
	var list []opening
	for _, size := range []int{1, 8, 100, 4096} {
		more := bytes.Repeat(slices.Concat(asPostgres(), query("select 1")), 4096/len(asPostgres())+1)[:size]
		list = append(list,
			opening{fmt.Sprintf("%d bytes with SSL", size), sending(sslRequest, more),
				told{"unencrypted_data", "08P01", "received unencrypted data after SSL request", "", attackHint}},
			opening{fmt.Sprintf("%d bytes with GSS", size), sending(gssRequest, more),
				told{"unencrypted_data", "08P01", "received unencrypted data after GSSAPI encryption request", "", attackHint}},
			opening{fmt.Sprintf("%d bytes behind SSL, then TLS", size), func(t *testing.T, w *wire) {
				w.ask(t, sslRequest, 'S')
				w.send(t, more)
				if w.handshake(clientTLS("app")) == nil {
					t.Error("the handshake succeeds behind plaintext")
				}
			}, told{reason: "tls_handshake_failed"}})
	}
	return list
}

// Every order in which a connection can open, against a backend that records: it sees those that are served, byte for
// byte, and of the others nothing.
func TestEachOpeningHasOneOutcome(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address})
	served := 0
	for _, o := range openings() {
		t.Run(o.name, func(t *testing.T) {
			before := p.log.count(refusedFor(o.want.reason))
			w := dial(t, p)
			o.begin(t, w)
			switch {
			case o.want.reason == "":
				w.login(t, nil)
				served++
				if got := backend.connection(t, served-1, len(asPostgres())).text(); !bytes.Equal(got, asPostgres()) {
					t.Errorf("the backend has received %q", got)
				}
				w.Close()
				return
			case o.want.sqlState == "":
				w.closed(t)
				w.vanish()
			default:
				e := w.fatal(t)
				if got := (told{o.want.reason, e.Code, withoutID(e.Message), e.Detail, e.Hint}); got != o.want {
					t.Errorf("the client reads %+v, want %+v", got, o.want)
				}
				if logged := p.connection(t, idOf(t, e.Message)); logged.text("refusal") != o.want.reason {
					t.Errorf("the log has %v", logged)
				}
			}
			eventually.OK(t, patience, func() error {
				if p.log.count(refusedFor(o.want.reason)) == before {
					return fmt.Errorf("the log has no more of %s", o.want.reason)
				}
				return nil
			})
			if n := backend.dials(); n != served {
				t.Errorf("the backend was dialled %d times", n-served)
			}
		})
	}
}

// refusedFor fits events of connections that were refused for the reason.
func refusedFor(reason string) func(event) bool {
	return func(e event) bool { return e.text("refusal") == reason }
}

// Direct TLS for another protocol fails in the handshake, so that nothing of one protocol is ever read as another (ALPACA).
func TestDirectTLSForAnotherProtocolFailsTheHandshake(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address})
	for _, protocols := range [][]string{{"http/1.1"}, {"h2", "http/1.1"}, {"postgres"}} {
		w := dial(t, p)
		if err := w.handshake(offering(clientTLS("app"), protocols...)); err == nil {
			t.Errorf("the handshake for %v succeeds", protocols)
		}
		w.vanish()
	}
	p.waitMetric(t, `pgmtls_refusals_total{reason="tls_handshake_failed"}`, 3)
}

// A load balancer that looks whether somebody listens is neither an error nor worth a line of the log.
func TestConnectionWithoutAByteIsAQuietProbe(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address})
	for range 3 {
		dial(t, p).vanish()
	}
	p.waitMetric(t, "pgmtls_probes_total", 3)
	probe := func(e event) bool { return e.text("outcome") == "probe" && e.text("level") == "debug" }
	eventually.OK(t, patience, func() error {
		if n := p.log.count(probe); n != 3 {
			return fmt.Errorf("%d probes are logged at debug level", n)
		}
		return nil
	})
	if n := p.log.count(func(e event) bool { return e.text("conn") != "" && !probe(e) }); n != 0 {
		t.Errorf("%d events are something else than a probe", n)
	}
}

// The startup packet is the server's to judge: minor versions and options that nobody knows yet pass as they are.
func TestUnknownMinorVersionAndOptionsReachTheServerUntouched(t *testing.T) {
	t.Parallel()
	backend := record(t)
	p := start(t, options{Backend: backend.Address})
	for i, version := range []uint32{protocol30, 3<<16 | 1, protocol32, 3<<16 | 9999} {
		packet := startup(version, "user", "postgres", "_pq_.grease", "1", "options", "-c e2e.canary="+canaryOptions, "_pq_.x", "")
		dial(t, p).negotiate(t, clientTLS("app")).login(t, packet)
		if got := backend.connection(t, i, len(packet)).text(); !bytes.Equal(got, packet) {
			t.Errorf("version 3.%d: the server received %q, want %q", version&0xffff, got, packet)
		}
	}
}
