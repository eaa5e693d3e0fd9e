// Package relay moves the bytes of a session between its client and its server until both are done. It is
// the hot path: what happens here happens per message.
//
// It starts where the gate has said yes and the startup packet is sent, and knows nothing of certificates,
// rules or users. It follows the server's messages by their headers (package pgwire) and changes none.
//
// Two engines do it. [Epoll], on Linux, serves many sessions in one goroutine and is what runs there. [Goroutines] has a
// goroutine per direction; it runs everywhere, serves what the loops can't (a TLS connection to the server), and is the
// reference that the loops are tested against. Both take a [Link] and give a [Result].
package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"pgmtls-proxy/internal/pgwire"
)

// maxRecord is the most plaintext that a TLS record to a client carries. libpq before the minor releases of
// August 2026 can hang in its asynchronous interface on records of 16,384 bytes, and does not on 8,192.
const maxRecord = 8192

// scratchSize is read and written at once. Several records share one system call.
const scratchSize = 64 << 10

// Linger bounds how long one end outlives the other.
const (
	// halfOpen is how long the server may stay silent after the client has said that it sends no more, and
	// how long the client may then refuse to take what comes.
	halfOpen = 60 * time.Second
	// farewell is how long a client has to read the last bytes and leave.
	farewell = 2 * time.Second
	// stopFarewell is the same for one that was stopped: it is not to be connected for longer than it must. The
	// message is in its socket by then; what the time is for is input that is still on its way, on which a closed
	// socket resets the connection.
	stopFarewell = 500 * time.Millisecond
	// dismissal is how long a server that is told that the client is gone has to notice. An idle one does at
	// once; one in a query does not, which [Result.ServerOpen] tells.
	dismissal = 250 * time.Millisecond
)

// Link is what a relay takes over: it owns both connections from its start to its end.
type Link struct {
	Client    *tls.Conn  // handshake done, no deadline set
	Transport *Transport // what Client was made over
	Server    net.Conn   // startup packet sent
	Stream    *pgwire.ServerStream
	Bytes     *Bytes // counted while they pass

	// Unanswered is what the client is told, an encoded ErrorResponse, if the server ends or breaks off before its first byte, or
	// sends none within FirstByte. The end is [Unanswered] then. If it is nil, a server may be silent for ever.
	Unanswered func() []byte
	FirstByte  time.Duration
}

// Bytes counts plaintext by direction. It may be read at any time.
type Bytes struct{ ToClient, ToServer atomic.Int64 }

// Engine starts relays.
type Engine interface {
	// Start begins to relay and returns. When it is over, and both connections are closed, done is called once,
	// from a goroutine of its own.
	Start(link Link, done func(Result)) Relay
}

// Relay is one session's. Its methods may be called from any goroutine, also when it is over, and don't wait.
type Relay interface {
	// Stop ends the session at the moment that it names, at once if it stands there: the client gets the message
	// (an encoded ErrorResponse) and then the end of the stream. A later call replaces an earlier one.
	Stop(when When, message []byte)
	// Cancelling says that the server's running statement is about to be cancelled in order to end the session. If that ends
	// the statement, the client gets the message of Stop in place of the server's error (SQLSTATE 57014), and the session
	// ends there. It does nothing before Stop.
	Cancelling()
	// Abort ends the session now, wherever it stands.
	Abort()
}

// When is a moment at which a session may be stopped. All of them are between two messages of the server, where the
// protocol allows another one. A session whose login is not over stands there whenever the server is silent.
type When uint8

// The moments, each of which is also all those before it.
const (
	AtBoundary         When = iota // between two messages
	WhenIdle                       // the server waits for the client's next query, perhaps inside of a transaction
	OutsideTransaction             // and outside of one
)

// stop is a Stop that waits for its moment.
type stop struct {
	when    When
	message []byte
}

// due reports whether the moment has come.
func (s *stop) due(stream *pgwire.ServerStream) bool {
	switch {
	case s == nil || !stream.AtBoundary():
		return false
	case s.when == AtBoundary || stream.Status() == 0:
		return true
	}
	return stream.Ready() && (s.when == WhenIdle || stream.Status() == 'I')
}

// Goroutines is the engine with a goroutine per direction.
type Goroutines struct{}

// Start begins to relay.
func (Goroutines) Start(link Link, done func(Result)) Relay { return startGoroutines(link, done) }

// End tells why a relay ended.
type End uint8

// The ends, with the side that ended first.
const (
	ClientClosed End = iota // close_notify: the client said goodbye
	ClientLost              // its connection broke off, or its TLS did
	ServerClosed            // end of stream behind a whole message
	ServerLost              // it broke off, or stopped speaking the protocol
	Stopped                 // by Stop
	Aborted                 // by Abort
	Unanswered              // not a byte came from the server
)

var ends = [...]string{"client_closed", "client_lost", "server_closed", "server_lost", "stopped", "aborted", "unanswered"}

// String is the end's name in logs and metrics.
func (e End) String() string { return ends[e] }

// patience is how long a client has at an end.
func (e End) patience() time.Duration {
	if e == Stopped {
		return stopFarewell
	}
	return farewell
}

// Result is the account of a relay. Both connections are closed when it is given.
type Result struct {
	End        End
	Err        error // what broke, nil after a clean end
	ServerOpen bool  // the server had not ended by itself: a query may still be running there
}

// errSilent is a server that sends nothing.
var errSilent = errors.New("the server took the connection and sent nothing")

// unanswered is the Err of a relay without an answer; err is how the server ended.
func unanswered(err error) error {
	if err == nil {
		return errSilent
	}
	return fmt.Errorf("the server ended before its first byte: %w", err)
}

// Panic is the Err of a relay whose own code broke. The session was aborted, the process goes on.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("panic: %v\n%s", p.Value, p.Stack) }
