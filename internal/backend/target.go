// Package backend reaches the PostgreSQL server: over a unix socket, over TCP, or over TLS on either.
//
// It opens connections and hands them over, for a session, for a cancel request, or to see whether a server is there.
// It does not speak for the client: the startup packet and all that follows are the session's and the relay's, and
// there is no pool. What an error tells is for the log; clients read refusal.BackendUnavailable.
package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/sockopt"
)

// Target is one PostgreSQL server and the way to it. It is never changed once in use, and may be used concurrently.
type Target struct {
	Network string // "unix" or "tcp"
	Address string // the socket's path, or host:port; a host name is looked up at each dial

	// TLS is what package tlsconf made for the backend; nil connects without TLS. Over TLS, clients that bind SCRAM
	// to the channel (libpq and pgjdbc by default) can log in only if both legs have the same certificate.
	TLS *tls.Config

	// ConnectTimeout bounds a dial from the name's lookup to the end of the TLS handshake. 0: only the context does.
	ConnectTimeout time.Duration

	// TCP has the socket options; a unix socket has none.
	TCP sockopt.TCP

	dial func(ctx context.Context, network, address string) (net.Conn, error) // a test's network; nil: the real one
}

// String is the address as proxy.yaml writes it.
func (t *Target) String() string {
	if t.Network == "unix" {
		return "unix:" + t.Address
	}
	return t.Address
}

// Dial opens a connection on which the next byte to send is the startup packet's first. Nothing was sent but the
// SSLRequest and the handshake. The connection is a *[net.UnixConn], a *[net.TCPConn], or a *[tls.Conn] around one,
// and the caller's to close.
//
// In TLS 1.3 a server that does not like our client certificate says so after Dial has returned: the first read then
// gives a "remote error: tls: …".
func (t *Target) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := t.bound(ctx)
	defer cancel()
	conn, err := t.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial backend %s: %w", t, err)
	}
	return conn, nil
}

// bound adds ConnectTimeout to ctx, with a cause that names the setting.
func (t *Target) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if t.ConnectTimeout <= 0 {
		return context.WithCancel(ctx)
	}
	cause := fmt.Errorf("not done within %s (backend.connect_timeout): %w", t.ConnectTimeout, context.DeadlineExceeded)
	return context.WithTimeoutCause(ctx, t.ConnectTimeout, cause)
}

// open connects and, where there is TLS, negotiates it.
func (t *Target) open(ctx context.Context) (net.Conn, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	if t.TLS == nil {
		return conn, nil
	}
	secured, err := t.secure(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// The waits between two tries to enter a full queue.
const (
	queueFirst = time.Millisecond
	queueLast  = 50 * time.Millisecond
)

// connect opens the socket. It tries once, with one exception: a unix socket whose queue is full answers EAGAIN at
// once where TCP would wait (unix(7), connect(2)), so that a burst of clients would fail without need. There it
// waits for room, until ctx is done.
func (t *Target) connect(ctx context.Context) (net.Conn, error) {
	dial := t.dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: -1}).DialContext // TCP.Apply sets it
	}
	pauses := retry.Backoff{First: queueFirst, Last: queueLast}
	for {
		conn, err := dial(ctx, t.Network, t.Address)
		if err == nil {
			if err := t.TCP.Apply(conn); err != nil {
				conn.Close()
				return nil, err
			}
			return conn, nil
		}
		if !errors.Is(err, syscall.EAGAIN) {
			return nil, failed(ctx, "connect", t.explain(err))
		}
		if retry.Sleep(ctx, pauses.Next()) != nil {
			return nil, failed(ctx, "connect, the socket's queue is full (PostgreSQL accepts too slowly)", err)
		}
	}
}

// explain adds what to do to the errors that operators meet.
func (t *Target) explain(err error) error {
	var fix string
	switch unix := t.Network == "unix"; {
	case unix && errors.Is(err, syscall.ENOENT):
		fix = "the socket does not exist; check that PostgreSQL is running, and that this directory is in its unix_socket_directories"
	case unix && errors.Is(err, syscall.EACCES):
		fix = "the proxy's user may not use the socket; see unix_socket_permissions and unix_socket_group, and the modes of the directories above"
	case unix && errors.Is(err, syscall.ECONNREFUSED):
		fix = "nothing listens on the socket; PostgreSQL ended without removing it"
	case errors.Is(err, syscall.ECONNREFUSED):
		fix = "nothing listens there; check that PostgreSQL is running, and that listen_addresses contains the address"
	default:
		return err
	}
	return fmt.Errorf("%s: %w", fix, err)
}

// failed is err of the step, or what ended ctx: a connection that ctx interrupts gives errors that say nothing.
func failed(ctx context.Context, step string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%s: %w", step, err)
}

// watch makes the end of ctx interrupt reads and writes on conn, until release is called. The first release gives an
// error if ctx has ended, and conn is then of no use; another does nothing.
func watch(ctx context.Context, conn net.Conn) (release func() error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return func() error {
		if !stop() {
			return context.Cause(ctx)
		}
		return nil
	}
}
