package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

const (
	// maxBody bounds an answer of an authority, in bytes. Chains are the longest, with a few kilobytes.
	maxBody = 256 << 10
	// callTimeout bounds one call with all its requests.
	callTimeout = 30 * time.Second
	// clockAge is how long it is believed that our clock is right.
	clockAge = 10 * time.Minute
	// longestWait bounds what an authority may ask for by Retry-After.
	longestWait = 48 * time.Hour
)

// transport stands between the ACME library and the network. The library reads answers of any size, follows every URL
// that it is given, repeats what failed, and forgets Retry-After: here answers are read whole and bounded, URLs must be
// of the authority's host, a failure ends the call, and what the library forgets is kept in the [call].
type transport struct {
	base http.RoundTripper
	host string // host and port of the directory
	now  func() time.Time

	mu   sync.Mutex
	skew time.Duration // of the authority's clock against ours, as of its last answer
	told time.Time     // when that was; zero: never
}

// call is what is kept of the requests of one call of the library.
type call struct {
	end      context.CancelCauseFunc
	noARI    string    // renewal information below this URL is not asked for
	waitTill time.Time // of the last answer's Retry-After; zero: none
}

type callKey struct{}

// begin returns a context for one call of the library. A failure that ends it is the context's cause.
func (t *transport) begin(ctx context.Context) (context.Context, *call, func()) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	ctx, end := context.WithCancelCause(ctx)
	c := &call{end: end}
	return context.WithValue(ctx, callKey{}, c), c, func() { end(nil); cancel() }
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c, ok := r.Context().Value(callKey{}).(*call)
	if !ok {
		return nil, fmt.Errorf("request to %s outside of a call", r.URL.Host)
	}
	answer, err := t.roundTrip(c, r)
	if p := (*Problem)(nil); err != nil && r.Context().Err() == nil {
		p = asProblem(err)
		p.Everybody = true
		c.end(p)
		return nil, p
	}
	return answer, err
}

func (t *transport) roundTrip(c *call, r *http.Request) (*http.Response, error) {
	if c.noARI != "" && strings.HasPrefix(r.URL.String(), c.noARI) {
		return noRenewalInfo(r), nil
	}
	if r.URL.Scheme != "https" || r.URL.Host != t.host {
		return nil, newProblem(CAUnavailable, "the authority at %s refers to another place, %s://%s; see that the directory's URL is right", t.host, r.URL.Scheme, r.URL.Host)
	}
	answer, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, newProblem(CAUnavailable, "ask the authority at %s: %s", t.host, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody+1))
	if err != nil {
		return nil, newProblem(CAUnavailable, "read the answer of the authority at %s: %s", t.host, err)
	}
	if len(body) > maxBody {
		return nil, newProblem(CAUnavailable, "the authority at %s answers with more than %d bytes", t.host, maxBody)
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	now := t.now()
	t.learnClock(answer, now)
	c.waitTill = retryAfter(answer.Header.Get("Retry-After"), now)
	if answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests {
		return nil, unavailable(answer.StatusCode, body, c.waitTill, t.host)
	}
	return answer, nil
}

// noRenewalInfo answers in the authority's place. The library asks for renewal information with every chain, and would
// wait seven seconds for an endpoint that is broken; it is asked for separately.
func noRenewalInfo(r *http.Request) *http.Response {
	const text = `{"suggestedWindow":{"start":"2000-01-01T00:00:00Z","end":"2000-01-02T00:00:00Z"}}`
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text))}
}

// unavailable is the problem of an answer that says: not now.
func unavailable(status int, body []byte, until time.Time, host string) *Problem {
	var document acmez.Problem
	_ = json.Unmarshal(body, &document) // what is no problem document has no words for people
	p := newProblem(CAUnavailable, "the authority at %s answers with status %d: %s", host, status, document.Detail)
	p.NotBefore = until
	if status == http.StatusTooManyRequests || strings.HasSuffix(document.Type, ":rateLimited") {
		p.Reason = RateLimited
		p.Detail = clean(document.Detail)
	}
	return p
}

// learnClock compares the authority's clock with ours.
func (t *transport) learnClock(answer *http.Response, now time.Time) {
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.skew, t.told = date.Sub(now), now
}

// clock returns how far the authority's clock is ahead of ours; false: its last answer is too long ago to tell.
func (t *transport) clock() (ahead time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	age := t.now().Sub(t.told)
	return t.skew, age >= 0 && age < clockAge && t.skew.Abs() <= maxSkew
}

// retryAfter reads the header: seconds, or a date. Zero: there is none that can be read.
func retryAfter(text string, now time.Time) time.Time {
	if text == "" {
		return time.Time{}
	}
	at, err := http.ParseTime(text)
	if seconds, notNumber := strconv.ParseUint(text, 10, 31); notNumber == nil {
		at, err = now.Add(time.Duration(seconds)*time.Second), nil
	}
	if err != nil {
		return time.Time{}
	}
	if latest := now.Add(longestWait); at.After(latest) {
		return latest
	}
	return at
}

// hostOf is the host and port of a URL, as requests name it.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}
