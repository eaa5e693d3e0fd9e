package relay

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// session returns the relay's session on its loop.
func (l *link) session() *epollSession { return l.relay.(*epollSession) }

// hold stops the session's loop until release is called.
func (l *link) hold() (release func()) {
	held, goOn := make(chan struct{}), make(chan struct{})
	l.session().loop.Load().post(l.session(), func(*epollSession) {
		close(held)
		<-goOn
	})
	<-held
	return func() { close(goOn) }
}

// arrived waits until the socket of the session's client has something to read.
func (l *link) arrived() {
	l.t.Helper()
	ready := []unix.PollFd{{Fd: int32(l.session().client.fd), Events: unix.POLLIN}}
	for range 10 {
		if n, err := unix.Poll(ready, int(patience.Milliseconds())); n == 1 {
			return
		} else if err != unix.EINTR {
			break
		}
	}
	l.t.Fatal("nothing arrives")
}

func TestManyCommandsLeaveTurnsToMessages(t *testing.T) {
	l := start(t, NewEngine(), 0)
	send(t, l.server, ready())
	l.want(l.client, ready())
	release := l.hold()
	const commands = 50 * commandsAtOnce
	var run, before atomic.Int64
	before.Store(commands)
	done := make(chan struct{})
	for range commands {
		l.session().loop.Load().post(l.session(), func(s *epollSession) {
			if n := run.Add(1); s.link.Bytes.ToServer.Load() > 0 {
				before.CompareAndSwap(commands, n)
			}
			if run.Load() == commands {
				close(done)
			}
		})
	}
	send(t, l.client, []byte("a query"))
	l.arrived()
	release()
	l.want(l.server, []byte("a query"))
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%d of %d commands have run", run.Load(), commands)
	}
	if n := before.Load(); n > 3*commandsAtOnce {
		t.Errorf("the message had its turn behind %d commands of %d", n, commands)
	}
}

// copyDown makes the server of a session send rows for ever, and its client take them.
func copyDown(l *link) {
	chunk := message('d', string(make([]byte, 64<<10-5)))
	go func() {
		for {
			if _, err := l.server.Write(chunk); err != nil {
				return
			}
		}
	}()
	go io.Copy(io.Discard, l.client)
}

func TestCopiesThatMeetSmallMessagesAllGoOn(t *testing.T) {
	engine := NewEngine()
	one, other, small := start(t, engine, 0), start(t, engine, 0), start(t, engine, 0)
	copyDown(one)
	copyDown(other)
	answer := ready()
	for rounds := 0; rounds < 500 || min(one.bytes.ToClient.Load(), other.bytes.ToClient.Load()) < 8<<20; rounds++ {
		send(t, small.client, []byte("q"))
		small.want(small.server, []byte("q"))
		send(t, small.server, answer)
		small.want(small.client, answer)
	}
}
