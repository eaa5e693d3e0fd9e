package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/pgwire"
)

var cancelPacket = pgwire.CancelPacket(pgwire.Key{PID: 4711, Secret: []byte("planted-secret")})

func TestCancelSendsThePacketVerbatimOverTheSameTransport(t *testing.T) {
	got := make(chan string, 1)
	take := func(conn net.Conn) {
		packet := make([]byte, len(cancelPacket))
		io.ReadFull(conn, packet)
		got <- string(packet)
	}
	for name, target := range map[string]*Target{
		"unix": target(t, "unix", take),
		"tcp":  target(t, "tcp", take),
		"tls":  withTLS(target(t, "tcp", answering(t, "S", inTLS(take)))),
	} {
		if err := target.Cancel(t.Context(), cancelPacket); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if packet := <-got; packet != string(cancelPacket) {
			t.Errorf("%s: the server gets %q", name, packet)
		}
	}
}

func TestCancelWaitsForTheServersClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(conn net.Conn) {
			io.ReadFull(conn, make([]byte, len(cancelPacket)))
			pause(7 * time.Second) // beyond the connect timeout
		}
		start := time.Now()
		if err := piped(slow).Cancel(t.Context(), cancelPacket); err != nil || time.Since(start) != 7*time.Second {
			t.Errorf("Cancel gives %v after %v, want nil after 7s", err, time.Since(start))
		}
	})
}

func TestCancelIsBounded(t *testing.T) {
	silent := func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, len(cancelPacket)))
		stay(conn)
	}
	for _, row := range []struct {
		name string
		play server
		of   time.Duration // the caller's bound
		want time.Duration
	}{
		{"by itself", silent, time.Hour, cancelTimeout},
		{"by its caller", silent, 3 * time.Second, 3 * time.Second},
		{"when nobody reads", func(net.Conn) { pause(time.Minute) }, time.Hour, cancelTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), row.of)
			defer cancel()
			start := time.Now()
			err := piped(row.play).Cancel(ctx, cancelPacket)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != row.want {
				t.Errorf("%s: Cancel gives %v after %v, want the deadline after %v", row.name, err, time.Since(start), row.want)
			}
			if strings.Contains(err.Error(), "planted-secret") {
				t.Errorf("%s: error %q holds the key", row.name, err)
			}
			pause(time.Minute) // for the server's part to end
		})
	}
}

func TestServerThatAnswersACancelIsNotPostgreSQL(t *testing.T) {
	err := target(t, "tcp", echo).Cancel(t.Context(), cancelPacket)
	if err == nil || !strings.Contains(err.Error(), "the server sent an answer") {
		t.Errorf("error is %v", err)
	}
}

func TestProbeOfAServer(t *testing.T) {
	shaken := make(chan bool, 1)
	plain := target(t, "tcp", answering(t, "N", func(conn net.Conn) {
		if n, _ := io.Copy(io.Discard, conn); n > 0 {
			t.Errorf("the probe sent %d bytes after N", n)
		}
	}))
	offers := target(t, "tcp", answering(t, "S", inTLS(func(conn net.Conn) {
		_, err := conn.Read(make([]byte, 1))
		shaken <- err == io.EOF
	})))
	if err := plain.Probe(t.Context()); err != nil {
		t.Errorf("a server without TLS: %v", err)
	}
	if err := offers.Probe(t.Context()); err != nil || !<-shaken {
		t.Errorf("a server that offers TLS gives %v, or saw no orderly end", err)
	}
	if err := withTLS(offers).Probe(t.Context()); err != nil || !<-shaken {
		t.Errorf("a server that we use TLS with gives %v, or saw no orderly end", err)
	}
}

func TestProbeOfSomethingElseIsAnError(t *testing.T) {
	for name, target := range map[string]*Target{
		"closes":          target(t, "tcp", answering(t, "", leave)),
		"is a web server": target(t, "tcp", answering(t, "HTTP/1.1 400", leave)),
		"has no TLS":      withTLS(target(t, "tcp", answering(t, "N", leave))),
	} {
		if err := target.Probe(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "probe backend 127.0.0.1:") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestProbeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := piped(stay).Probe(t.Context())
		wantTimeout(t, err, "probe backend db.test:5432: SSLRequest: ")
	})
}
