package admin

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

func TestNoSessionsAreAnEmptyList(t *testing.T) {
	p := newProgram(t)
	if text := p.get("/sessions", http.StatusOK); text != "[]\n" {
		t.Errorf("no sessions are %q", text)
	}
}

func TestSessionsShowWhoIsConnected(t *testing.T) {
	p := newProgram(t)
	p.serve()
	p.apply(good)
	certificate := p.ca.MustIssue(t, testpki.Client("app"))
	p.login(certificate, "a\x1b[2Jpp", "<shop>")

	text := p.get("/sessions", http.StatusOK)
	var list []map[string]any
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 {
		t.Fatalf("sessions are %s, %v", text, err)
	}
	s := list[0]
	for field, want := range map[string]any{"addr": "127.0.0.1", "user": `a\x1b[2Jpp`, "database": "<shop>", "rule": "loopback", "policy": "42", "state": "in_transaction"} {
		if s[field] != want {
			t.Errorf("%s is %v, want %v", field, s[field], want)
		}
	}
	shown := s["certificate"].(map[string]any)
	if shown["subject"] != "CN=app" || shown["not_after"] != moment(certificate.Cert.NotAfter) || len(s["conn"].(string)) != 13 || s["since"] == nil {
		t.Errorf("the session is shown as %v", s)
	}
	if bytes := s["bytes"].(map[string]any); bytes["to_client"] != 28.0 || bytes["to_server"] != 0.0 {
		t.Errorf("bytes are %v", bytes)
	}
	if strings.Contains(text, "KEY!") {
		t.Error("the cancel key is shown")
	}
	if n := p.object("/status")["sessions"].(map[string]any)["in_transaction"]; n != 1.0 {
		t.Errorf("/status counts %v sessions in a transaction", n)
	}
}

// serve lets clients come to a server that reads all and answers once.
func (p *program) serve() {
	p.t.Helper()
	p.keeper.Builder.Backend.Network = "unix"
	p.keeper.Builder.Backend.Address = filepath.Join(shortDir(p.t), "db")
	var open sync.WaitGroup
	database := p.listen(&open, "unix", p.keeper.Builder.Backend.Address, func(conn net.Conn) {
		defer conn.Close()
		io.WriteString(conn, databaseAnswer)
		io.Copy(io.Discard, conn)
	})
	p.clients = p.listen(&open, "tcp", "127.0.0.1:0", func(conn net.Conn) { p.sessions.Serve(context.Background(), conn) })
	p.t.Cleanup(func() {
		p.clients.Close()
		database.Close()
		p.sessions.Table().Abort()
		open.Wait()
	})
}

// databaseAnswer is an AuthenticationOk, a key and a ReadyForQuery in a transaction.
const databaseAnswer = "R\x00\x00\x00\x08\x00\x00\x00\x00K\x00\x00\x00\x0c\x00\x00\x00\x01KEY!Z\x00\x00\x00\x05T"

// connect sends a startup packet in TLS, until the end of the test.
func (p *program) connect(certificate *testpki.Pair, user, database string) net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.clients.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47})
	io.ReadFull(conn, make([]byte, 1))
	client := tls.Client(conn, &tls.Config{RootCAs: p.ca.Pool(), ServerName: "db.example.com", Certificates: []tls.Certificate{certificate.TLS()}})
	body := "\x00\x03\x00\x00user\x00" + user + "\x00database\x00" + database + "\x00\x00"
	client.Write(append(binary.BigEndian.AppendUint32(nil, uint32(4+len(body))), body...))
	return client
}

// login is connect for a client that is let in.
func (p *program) login(certificate *testpki.Pair, user, database string) {
	p.t.Helper()
	client := p.connect(certificate, user, database)
	if _, err := io.ReadFull(client, make([]byte, len(databaseAnswer))); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) listen(open *sync.WaitGroup, network, address string, handle func(net.Conn)) net.Listener {
	p.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		p.t.Fatal(err)
	}
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { handle(conn) })
		}
	})
	return l
}
