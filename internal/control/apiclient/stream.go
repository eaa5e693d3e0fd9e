package apiclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// ErrSilent is the end of a stream on which nothing came for [api.SilenceBound], not even a heartbeat.
var ErrSilent = fmt.Errorf("nothing came for %v: the connection is dead", api.SilenceBound)

// stream makes a call whose answer may come for ever, but may not fall silent. Closing the body ends the call.
func (c *Client) stream(ctx context.Context, request call) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	// Until the header is there the transport's bound holds.
	response, err := c.retried(ctx, request)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	return &watched{
		ctx:    ctx,
		cancel: cancel,
		body:   response.Body,
		timer:  time.AfterFunc(api.SilenceBound, func() { cancel(ErrSilent) }),
	}, nil
}

// watched is a body that is cut off when it falls silent. It is for one reader at a time.
type watched struct {
	ctx    context.Context // of the call, whose cause says why it ended
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	timer  *time.Timer
}

func (w *watched) Read(into []byte) (int, error) {
	n, err := w.body.Read(into)
	if n > 0 {
		// A timer that has fired has cancelled already; this one then cancels again, which does nothing.
		w.timer.Reset(api.SilenceBound)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(w.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.body.Close()
}
