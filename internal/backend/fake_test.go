package backend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// pki is the server's side and the client's side of one CA.
var pki = sync.OnceValues(func() (server, client *tls.Config) {
	ca, err := testpki.NewCA(testpki.Authority("backend CA"))
	if err != nil {
		panic(err)
	}
	pair, err := ca.Issue(testpki.Server("db.test"))
	if err != nil {
		panic(err)
	}
	server = &tls.Config{Certificates: []tls.Certificate{pair.TLS()}, NextProtos: []string{"postgresql"}}
	client = &tls.Config{RootCAs: ca.Pool(), ServerName: "db.test", NextProtos: []string{"postgresql"}}
	client.Time = func() time.Time { return pair.Cert.NotAfter.Add(-time.Minute) } // whatever a fake clock says
	return server, client
})

// server plays a server's part on one connection; it is closed after it.
type server func(conn net.Conn)

// target is a server on loopback that plays the part for each connection, and the way to it. With network "unix" it
// is a socket in a directory of the test.
func target(t *testing.T, network string, play server) *Target {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), ".s.PGSQL.5432")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var playing sync.WaitGroup
	playing.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			playing.Go(func() {
				defer conn.Close()
				play(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		playing.Wait()
	})
	return &Target{Network: network, Address: l.Addr().String(), ConnectTimeout: 10 * time.Second}
}

// piped is a server on a pipe, for the tests with a fake clock.
func piped(play server) *Target {
	return &Target{Network: "tcp", Address: "db.test:5432", ConnectTimeout: 5 * time.Second,
		dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				play(far)
			}()
			return near, nil
		}}
}

func withTLS(target *Target) *Target {
	_, target.TLS = pki()
	return target
}

// answering reads an SSLRequest, sends the answer and goes on with the rest.
func answering(t *testing.T, answer string, rest server) server {
	return func(conn net.Conn) {
		request := make([]byte, 8)
		if _, err := io.ReadFull(conn, request); err != nil || !bytes.Equal(request, []byte{0, 0, 0, 8, 4, 210, 22, 47}) {
			t.Errorf("the server gets % x (%v), want an SSLRequest", request, err)
			return
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
		rest(conn)
	}
}

// leave ends the connection.
func leave(net.Conn) {}

// stay holds the connection until the other side closes it.
func stay(conn net.Conn) { io.Copy(io.Discard, conn) }

// inTLS shakes hands and goes on inside.
func inTLS(rest server) server {
	return func(conn net.Conn) {
		config, _ := pki()
		secured := tls.Server(conn, config)
		if secured.Handshake() == nil {
			rest(secured)
			secured.Close()
		}
	}
}

// pause passes time on the fake clock of a synctest bubble, and stands nowhere else.
func pause(d time.Duration) { <-time.After(d) }

// echo sends back what it gets.
func echo(conn net.Conn) { io.Copy(conn, conn) }

// wantEcho shows that the connection works, both ways and past any deadline of the dial.
func wantEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	if _, err := conn.Write([]byte("startup")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "startup" {
		t.Fatalf("the connection gives back %q, %v", got, err)
	}
}

// wantTimeout fails unless the error is the one of the connect timeout, at the step.
func wantTimeout(t *testing.T, err error, text string) {
	t.Helper()
	if !errors.Is(err, context.DeadlineExceeded) || err.Error() != text+"not done within 5s (backend.connect_timeout): context deadline exceeded" {
		t.Errorf("error is %q", err)
	}
}
