package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// goroutineSession relays one session with a goroutine per direction.
//
// toClient owns the stream of the server and what is written to the client, toServer the other way. Either
// settles the end; the last to leave closes both connections.
type goroutineSession struct {
	link    Link
	client  reader
	server  reader
	done    func(Result)
	running atomic.Int32
	// serverEnded is toClient's: the server has ended by itself.
	serverEnded bool
	answered    atomic.Bool // something has come from the server, or nobody waits for it
	answerBy    time.Time   // zero: whenever it wants

	mu         sync.Mutex
	end        End
	err        error
	over       bool // end and err are settled
	halfClosed bool // the client sends no more
	stop       *stop
	cancelling atomic.Bool
}

// errTruncated is a server's end of stream inside of a message.
var errTruncated = errors.New("server ended in the middle of a message")

// past is a deadline that makes reads and writes return at once.
var past = time.Unix(1, 0)

func startGoroutines(link Link, done func(Result)) *goroutineSession {
	p := &goroutineSession{
		link:   link,
		client: newClientReader(link.Client, link.Transport),
		server: newServerReader(link.Server),
		done:   done,
	}
	p.answered.Store(link.Unanswered == nil)
	if link.Unanswered != nil {
		p.answerBy = time.Now().Add(link.FirstByte)
		link.Server.SetReadDeadline(p.answerBy)
	}
	p.running.Store(2)
	go p.toServer()
	go p.toClient()
	return p
}

// Stop is [Relay]'s.
func (p *goroutineSession) Stop(when When, message []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.stop = &stop{when, message}
		p.link.Server.SetReadDeadline(past) // wakes toClient, which knows whether the moment has come
	}
}

// Cancelling is [Relay]'s.
func (p *goroutineSession) Cancelling() { p.cancelling.Store(true) }

// Abort is [Relay]'s.
func (p *goroutineSession) Abort() { p.resolve(Aborted, nil) }

// resolve records the end that comes first. It wakes whoever waits for the server, and for a client that is
// not to be told anything more.
func (p *goroutineSession) resolve(end End, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over, p.end, p.err = true, end, err
	p.link.Server.SetDeadline(past)
	if end == ClientLost || end == Aborted {
		p.link.Transport.SetDeadline(past)
	}
}

// leave is deferred by both directions. It closes the connections when the second one is through.
func (p *goroutineSession) leave() {
	if value := recover(); value != nil {
		p.resolve(Aborted, &Panic{value, debug.Stack()})
	}
	if p.running.Add(-1) > 0 {
		return
	}
	// Not the tls.Conn: its Close would say close_notify, whatever the end was.
	p.link.Transport.Close()
	open := !p.serverEnded && dismiss(p.link.Server)
	p.link.Server.Close()
	p.done(Result{End: p.end, Err: p.err, ServerOpen: open})
}

// dismiss tells a server that its client is gone, and reports whether it fails to end by itself.
func dismiss(server net.Conn) (open bool) {
	server.SetDeadline(time.Now().Add(dismissal))
	_ = closeWrite(server) // a server that is gone needs no goodbye
	_, err := io.Copy(io.Discard, server)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// toServer forwards what the client sends.
func (p *goroutineSession) toServer() {
	defer p.leave()
	forward := true
	for {
		buf, n, err := p.client.read()
		if n > 0 {
			if forward {
				p.link.Stream.Asked()
				p.link.Bytes.ToServer.Add(int64(n))
				if _, err := p.link.Server.Write(buf[:n]); err != nil {
					// The server may have said why it left, which toClient passes on. The client is read on: a
					// socket that is closed with unread input resets the connection and eats the message.
					forward = false
					p.limitServer(dismissal)
				}
			}
			buffers.Put(buf)
		}
		switch {
		case err == nil:
		case err == io.EOF && !p.link.Transport.Ended():
			p.halfClose()
			return
		default:
			p.resolve(ClientLost, err)
			return
		}
	}
}

// halfClose passes the client's goodbye on. The server may finish what it is sending.
func (p *goroutineSession) halfClose() {
	_ = closeWrite(p.link.Server) // a server that is gone needs no goodbye: toClient finds out
	p.mu.Lock()
	p.halfClosed = true
	p.mu.Unlock()
	p.extend()
}

// limitServer bounds how long the server may be silent from now on.
func (p *goroutineSession) limitServer(limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.link.Server.SetReadDeadline(time.Now().Add(limit))
	}
}

// toClient forwards what the server sends, and ends the stream to the client.
func (p *goroutineSession) toClient() {
	defer p.leave()
	for {
		buf, n, err := p.server.read()
		if n > 0 {
			if !p.answered.Load() {
				p.answered.Store(true)
				p.resume()
			}
			out, cancelled, broken := p.follow(buf[:n])
			if writeErr := p.writeClient(out); writeErr != nil {
				p.resolve(ClientLost, writeErr)
			}
			buffers.Put(buf)
			if cancelled {
				p.concludeStopped()
				return
			}
			if broken != nil {
				p.conclude(ServerLost, broken, nil)
				return
			}
		}
		if !p.proceed(err) {
			return
		}
	}
}

