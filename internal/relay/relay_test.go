package relay

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/pgwire"
)

func TestBytesPassBothWaysUnchanged(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		up, down := make([]byte, 3<<20), make([]byte, 3<<20)
		rand.Read(up)
		rand.Read(down)
		var both sync.WaitGroup
		both.Go(func() { send(t, l.client, up) })
		both.Go(func() { send(t, l.server, message('d', string(down))) })
		both.Go(func() { l.want(l.server, up) })
		l.want(l.client, message('d', string(down)))
		both.Wait()
		if up, down := l.bytes.ToServer.Load(), l.bytes.ToClient.Load(); up != 3<<20 || down != 3<<20+5 {
			t.Errorf("counted %d up and %d down", up, down)
		}
	})
}

func TestSingleBytesPassAtOnce(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		for i := range 100 {
			send(t, l.client, []byte{byte(i)})
			l.want(l.server, []byte{byte(i)})
			send(t, l.server, ready())
			l.want(l.client, ready())
		}
	})
}

// A client that says goodbye (psql's \q, pg_receivewal) still gets what the server sends.
func TestClientsHalfCloseReachesTheServerAndTheRestReachesTheClient(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.client, []byte("the last word"))
		l.client.CloseWrite()
		l.want(l.server, []byte("the last word"))
		if _, err := l.server.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the server reads %v, want the end", err)
		}
		rest := message('d', string(make([]byte, 8<<20)))
		go func() {
			l.server.Write(rest)
			l.server.Close()
		}()
		l.want(l.client, rest)
		l.wantEnd(true)
		if r := l.result(); r.End != ClientClosed || r.Err != nil || r.ServerOpen {
			t.Errorf("got %v, %+v", r.End, r)
		}
	})
}

func TestServersEndReachesTheClientBehindItsLastByte(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		rest := message('d', string(make([]byte, 1<<20)))
		go func() {
			l.server.Write(rest)
			l.server.Close()
		}()
		l.want(l.client, rest)
		l.wantEnd(true)
		l.socket.Close()
		if r := l.result(); r.End != ServerClosed || r.ServerOpen {
			t.Errorf("got %v, %+v", r.End, r)
		}
	})
}

// A stream that is cut must not look whole: threat 27.
func TestServersEndInsideAMessageIsNotAGoodbye(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.server, ready())
		l.want(l.client, ready())
		m := message('D', "a row that is cut")
		send(t, l.server, m[:9])
		l.server.Close()
		l.want(l.client, m[:9])
		l.wantEnd(false)
		l.socket.Close()
		if r := l.result(); r.End != ServerLost || !errors.Is(r.Err, errTruncated) {
			t.Errorf("got %v, %v", r.End, r.Err)
		}
	})
}

// A FIN without close_notify can come from anybody on the way, or from a client that was killed.
func TestClientWithoutGoodbyeIsLostAndItsServerIsLeft(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.client, []byte("select"))
		l.want(l.server, []byte("select"))
		l.socket.Close()
		if _, err := l.server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the server reads %v, want the end", err)
		}
		// The server does not end by itself: it computes.
		if r := l.result(); r.End != ClientLost || !r.ServerOpen {
			t.Errorf("got %v, %+v", r.End, r)
		}
	})
}

func TestServerThatEndsWithItsClientIsNotOpen(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		l.socket.Close()
		io.Copy(io.Discard, l.server)
		l.server.Close()
		if r := l.result(); r.End != ClientLost || r.ServerOpen {
			t.Errorf("got %v, %+v", r.End, r)
		}
	})
}

func TestResetByTheClientEndsTheServer(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		l.socket.SetLinger(0)
		l.socket.Close()
		if _, err := l.server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the server reads %v, want the end", err)
		}
		l.server.Close()
		if r := l.result(); r.End != ClientLost || r.Err == nil {
			t.Errorf("got %v, %+v", r.End, r)
		}
	})
}

func TestGarbageInsteadOfTLSIsALostClient(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.socket, bytes.Repeat([]byte("garbage!"), 8))
		if r := l.result(); r.End != ClientLost || r.Err == nil {
			t.Errorf("got %v, %v", r.End, r.Err)
		}
		if got, _ := io.ReadAll(l.server); len(got) != 0 {
			t.Errorf("the server got %q", got)
		}
	})
}

func TestServerThatDoesNotSpeakTheProtocolIsLost(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.server, []byte("D\xff\xff\xff\xff and so on"))
		l.wantEnd(false)
		l.socket.Close()
		if r := l.result(); r.End != ServerLost || r.Err == nil {
			t.Errorf("got %v, %v", r.End, r.Err)
		}
	})
}

// The server says why and resets, because it has unread input: its words must not be lost.
func TestServersLastWordReachesAClientThatKeepsSending(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.server, ready())
		l.want(l.client, ready())
		send(t, l.client, make([]byte, 64<<10))
		io.ReadFull(l.server, make([]byte, 1<<10))
		fatal := message('E', "terminating connection")
		send(t, l.server, fatal)
		l.server.Close()
		l.client.Write(make([]byte, 256<<10))
		l.want(l.client, fatal)
	})
}

func TestStopWaitsForAMessageBoundary(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.server, ready())
		l.want(l.client, ready())
		m := message('D', "a row in two parts")
		send(t, l.server, m[:10])
		l.want(l.client, m[:10])
		farewell := message('E', "terminating connection due to administrator command")
		l.relay.Stop(AtBoundary, farewell)
		send(t, l.server, m[10:])
		l.want(l.client, m[10:])
		l.want(l.client, farewell)
		l.wantEnd(true)
		l.socket.Close()
		if r := l.result(); r.End != Stopped || r.Err != nil {
			t.Errorf("got %v, %+v", r.End, r)
		}
	})
}

