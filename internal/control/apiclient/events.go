package apiclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/retry"
)

// Following specifies which events are wanted.
type Following struct {
	After    string // id of the last one that is known; empty: from now on
	Database string // name or id; empty: all that the token may see
}

const (
	firstPause = 500 * time.Millisecond
	maxPause   = 15 * time.Second
)

// Events returns the audit trail as it grows. A connection that breaks is made again from where it broke. It ends with
// an error when the first connection can't be made, when the server refuses for a reason that stays, and when ctx does.
func (c *Client) Events(ctx context.Context, following Following) iter.Seq2[api.Record, error] {
	return func(yield func(api.Record, error) bool) {
		connected := false
		pause := firstPause
		for {
			err := c.events(ctx, following, func(record api.Record) bool {
				following.After = record.ID
				pause = firstPause
				return yield(record, nil)
			}, func() { connected = true })
			if errors.Is(err, errStopped) {
				return
			}
			var refused *api.Error
			stays := errors.As(err, &refused) && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests
			if !connected || stays || ctx.Err() != nil {
				yield(api.Record{}, err)
				return
			}
			if refused != nil && refused.RetryAfter > 0 {
				pause = min(refused.RetryAfter, maxPause)
			}
			if err := retry.Sleep(ctx, pause); err != nil {
				yield(api.Record{}, err)
				return
			}
			pause = min(2*pause, maxPause)
		}
	}
}

// errStopped is returned when the reader wants no more.
var errStopped = errors.New("stopped by its reader")

// events reads one connection until it ends, which is always an error.
func (c *Client) events(ctx context.Context, following Following, give func(api.Record) bool, connected func()) error {
	request := call{
		method: http.MethodGet,
		path:   path("v1", "events"),
		query:  url.Values{},
		header: http.Header{"Accept": {"text/event-stream"}},
	}
	set(request.query, "database", following.Database)
	if following.After != "" {
		request.header.Set(api.LastEventID, following.After)
	}
	body, err := c.stream(ctx, request)
	if err != nil {
		return err
	}
	defer body.Close()
	connected()
	err = readEvents(body, give)
	if errors.Is(err, errStopped) {
		return err
	}
	return fmt.Errorf("read the events of %s: %w", c.base, err)
}

// readEvents reads server-sent events, of which only the data counts: it is the whole record. HTML Living Standard,
// section 9.2.6, without what the server never sends: a byte order mark, lines that end in a carriage return alone.
func readEvents(from io.Reader, give func(api.Record) bool) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, api.MaxEvent)
	var data []byte
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) > 0 {
			name, value, _ := bytes.Cut(line, []byte(":"))
			if string(name) != "data" {
				continue // a comment, which is the heartbeat; or the id and the type, which the record has
			}
			if len(data)+len(value) > api.MaxEvent {
				return fmt.Errorf("an event is longer than %d bytes", api.MaxEvent)
			}
			data = append(append(data, bytes.TrimPrefix(value, []byte(" "))...), '\n')
			continue
		}
		if len(data) == 0 {
			continue
		}
		var record api.Record
		if err := json.Unmarshal(data, &record); err != nil {
			return fmt.Errorf("an event is not a record: %w", err)
		}
		if !give(record) {
			return errStopped
		}
		data = data[:0]
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF // it has no end of its own
}