// follow follows what the server has sent, and reports whether the error of a statement that was cancelled to end the session
// comes next.
func (p *goroutineSession) follow(b []byte) (out []byte, cancelled bool, broken error) {
	if p.cancelling.Load() && p.stopping() != nil {
		return p.link.Stream.FollowCancelled(b)
	}
	out, broken = p.link.Stream.Follow(b)
	return out, false, broken
}

// stopping is the Stop that waits for its moment, nil if there is none or the session is over.
func (p *goroutineSession) stopping() *stop {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	return p.stop
}

// concludeStopped ends the session where its statement was cancelled.
func (p *goroutineSession) concludeStopped() {
	if stop := p.stopping(); stop != nil {
		p.conclude(Stopped, nil, stop.message)
	}
}

// proceed decides after each read of the server, which ended with err, whether there is a next one.
func (p *goroutineSession) proceed(err error) bool {
	p.mu.Lock()
	over, stop, halfClosed := p.over, p.stop, p.halfClosed
	p.mu.Unlock()

	woken := errors.Is(err, os.ErrDeadlineExceeded)
	p.serverEnded = err != nil && !woken
	atBoundary := p.link.Stream.AtBoundary()
	switch {
	case over:
		return false
	case !p.serverEnded && stop.due(p.link.Stream):
		p.conclude(Stopped, nil, stop.message)
		return false
	case (p.serverEnded || stop == nil) && !halfClosed && err != nil && !p.answered.Load():
		if woken {
			err = nil
		}
		p.conclude(Unanswered, unanswered(err), p.link.Unanswered())
		return false
	case stop != nil && woken:
		p.resume() // its moment has not come
		return true
	case err == nil:
		if halfClosed {
			p.extend()
		}
		return true
	case woken && halfClosed, err == io.EOF && halfClosed && atBoundary:
		p.conclude(ClientClosed, nil, nil)
	case err == io.EOF && atBoundary:
		p.conclude(ServerClosed, nil, nil)
	case err == io.EOF:
		_ = p.writeClient(p.link.Stream.Rest()) // the session ends anyway
		p.conclude(ServerLost, errTruncated, nil)
	default:
		p.conclude(ServerLost, err, nil)
	}
	return false
}

// resume takes back the deadline with which Stop woke the server's reader.
func (p *goroutineSession) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
	case p.halfClosed:
		p.link.Server.SetReadDeadline(time.Now().Add(halfOpen))
	case !p.answered.Load():
		p.link.Server.SetReadDeadline(p.answerBy)
	default:
		p.link.Server.SetReadDeadline(time.Time{})
	}
}

// extend gives a session whose client sends no more the time for its next step.
func (p *goroutineSession) extend() {
	p.limitServer(halfOpen)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.link.Transport.SetWriteDeadline(time.Now().Add(halfOpen))
	}
}

// conclude settles the end and says it to the client: a last message if there is one, then the end of the
// stream. The client has a moment to read both, while toServer reads on until it leaves. Only an end that is
// known to be clean is marked by a close_notify, so that nobody mistakes a broken stream for a whole one.
func (p *goroutineSession) conclude(end End, err error, message []byte) {
	p.resolve(end, err)
	if end == Stopped || end == Unanswered {
		_ = closeWrite(p.link.Server) // its locks are not to wait for the client
	}
	p.link.Transport.SetDeadline(time.Now().Add(end.patience()))
	if message != nil {
		_, _ = p.link.Client.Write(message) // a client that is gone can't be told
	}
	if end != ServerLost {
		p.link.Client.CloseWrite()
	}
	p.link.Transport.CloseWrite()
}

// writeClient sends plaintext in records of at most maxRecord, and several records in one system call.
func (p *goroutineSession) writeClient(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	p.link.Bytes.ToClient.Add(int64(len(out)))
	if len(out) <= maxRecord {
		_, err := p.link.Client.Write(out)
		return err
	}
	batch := batches.Get().(*[]byte)
	p.link.Transport.cork(*batch)
	var err error
	for len(out) > 0 && err == nil {
		n := min(len(out), maxRecord)
		_, err = p.link.Client.Write(out[:n])
		out = out[n:]
	}
	sent, writeErr := p.link.Transport.uncork()
	*batch = sent
	batches.Put(batch)
	return errors.Join(err, writeErr)
}

// batches hold sealed records: the plaintext of a buffer and what TLS adds.
var batches = sync.Pool{New: func() any {
	b := make([]byte, 0, scratchSize+scratchSize/maxRecord*64)
	return &b
}}
