package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// cancelTimeout bounds a cancel request from the dial to the server's close. PostgreSQL takes milliseconds: it looks
// up the key, sends a signal and exits.
const cancelTimeout = 10 * time.Second

// Cancel sends a CancelRequest on a connection of its own, byte for byte and over the same transport as Dial, and
// returns once the server has closed that connection: the signal has then been sent, which is all that the protocol
// lets one know. An error means that it may not have been. It ends with ctx, and after 10 seconds at the latest.
//
// The packet holds a cancel key: it never appears in an error.
func (t *Target) Cancel(ctx context.Context, packet []byte) error {
	cause := fmt.Errorf("not done within %s: %w", cancelTimeout, context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(ctx, cancelTimeout, cause)
	defer cancel()
	if err := t.cancel(ctx, packet); err != nil {
		return fmt.Errorf("cancel at backend %s: %w", t, err)
	}
	return nil
}

func (t *Target) cancel(ctx context.Context, packet []byte) error {
	dialing, cancel := t.bound(ctx)
	defer cancel()
	conn, err := t.open(dialing)
	if err != nil {
		return err
	}
	defer conn.Close()
	release := watch(ctx, conn)
	defer func() { _ = release() }() // by then the outcome is known
	if _, err := conn.Write(packet); err != nil {
		return failed(ctx, "send", err)
	}
	switch _, err := conn.Read(make([]byte, 1)); {
	case err == nil:
		return errors.New("the server sent an answer, which PostgreSQL never does")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return nil // with or without close_notify
	default:
		return failed(ctx, "wait for the server's close", err)
	}
}
