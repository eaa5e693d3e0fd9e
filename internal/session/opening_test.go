package session

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/testkit/testpki"
)

// Every opening order that leads into TLS is served, and what reaches the server is the startup packet, byte for byte.
func TestEveryOpeningOrderIsServed(t *testing.T) {
	gss, ssl := request(pgwire.GSSENCRequestCode), request(pgwire.SSLRequestCode)
	for name, open := range map[string]func(c *client){
		"SSLRequest": func(c *client) { c.handshake(pki().app) },
		"GSSENCRequest, then SSLRequest": func(c *client) {
			c.send(gss)
			c.want("N")
			c.handshake(pki().app)
		},
		"direct TLS": func(c *client) { c.direct(clientTLS(pki().app)) },
		"direct TLS, and both requests inside": func(c *client) {
			c.direct(clientTLS(pki().app))
			c.send(ssl)
			c.want("N")
			c.send(gss)
			c.want("N")
		},
		"TLS 1.2": func(c *client) {
			config := clientTLS(pki().app)
			config.MaxVersion = tls.VersionTLS12
			c.handshakeWith(config)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				c := w.connect(home)
				open(c)
				startup := startupPacket("user", "app", "_pq_.unheard_of", "1", "options", "-c x=y")
				c.send(startup)
				c.want(loginAnswer)
				if heard := w.database.heard(); string(heard) != string(startup) {
					t.Errorf("the server reads %q, want %q", heard, startup)
				}
				c.leave()
			})
		})
	}
}

// direct shakes hands without an SSLRequest.
func (c *client) direct(config *tls.Config) {
	c.t.Helper()
	secured := tls.Client(c.wire, config)
	if err := secured.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.tls = secured
}

// Who is refused reads why, is counted under one name, and the server never hears of it.
func TestRefusedClientsReadWhyAndNobodyIsDialled(t *testing.T) {
	startup := startupPacket("user", "app", "database", "shop")
	gss, ssl := request(pgwire.GSSENCRequestCode), request(pgwire.SSLRequestCode)
	for _, row := range []struct {
		name     string
		from     netip.Addr
		policy   string
		act      func(c *client)
		reason   string
		sqlState string // empty: nothing is said
		message  string
	}{
		{"plaintext", home, "", func(c *client) { c.send(startup) }, "tls_required", "28000", "connection requires TLS"},
		{"plaintext from outside", outside, "", func(c *client) { c.send(startup) },
			"address_not_allowed", "28000", `no allowlist entry for host "192.0.2.200", user "app", database "shop"`},
		{"TLS from outside", outside, "", inTLS(pki().app, startup),
			"address_not_allowed", "28000", `no allowlist entry for host "192.0.2.200", user "app", database "shop"`},
		{"no certificate", home, "", inTLS(nil, startup), "no_client_certificate", "28000", "connection requires a valid client certificate"},
		{"a stranger's certificate", home, "", inTLS(pki().foreign, startup), "certificate_unknown_ca", "28000", "connection requires a valid client certificate"},
		{"a revoked certificate", home, "revoked: ['" + serial(pki().app) + "']", inTLS(pki().app, startup),
			"certificate_revoked", "28000", "connection requires a valid client certificate"},
		{"another user's certificate", home, "identities: [{subject_cn: app, users: [app]}]", inTLS(pki().other, startup),
			"user_not_allowed", "28000", `certificate authentication failed for user "app"`},
		{"no user", home, "", inTLS(pki().app, startupPacket("database", "shop")),
			"user_missing", "28000", "no PostgreSQL user name specified in startup packet"},
		{"protocol 2", home, "", inTLS(pki().app, []byte("\x00\x00\x00\x08\x00\x02\x00\x00")),
			"unsupported_protocol", "0A000", "unsupported frontend protocol 2.0: server supports 3.0 and later"},
		{"a length of 2^31-1", home, "", inTLS(pki().app, []byte("\x7f\xff\xff\xff\x00\x03\x00\x00")),
			"protocol_violation", "08P01", "invalid length of startup packet"},
		{"two users", home, "", inTLS(pki().app, startupPacket("user", "app", "user", "postgres")),
			"protocol_violation", "08P01", `invalid startup packet: parameter "user" given twice`},
		{"SSLRequest inside TLS", home, "", inTLS(pki().app, ssl), "protocol_violation", "08P01", "encryption was requested twice"},
		{"GSSENCRequest twice", home, "", func(c *client) {
			c.send(gss)
			c.want("N")
			c.send(gss)
		}, "protocol_violation", "08P01", "encryption was requested twice"},
		{"a long SSLRequest", home, "", func(c *client) { c.send([]byte("\x00\x00\x00\x09\x04\xd2\x16\x2f")) },
			"protocol_violation", "08P01", "invalid length of startup packet"},
		{"another protocol in direct TLS", home, "", func(c *client) {
			config := clientTLS(pki().app)
			config.NextProtos = nil
			c.direct(config)
		}, "alpn_missing", "", ""},
		{"a certificate that is none", home, "", func(c *client) {
			config := clientTLS(pki().app)
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{[]byte("hello")}, PrivateKey: pki().app.Key}, nil
			}
			c.direct(config)
		}, "certificate_unreadable", "", ""},
		{"no TLS behind S", home, "", func(c *client) {
			c.send(ssl)
			c.want("S")
			c.send([]byte("GET / HTTP/1.0\r\n\r\n"))
		}, "tls_handshake_failed", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				if row.policy != "" {
					w.apply("2", bothIn, row.policy)
				}
				c := w.connect(row.from)
				row.act(c)
				var told string
				if row.sqlState == "" {
					<-c.over
					c.wantNoFatal()
				} else {
					told = c.wantFatal(row.sqlState, row.message).Message
				}
				c.leave()
				<-c.over
				if conn := w.last()["conn"].(string); told != "" && !strings.HasSuffix(told, "(connection "+conn+")") {
					t.Errorf("%q does not name the connection as the log does: %s", told, conn)
				}
				w.database.untouched()
				if got := w.last()["refusal"]; got != row.reason || w.refused(row.reason) != 1 {
					t.Errorf("logged as %v and counted %d times, want %s once", got, w.refused(row.reason), row.reason)
				}
				if n := w.metric("sessions"); n != 0 {
					t.Errorf("%v sessions are left", n)
				}
			})
		})
	}
}

