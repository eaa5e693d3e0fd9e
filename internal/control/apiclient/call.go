package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/safetext"
)

// call is one request.
type call struct {
	method string
	path   string // escaped, as of [path]
	query  url.Values
	header http.Header
	body   any // nil: none
}

const (
	maxErrorBody  = 64 << 10
	maxMessage    = 4 << 10
	maxRetryAfter = 10 * time.Minute
)

// pauses are between the attempts of a GET that got no connection.
var pauses = []time.Duration{100 * time.Millisecond, 400 * time.Millisecond}

// path joins the segments of a path, each escaped. An empty one, or one that a server would take for a step, becomes
// one that nothing is called, so that the answer is 404 and never that of another path.
func path(segments ...string) string {
	var text strings.Builder
	for _, segment := range segments {
		switch segment {
		case "", ".", "..":
			segment = "-" + segment
		}
		text.WriteByte('/')
		text.WriteString(url.PathEscape(segment))
	}
	return text.String()
}

// ask makes a call that is answered with one JSON value.
func ask[T any](ctx context.Context, c *Client, request call) (answer T, err error) {
	ctx, cancel := c.timed(ctx)
	defer cancel()
	response, err := c.retried(ctx, request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, api.MaxAnswer+1))
	switch {
	case err != nil:
		return answer, fmt.Errorf("read the answer of %s: %w", c.base, err)
	case len(text) > api.MaxAnswer:
		return answer, fmt.Errorf("the answer of %s is longer than %d bytes", c.base, api.MaxAnswer)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("%s answers %s with something else than the control plane's JSON: is it the right URL? (%w)", c.base, request.path, err)
	}
	return answer, nil
}

// do makes a call whose answer is of no interest.
func (c *Client) do(ctx context.Context, request call) error {
	ctx, cancel := c.timed(ctx)
	defer cancel()
	response, err := c.retried(ctx, request)
	if err != nil {
		return err
	}
	// What is left unread costs the connection, no more.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxErrorBody))
	return response.Body.Close()
}

// retried sends a call, a GET again when there was no connection: it may be sent twice without harm.
func (c *Client) retried(ctx context.Context, request call) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		response, err := c.send(ctx, request)
		var refused *api.Error
		if err == nil || request.method != http.MethodGet || errors.As(err, &refused) || lasting(err) || attempt == len(pauses) {
			return response, err
		}
		if retry.Sleep(ctx, pauses[attempt]) != nil {
			return nil, err
		}
	}
}

// send sends a call once. The caller closes the answer's body; an answer that is not 2xx is an *api.Error instead.
func (c *Client) send(ctx context.Context, request call) (*http.Response, error) {
	var body io.Reader
	if request.body != nil {
		text, err := json.Marshal(request.body)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	target := c.base + request.path
	if len(request.query) > 0 {
		target += "?" + request.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, request.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	for name, values := range request.header {
		req.Header[name] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.userAgent != "" {
		req.Header.Set("User-Agent", c.userAgent)
	}
	response, err := c.http.Do(req)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err // it says the method and the URL, which is said here
		}
		return nil, &ConnectionError{URL: c.base, err: err}
	}
	if response.StatusCode/100 != 2 {
		defer response.Body.Close()
		return nil, refusal(response)
	}
	return response, nil
}

// ConnectionError is returned when there was no answer: whether the request was carried out is not known.
type ConnectionError struct {
	URL string
	err error
}

func (e *ConnectionError) Error() string { return fmt.Sprintf("ask %s: %v", e.URL, e.err) }
func (e *ConnectionError) Unwrap() error { return e.err }

// refusal makes an error of an answer that is not 2xx.
func refusal(response *http.Response) *api.Error {
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody)) // a cut one is not JSON
	refused := &api.Error{}
	if json.Unmarshal(text, refused) != nil || refused.ID == "" || refused.Message == "" {
		// A balancer's page, or a server that is something else.
		*refused = api.Error{ID: api.Internal, Message: "the server answers " + response.Status}
		if response.StatusCode/100 != 5 {
			refused.ID = api.BadRequest
			refused.Message += ", and not as the control plane does: is it the right URL?"
		}
	}
	refused.Message = safetext.Truncate(refused.Message, maxMessage)
	refused.Status = response.StatusCode
	refused.RequestID = response.Header.Get(api.RequestIDHeader)
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		refused.RetryAfter = min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter)
	}
	return refused
}
