package apiclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"pgmtls-proxy/internal/control/api"
)

// Enroll gets an agent's first certificate. The client's token is the one-time token.
func (c *Client) Enroll(ctx context.Context, request api.Certify) (api.Certified, error) {
	return ask[api.Certified](ctx, c, call{method: http.MethodPost, path: path("v1", "agent", "enroll"), body: request})
}

// Renew gets an agent's next certificate. The client shows the present one.
func (c *Client) Renew(ctx context.Context, request api.Certify) (api.Certified, error) {
	return ask[api.Certified](ctx, c, call{method: http.MethodPost, path: path("v1", "agent", "renew"), body: request})
}

// Report sends what the agent's proxy reports of itself.
func (c *Client) Report(ctx context.Context, report api.Report) error {
	return c.do(ctx, call{method: http.MethodPost, path: path("v1", "agent", "reports"), body: report})
}

// Answer answers a question of the stream; [api.NotFound] when nobody waits for it any more.
func (c *Client) Answer(ctx context.Context, question string, answer api.Answer) error {
	return c.do(ctx, call{method: http.MethodPost, path: path("v1", "agent", "answers", question), body: answer})
}

// Has specifies which policy an agent has. The zero value: none.
type Has struct {
	Generation int64
	Digest     string // of [api.Digest]
}

// Stream returns the policies and questions for the agent's proxy, and the heartbeats, over one connection. It always
// ends with an error, at the latest when ctx does; the caller connects again with what it has then. Lines of a kind
// that is not known are left out.
func (c *Client) Stream(ctx context.Context, has Has) iter.Seq2[api.StreamLine, error] {
	return func(yield func(api.StreamLine, error) bool) {
		query := url.Values{}
		if has.Generation > 0 {
			query.Set("generation", strconv.FormatInt(has.Generation, 10))
			set(query, "digest", has.Digest)
		}
		body, err := c.stream(ctx, call{method: http.MethodGet, path: path("v1", "agent", "stream"), query: query})
		if err != nil {
			yield(api.StreamLine{}, err)
			return
		}
		defer body.Close()
		if err := readLines(body, func(line api.StreamLine) bool { return yield(line, nil) }); err != nil {
			yield(api.StreamLine{}, fmt.Errorf("read the stream of %s: %w", c.base, err))
		}
	}
}

// readLines reads a stream to its end, which is an error, or until it is wanted no more, which is none.
func readLines(from io.Reader, give func(api.StreamLine) bool) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, api.MaxStreamLine)
	for lines.Scan() {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		var line api.StreamLine
		if err := json.Unmarshal(text, &line); err != nil {
			return fmt.Errorf("a line is not of the agents' stream: %w", err)
		}
		if line == (api.StreamLine{}) {
			continue
		}
		if !give(line) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF // it has no end of its own
}
