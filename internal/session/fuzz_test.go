package session

import (
	"io"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/pgwire"
)

// Whatever a client opens with in plaintext: nothing breaks, nobody is dialled, nothing is left.
func FuzzConnection(f *testing.F) {
	ssl, gss := request(pgwire.SSLRequestCode), request(pgwire.GSSENCRequestCode)
	for _, seed := range [][]byte{
		nil, {0}, {0x16}, ssl, gss,
		append(append([]byte{}, gss...), ssl...), append(append([]byte{}, ssl...), ssl...), append(append([]byte{}, gss...), gss...),
		append(append([]byte{}, ssl...), 0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0),
		{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0}, {0x16, 3, 1, 0xff, 0xff, 0, 0, 0},
		startupPacket("user", "app"), startupPacket("user", "app", "user", "b"), startupPacket(),
		cancelPacket(4711, "\x01\xfeKe"), cancelPacket(1, ""), cancelPacket(1, string(make([]byte, 300))),
		{0, 0, 0, 0, 0, 3, 0, 0}, {0, 0, 0, 4, 0, 3, 0, 0}, {0, 0, 0, 7, 0, 3, 0, 0}, {0, 0, 0x27, 0x15, 0, 3, 0, 0},
		{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0}, {0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0}, {0, 0, 0, 8, 0, 2, 0, 0},
		[]byte("GET / HTTP/1.0\r\n\r\n"), []byte("\x00\x00\x00\x0e\x00\x03\x00\x00-c=\x00\x00\x00"),
	} {
		f.Add(seed)
	}
	w := newWorld(f, func(c *Config) { c.StartupTimeout = time.Minute })
	f.Fuzz(func(t *testing.T, opening []byte) {
		w.t = t
		w.database.t = t
		c := w.connect(home)
		c.t = t
		c.work.Go(func() {
			c.wire.Write(opening)
			c.wire.CloseWrite()
		})
		io.Copy(io.Discard, c.wire)
		c.leave()
		<-c.over
		w.wait()
		w.database.untouched()
		if strings.Contains(w.journal.text(), `"panic"`) || len(w.sessions.admission.handshakeSlots) != 0 {
			t.Errorf("it broke, or something is left: %s", w.journal.text())
		}
		w.journal.reset()
	})
}

// reset forgets the log.
func (j *journal) reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = nil
}
