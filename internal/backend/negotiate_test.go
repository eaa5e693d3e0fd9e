package backend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialNegotiatesTLS(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		conn, err := withTLS(target(t, network, answering(t, "S", inTLS(echo)))).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "postgresql" {
			t.Errorf("ALPN is %q", got)
		}
		wantEcho(t, conn)
	}
}

// Each row is a server that does not do as it should, and a part of what the log then says.
func TestAnswersThatAreNoTLS(t *testing.T) {
	fields := "E\x00\x00\x00\x29SFATAL\x00C53300\x00Mtoo many\x1b[2J clients\x00\x00"
	for _, row := range []struct {
		name, answer, want string
		rest               server
	}{
		{"no TLS", "N", ErrNoTLS.Error(), stay},
		{"error as text", "Ecould not fork new process: out of memory\n\x00", "SSLRequest: the server reports: could not fork new process: out of memory", stay},
		{"error as text, cut off", "Ecould not", "the server reports: could not", leave},
		{"error with fields", fields, `the server reports: FATAL: too many\x1b[2J clients (SQLSTATE 53300)`, stay},
		{"error with fields, cut off", fields[:20], "the server reports: an error that can't be read", leave},
		{"error without fields", "E\x00\x00\x00\x05\x07", "the server reports: an error that can't be read", stay},
		{"endless error", "E" + strings.Repeat("x", 2*maxServerText), "the server reports: " + strings.Repeat("x", 300) + "…", stay},
		{"garbage", "HTTP/1.1 400 Bad Request\r\n\r\n", `the server answered 'H', which PostgreSQL does not`, stay},
		{"close", "", "closed the connection without an answer", leave},
		{"close after S", "S", "TLS handshake: the server closed the connection", leave},
		{"plaintext after S", "S", "sent plaintext where TLS begins", func(conn net.Conn) {
			io.WriteString(conn, "SSL sorry, no")
			stay(conn)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn, err := withTLS(target(t, "tcp", answering(t, row.answer, row.rest))).Dial(t.Context())
			if err == nil {
				conn.Close()
				t.Fatal("Dial succeeded")
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("error is %q, want %q in it", err, row.want)
			}
		})
	}
}

// TestBytesBehindTheAnswerAreNeverUsed is CVE-2021-23222: a man in the middle puts a server's messages into the
// segment of the S and then lets the two shake hands.
func TestBytesBehindTheAnswerAreNeverUsed(t *testing.T) {
	stuffed := "S" + "R\x00\x00\x00\x08\x00\x00\x00\x00" + "Z\x00\x00\x00\x05I"
	conn, err := withTLS(target(t, "tcp", answering(t, stuffed, inTLS(echo)))).Dial(t.Context())
	if err == nil {
		conn.Close()
		t.Fatal("Dial succeeded with plaintext behind the answer")
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); !ok {
		t.Errorf("error is %q, want that the handshake got the bytes", err)
	}
}

func TestRequestTLSReadsOneByteOnly(t *testing.T) {
	near, far := net.Pipe()
	go answering(t, "Sjunk", leave)(far)
	defer far.Close()
	if answer, err := requestTLS(near); answer != 'S' || err != nil {
		t.Fatalf("requestTLS gives %q, %v", answer, err)
	}
	rest := make([]byte, 4)
	if _, err := io.ReadFull(near, rest); err != nil || string(rest) != "junk" {
		t.Errorf("behind the answer the socket still has %q (%v), want all of it", rest, err)
	}
}

func TestAcceptThenResetIsAnError(t *testing.T) {
	conn, err := withTLS(target(t, "tcp", func(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) })).Dial(t.Context())
	if err == nil {
		conn.Close()
		t.Fatal("Dial succeeded")
	}
}

func TestServerOfAnotherNameIsRefused(t *testing.T) {
	target := withTLS(target(t, "tcp", answering(t, "S", inTLS(echo))))
	target.TLS = target.TLS.Clone()
	target.TLS.ServerName = "other.test"
	_, err := target.Dial(t.Context())
	if _, ok := errors.AsType[x509.HostnameError](err); !ok {
		t.Errorf("error is %v, want that of the name", err)
	}
}

func TestSlowServerHasUntilTheConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(conn net.Conn) {
			pause(4900 * time.Millisecond)
			answering(t, "S", inTLS(echo))(conn)
		}
		conn, err := withTLS(piped(slow)).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The dial's deadline is gone with the dial.
		pause(time.Hour)
		wantEcho(t, conn)
	})
}

func TestSilentServerEndsAtTheConnectTimeout(t *testing.T) {
	for step, play := range map[string]server{"SSLRequest": stay, "TLS handshake": answering(t, "S", stay)} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, err := withTLS(piped(play)).Dial(t.Context())
			wantTimeout(t, err, "dial backend db.test:5432: "+step+": ")
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("%s: took %v, want 5s", step, took)
			}
		})
	}
}

func FuzzReadServerError(f *testing.F) {
	for _, seed := range []string{"could not fork\n\x00", "\x00\x00\x00\x10SFATAL\x00\x00", "\x00\x00\x00\x05", "\x7f\xff\xff\xff", "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		near, far := net.Pipe()
		go func() {
			far.Write(sent)
			far.Close()
		}()
		text := readServerError(near)
		near.Close()
		if len(text) > 2*maxServerText {
			t.Errorf("%d bytes of text from %d bytes", len(text), len(sent))
		}
	})
}
