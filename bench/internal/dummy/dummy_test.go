package dummy

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// connect starts a dummy and opens a session with it, as a real driver reads the protocol.
func connect(t *testing.T) (*pgproto3.Frontend, net.Conn) {
	t.Helper()
	dir := t.TempDir()
	listener, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- Serve(listener) }()
	conn, err := net.Dial("unix", dir+"/"+SocketName)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		listener.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	front := pgproto3.NewFrontend(conn, conn)
	front.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "u"}})
	flush(t, front)
	if kinds := untilReady(t, front); !bytes.HasPrefix(kinds, []byte("RSSS")) {
		t.Errorf("the welcome has the messages %s", kinds)
	}
	return front, conn
}

func flush(t *testing.T, front *pgproto3.Frontend) {
	t.Helper()
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
}

// untilReady gives the types of the messages up to ReadyForQuery, a letter each.
func untilReady(t *testing.T, front *pgproto3.Frontend) (kinds []byte) {
	t.Helper()
	for {
		message, err := front.Receive()
		if err != nil {
			t.Fatalf("after %s: %v", kinds, err)
		}
		text, err := message.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if kinds = append(kinds, text[0]); text[0] == 'Z' {
			return kinds
		}
	}
}

func TestSimpleQueryGivesOneRow(t *testing.T) {
	front, _ := connect(t)
	for range 3 {
		front.Send(&pgproto3.Query{String: "select abalance from pgbench_accounts where aid = 1"})
		flush(t, front)
		if got := string(untilReady(t, front)); got != "TDCZ" {
			t.Errorf("the answer has the messages %s", got)
		}
	}
}

func TestPreparedQueryGivesOneRow(t *testing.T) {
	front, _ := connect(t)
	front.Send(&pgproto3.Parse{Name: "p", Query: "select 1"})
	front.Send(&pgproto3.Bind{PreparedStatement: "p"})
	front.Send(&pgproto3.Describe{ObjectType: 'P'})
	front.Send(&pgproto3.Execute{})
	front.Send(&pgproto3.Sync{})
	flush(t, front)
	if got := string(untilReady(t, front)); got != "12TDCZ" {
		t.Errorf("the answer has the messages %s", got)
	}
}

func TestRowsComeWithoutEnd(t *testing.T) {
	front, conn := connect(t)
	front.Send(&pgproto3.Query{String: Down})
	flush(t, front)
	if message, err := front.Receive(); err != nil {
		t.Fatal(err)
	} else if _, ok := message.(*pgproto3.CopyOutResponse); !ok {
		t.Fatalf("the first message is %T", message)
	}
	for range 3 * len(Rows) / rowSize {
		message, err := front.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := message.(*pgproto3.CopyData); !ok || len(data.Data) != rowSize-5 {
			t.Fatalf("a row is %T", message)
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestRowsAreTakenUntilTheyEnd(t *testing.T) {
	front, conn := connect(t)
	front.Send(&pgproto3.Query{String: Up})
	flush(t, front)
	if _, err := front.Receive(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := io.Copy(conn, bytes.NewReader(Rows)); err != nil {
			t.Fatal(err)
		}
	}
	front.Send(&pgproto3.CopyDone{})
	flush(t, front)
	if got := string(untilReady(t, front)); got != "CZ" {
		t.Errorf("the answer has the messages %s", got)
	}
}

func TestTLSIsDeclined(t *testing.T) {
	dir := t.TempDir()
	listener, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go Serve(listener)
	conn, err := net.Dial("unix", dir+"/"+SocketName)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	front := pgproto3.NewFrontend(conn, conn)
	front.Send(&pgproto3.SSLRequest{})
	flush(t, front)
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != 'N' {
		t.Errorf("the answer is %q, %v", answer, err)
	}
}