func TestStopEndsAnIdleSessionAtOnce(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.server, ready())
		l.want(l.client, ready())
		farewell := message('E', "terminating connection due to administrator command")
		l.relay.Stop(AtBoundary, farewell)
		// The server first: it must not wait for a client that reads late.
		if _, err := l.server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the server reads %v, want the end", err)
		}
		l.want(l.client, farewell)
		l.wantEnd(true)
		l.socket.Close()
		if r := l.result(); r.End != Stopped {
			t.Errorf("got %v", r.End)
		}
	})
}

// A session is stopped between two queries, or between two transactions, as asked for.
func TestStopWaitsForItsMoment(t *testing.T) {
	farewell := message('E', "terminating connection due to administrator command")
	query := []byte("Q\x00\x00\x00\x09begin")
	for name, test := range map[string]struct {
		when    When
		answers [][]byte // of the server, to as many queries; the session ends behind the last
	}{
		"between messages":           {AtBoundary, [][]byte{message('D', "row")}},
		"between queries":            {WhenIdle, [][]byte{append(message('D', "row"), message('Z', "T")...)}},
		"outside of a transaction":   {OutsideTransaction, [][]byte{message('Z', "T"), message('Z', "E"), message('Z', "I")}},
		"outside, one query at once": {OutsideTransaction, [][]byte{message('Z', "I")}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, l *link) {
				send(t, l.server, ready())
				l.want(l.client, ready())
				for i, answer := range test.answers {
					send(t, l.client, query)
					l.want(l.server, query)
					if i == 0 && test.when != AtBoundary {
						l.relay.Stop(test.when, farewell)
						send(t, l.server, message('N', "notice")) // a boundary, but the server is not ready
						l.want(l.client, message('N', "notice"))
					}
					if i == 0 && test.when == AtBoundary {
						send(t, l.server, answer[:3])
						l.want(l.client, answer[:3])
						l.relay.Stop(test.when, farewell)
						answer = answer[3:]
					}
					send(t, l.server, answer)
					l.want(l.client, answer)
				}
				l.want(l.client, farewell)
				l.wantEnd(true)
			})
		})
	}
}

// A drain becomes less patient: the last word counts.
func TestLaterStopReplacesAnEarlierOne(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		send(t, l.server, message('Z', "T"))
		l.want(l.client, message('Z', "T"))
		l.relay.Stop(OutsideTransaction, message('E', "patient"))
		send(t, l.server, message('N', "still there"))
		l.want(l.client, message('N', "still there"))
		l.relay.Stop(WhenIdle, message('E', "impatient"))
		l.want(l.client, message('E', "impatient"))
		l.wantEnd(true)
	})
}

// flood writes the begin of a message without end, until nobody takes more for a while, and tells how much was taken.
func flood(l *link) (taken int) {
	n, _ := l.server.Write([]byte{'d', 0x7f, 0xff, 0xff, 0xff})
	chunk := make([]byte, 256<<10)
	for taken = n; taken < 256<<20; taken += n {
		l.server.SetWriteDeadline(time.Now().Add(time.Second / 2))
		var err error
		if n, err = l.server.Write(chunk); err != nil {
			return taken + n
		}
	}
	return taken
}

// Buffers are bounded: what a client doesn't read stays with the server.
func TestStalledClientHoldsItsServerBackAndCanBeAborted(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		if taken := flood(l); taken > 32<<20 {
			t.Errorf("%d MiB were taken from the server", taken>>20)
		}
		l.relay.Abort()
		if r := l.result(); r.End != Aborted {
			t.Errorf("got %v, %v", r.End, r.Err)
		}
	})
}

func TestBothEndsAtOnceIsOneEnd(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		go l.server.Close()
		go l.socket.Close()
		go l.relay.Abort()
		go l.relay.Stop(AtBoundary, ready())
		l.result()
		select {
		case r := <-l.ended:
			t.Errorf("a second end: %+v", r)
		default:
		}
	})
}

func TestPanicInTheRelayEndsItsSessionOnly(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine Engine) {
		other := start(t, engine, 0)
		l := startStream(t, engine, 0, &pgwire.ServerStream{OnKey: func(pgwire.Key) { panic("a bug") }})
		send(t, l.server, message('K', "\x00\x00\x00\x01key!"))
		r := l.result()
		var broken *Panic
		if r.End != Aborted || !errors.As(r.Err, &broken) || len(broken.Stack) == 0 {
			t.Errorf("got %v, %v", r.End, r.Err)
		}
		send(t, other.client, []byte("still here"))
		other.want(other.server, []byte("still here"))
	})
}

func TestMillionsOfBytesKeepTheirHash(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		const total = 8 << 20
		up := sha256.New()
		go func() {
			w := io.MultiWriter(l.client, up)
			chunk := make([]byte, 37777)
			for sent := 0; sent < total; sent += len(chunk) {
				rand.Read(chunk)
				w.Write(chunk)
			}
			l.client.CloseWrite()
		}()
		got := sha256.New()
		if _, err := io.Copy(got, l.server); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Sum(nil), up.Sum(nil)) {
			t.Error("the stream changed on its way")
		}
	})
}

func TestRelayClosesBothSockets(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		l.relay.Abort()
		l.result()
		if _, err := l.server.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("the server writes: %v", err)
		}
		if _, err := l.socket.Read(make([]byte, 1)); err == nil {
			t.Error("the client's socket is open")
		}
	})
}

func TestCallsBehindTheEndHaveNoEffect(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		l.relay.Abort()
		l.result()
		l.relay.Abort()
		l.relay.Stop(AtBoundary, ready())
		select {
		case r := <-l.ended:
			t.Errorf("a second end: %+v", r)
		default:
		}
	})
}
