package e2e

import (
	"io"
	"net"
	"path/filepath"
	"testing"
)

// A server that takes the connection and is silent, or ends before a byte of its own: whatever moves the bytes, the client reads
// 57P03, and the next client finds room.
func TestServerThatNeverBeginsIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(net.Conn){
		"silent":                 func(conn net.Conn) { io.Copy(io.Discard, conn) },
		"closes at once":         func(net.Conn) {},
		"closes behind a packet": func(conn net.Conn) { conn.Read(make([]byte, 10000)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(shortDir(t), "s")
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						serve(conn)
					}()
				}
			}()
			t.Cleanup(func() { listener.Close(); <-served })
			p := start(t, options{Backend: "unix:" + path, Config: map[string]any{
				"limits":  map[string]any{"sessions": 1},
				"backend": map[string]any{"address": "unix:" + path, "first_byte_timeout": "300ms"},
			}})
			for range 3 {
				w := dial(t, p).negotiate(t, clientTLS("app"))
				w.send(t, asPostgres())
				if e := w.fatal(t); e.Code != "57P03" {
					t.Errorf("the client reads %s %s", e.Code, e.Message)
				}
				p.waitSessions(t, 0) // its slot comes back
			}
			if n := p.metric(t, `pgmtls_refusals_total{reason="backend_unavailable"}`); n != 3 {
				t.Errorf("%v are counted, want 3", n)
			}
		})
	}
}
