package session

import (
	"strings"
	"testing"
	"testing/synctest"

	"pgmtls-proxy/internal/testkit/testpki"
	"pgmtls-proxy/internal/tlsconf"
)

func identified(c *Config) { c.IdentitySettings = true }

// heardFor is what the server reads of a client that sends the packet.
func (w *world) heardFor(certificate *testpki.Pair, packet []byte) string {
	w.t.Helper()
	c := w.connect(home)
	c.handshake(certificate)
	c.send(packet)
	c.want(loginAnswer)
	c.leave()
	w.wait()
	return string(w.database.heard())
}

func TestServerIsToldWhoTheClientIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, identified)
		packet := startupPacket("user", "app", "options", "-c a=b --pgmtls.client-addr=192.0.2.1", "pgmtls.client_serial", "00")
		want := startupPacket("user", "app", "options", "-c a=b -c pgmtls.client_addr=203.0.113.7 -c pgmtls.client_subject=CN=app"+
			" -c pgmtls.client_serial="+tlsconf.FormatSerial(pki().app.Cert.SerialNumber))
		if heard := w.heardFor(pki().app, packet); !strings.HasPrefix(heard, string(want)) {
			t.Errorf("the server reads %q, want %q", heard, want)
		}
	})
}

func TestClientWithoutACertificateCannotClaimOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, identified)
		w.apply("2", bothIn, "client_auth: optional", "client_ca: [ca.pem]")
		packet := startupPacket("user", "app", "options", "-c pgmtls.client_subject=CN=boss")
		want := startupPacket("user", "app", "options", "-c pgmtls.client_addr=203.0.113.7 -c pgmtls.client_subject= -c pgmtls.client_serial=")
		if heard := w.heardFor(nil, packet); !strings.HasPrefix(heard, string(want)) {
			t.Errorf("the server reads %q, want %q", heard, want)
		}
	})
}

// The subject gives way to what the client sends; its address and serial do not, and nobody is dialled without them.
func TestFullStartupPacketLeavesRoomForTheIdentityOrIsRefused(t *testing.T) {
	long := pki().ca.MustIssue(panicking{}, always(testpki.Client(strings.Repeat("a long name ", 30))))
	const limit, own = 10000, len("options\x00-c pgmtls.client_addr=203.0.113.7 -c pgmtls.client_subject= -c pgmtls.client_serial=\x00")
	frame := len(startupPacket("user", "app", "x", "")) - 4
	serial := len(tlsconf.FormatSerial(long.Cert.SerialNumber))
	filled := func(room int) []byte {
		return startupPacket("user", "app", "x", strings.Repeat("x", limit-frame-own-serial-room))
	}
	for name, row := range map[string]struct {
		room    int
		subject int // bytes
	}{
		"all of it":    {1000, len("CN=") + 12*30},
		"some of it":   {400, maxField},
		"none of it":   {0, 0},
		"no room left": {-1, -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, identified)
				if row.subject < 0 {
					c := w.connect(home)
					c.handshake(long)
					c.send(filled(row.room))
					c.wantFatal("08P01", "startup packet is too long")
					c.leave()
					w.wait()
					w.database.untouched()
					return
				}
				heard := w.heardFor(long, filled(row.room))
				_, rest, _ := strings.Cut(heard, "client_subject=")
				subject, _, _ := strings.Cut(rest, " -c ")
				if n := len(strings.ReplaceAll(subject, `\`, "")); n != row.subject {
					t.Errorf("the subject has %d bytes, want %d: %q", n, row.subject, subject)
				}
			})
		})
	}
}

func TestSubjectIsPlainText(t *testing.T) {
	for text, want := range map[string]string{"CN=app": "CN=app", "CN=bücher\x00\n\xff": "CN=b?cher???", "0123456789abcdef": "0123456789ab"} {
		if got := plain(text, 12); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