func serial(p *testpki.Pair) string {
	text := p.Cert.SerialNumber.Text(16)
	if len(text)%2 == 1 {
		text = "0" + text
	}
	var pairs []string
	for ; len(text) > 0; text = text[2:] {
		pairs = append(pairs, text[:2])
	}
	return strings.Join(pairs, ":")
}

func inTLS(certificate *testpki.Pair, packet []byte) func(c *client) {
	return func(c *client) {
		c.handshake(certificate)
		c.send(packet)
	}
}

func TestWithoutAPolicyEverybodyReadsThatThereIsNone(t *testing.T) {
	for name, act := range map[string]func(c *client){
		"SSLRequest": func(c *client) { c.send(request(pgwire.SSLRequestCode)) },
		"plaintext":  func(c *client) { c.send(startupPacket("user", "app")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.sessions.config.Policy = &policy.Live{}
				c := w.connect(home)
				act(c)
				c.wantFatal("57P03", "the database system is not accepting connections")
				c.leave()
				<-c.over
				if w.refused("no_policy") != 1 {
					t.Error("not counted")
				}
				w.database.untouched()
			})
		})
	}
}

func TestPeerThatLeavesWithoutAByteIsAProbe(t *testing.T) {
	for name, leave := range map[string]func(c *client){
		"FIN": func(c *client) { c.wire.Close() },
		"RST": func(c *client) { c.wire.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				c := w.connect(home)
				synctest.Wait()
				leave(c)
				<-c.over
				if w.metric("probes_total") != 1 || w.last()["level"] != "debug" || w.last()["outcome"] != "probe" {
					t.Errorf("logged as %v", w.last())
				}
			})
		})
	}
}

func TestClientThatLeavesInTheMiddleIsNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.send([]byte{0, 0, 0})
		c.leave()
		<-c.over
		if w.metric("probes_total") != 0 || w.last()["outcome"] != "client_lost" {
			t.Errorf("logged as %v", w.last())
		}
	})
}
