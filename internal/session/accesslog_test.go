package session

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// hostile is what a client writes into every field that it can choose, behind a mark: control characters, an escape
// sequence, a right-to-left override, a line of its own, and more than anybody wants to read.
func hostile(mark string, size int) string {
	var controls strings.Builder
	for c := rune(1); c < 0x20; c++ {
		controls.WriteRune(c)
	}
	text := mark + "\x1b[2J\u202e\r\n{\"level\":\"error\"}\x7f\u0085\u2028\xff" + controls.String()
	return text + strings.Repeat("A", size-len(text))
}

func TestHostileNamesStayOneCleanLine(t *testing.T) {
	for name, size := range map[string]int{"short": 200, "long": 40_000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				// A certificate's name must be UTF-8.
				template := always(testpki.Client(strings.ToValidUTF8(hostile("common-name", size), "?")))
				certificate := pki().ca.MustIssue(t, template)
				config := clientTLS(certificate)
				config.InsecureSkipVerify = true
				config.ServerName = hostile("server-name", min(size, 6_000))
				startup := startupPacket("user", hostile("user", min(size, 3000)), "database", hostile("database", min(size, 3000)),
					"application_name", hostile("application", min(size, 3000)))

				served := w.connect(home)
				served.handshakeWith(config)
				served.send(startup)
				served.want(loginAnswer)
				served.leave()
				synctest.Wait()

				w.apply("2", bothIn, "identities: [{subject_cn: somebody, users: [else]}]")
				denied := w.connect(home)
				denied.handshakeWith(config)
				denied.send(startup)
				answer := denied.fatal()
				denied.leave()
				<-denied.over

				outsider := w.connect(outside)
				outsider.send(startup)
				far := outsider.fatal()
				outsider.leave()
				<-outsider.over

				events := w.journal.events(t)
				if len(events) != 3 {
					t.Fatalf("%d events, want 3", len(events))
				}
				for _, event := range events[:2] {
					for _, field := range []string{"certificate", "sni", "user", "database", "application"} {
						text, _ := event[field].(string)
						if !strings.Contains(text, `\x1b[2J\u202e\r\n{`) || !strings.Contains(text, `}\x7f\u0085\u2028`) || len(text) > 4*maxField+3 {
							t.Errorf("%s is logged as %d bytes %q", field, len(text), text)
						}
					}
				}
				wantClean(t, w.journal.text(), "log")
				for _, text := range []string{answer.Message, answer.Detail, answer.Hint, far.Message, far.Detail, far.Hint} {
					wantClean(t, text+"\n", "answer")
					if len(text) > 4096 {
						t.Errorf("an answer has %d bytes", len(text))
					}
				}
			})
		})
	}
}

// wantClean accepts lines of printable UTF-8 of bounded length.
func wantClean(t *testing.T, text, what string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("the %s is not UTF-8", what)
	}
	for line := range strings.Lines(text) {
		if len(line) > 8192 {
			t.Errorf("a line of the %s has %d bytes", what, len(line))
		}
		for _, r := range strings.TrimSuffix(line, "\n") {
			if !unicode.IsPrint(r) {
				t.Errorf("the %s has the character %U: %q", what, r, line)
				break
			}
		}
	}
}

// Canaries stand where secrets do; none of them may be in the log, whatever becomes of the connection.
func TestSecretsAreNeverLogged(t *testing.T) {
	const canary = "CANARY"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		startup := startupPacket("user", "app", "options", "-c my.secret="+canary, "_pq_.token", canary, "password", canary)
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startup)
		c.want(loginAnswer)
		c.send([]byte(message('p', canary+"\x00")))
		c.want(queryAnswer)
		c.send([]byte(message('Q', "select '"+canary+"'\x00")))
		c.want(queryAnswer)
		w.connect(home).asked(cancelPacket(theKey.PID, canary))
		w.connect(office).asked(cancelPacket(theKey.PID, string(theKey.Secret)))
		w.connect(home).asked(cancelPacket(theKey.PID, string(theKey.Secret)))
		c.wire.Reset()
		c.work.Wait()

		plain := w.connect(home)
		plain.send(startup)
		plain.fatal()
		plain.leave()
		<-plain.over
		w.database.refuse = func(context.Context) error { return errPlanted }
		down := w.connect(home)
		down.handshake(pki().app)
		down.send(startup)
		down.fatal()
		down.leave()
		<-down.over
		w.wait()

		log := w.journal.text()
		if n := len(w.journal.events(t)); n != 6 {
			t.Fatalf("%d events, want 6:\n%s", n, log)
		}
		for _, secret := range []string{canary, "Ke", "4711", "secret", "PRIVATE"} {
			if strings.Contains(log, secret) {
				t.Errorf("%q is in the log:\n%s", secret, log)
			}
		}
	})
}

func TestEventSaysWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app", "database", "shop", "application_name", "psql"))
		c.want(loginAnswer)
		pass(90 * time.Second)
		c.leave()
		w.wait()
		event := w.last()
		for field, want := range map[string]any{
			"level": "info", "outcome": "served", "end": "client_closed", "addr": home.String(), "user": "app", "database": "shop",
			"application": "psql", "sni": "db.test", "certificate": "CN=app", "serial": serial(pki().app), "rule": "home", "policy": "1",
			"tls": "TLS 1.3", "direct_tls": false, "to_client_bytes": float64(len(loginAnswer)), "to_server_bytes": 0.0, "message": "connection",
		} {
			if event[field] != want {
				t.Errorf("%s is %v, want %v", field, event[field], want)
			}
		}
		if took, _ := event["duration_ms"].(float64); took < 90_000 || took > 91_000 {
			t.Errorf("duration_ms is %v", event["duration_ms"])
		}
		if _, there := event["suppressed"]; there {
			t.Error("suppressed, of nothing")
		}
	})
}

func TestFloodOfRefusalsIsThinnedOutAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sampler
		passed := 0
		for range 1000 {
			if _, ok := s.pass(refusal.TLSRequired); ok {
				passed++
			}
		}
		if passed != refusalEventsBurst {
			t.Errorf("%d of 1,000 at once are logged, want %d", passed, refusalEventsBurst)
		}
		if _, ok := s.pass(refusal.AddressNotAllowed); !ok {
			t.Error("another reason is suppressed with it")
		}
		pass(time.Second)
		if n, ok := s.pass(refusal.TLSRequired); !ok || n != 1000-refusalEventsBurst {
			t.Errorf("after a second: %v, with %d suppressed, want %d", ok, n, 1000-refusalEventsBurst)
		}
		if n, ok := s.pass(refusal.TLSRequired); !ok || n != 0 {
			t.Errorf("the suppressed are told twice: %v, %d", ok, n)
		}
	})
}

func TestFloodOfLostClientsIsThinnedOutToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		lose := func() {
			c := w.connect(home)
			c.send([]byte{0})
			c.leave()
			<-c.over
		}
		for range refusalEventsBurst + 30 {
			lose()
		}
		if n := len(w.journal.events(t)); n != refusalEventsBurst {
			t.Errorf("%d events, want %d", n, refusalEventsBurst)
		}
		pass(time.Second)
		lose()
		if w.last()["suppressed"] != 30.0 {
			t.Errorf("the next event is %v, want 30 suppressed", w.last())
		}
	})
}

func TestBackendErrorIsForTheLogAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.database.refuse = func(context.Context) error { return errPlanted }
		c := w.connect(home)
		c.handshakeWith(&tls.Config{InsecureSkipVerify: true, GetClientCertificate: clientTLS(pki().app).GetClientCertificate})
		c.send(startupPacket("user", "app"))
		answer := c.wantFatal("57P03", "the database system is not available")
		c.leave()
		<-c.over
		if strings.Contains(answer.Detail+answer.Hint, "planted") {
			t.Errorf("the client reads %q", answer.Detail)
		}
		if e := w.last(); e["error"] != "planted" || e["level"] != "error" || w.metric("backend_dial_errors_total") != 1 {
			t.Errorf("logged as %v", e)
		}
	})
}
