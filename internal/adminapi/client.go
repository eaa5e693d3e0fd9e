// Package adminapi has what the proxy's admin address speaks: the JSON of GET /status and /sessions and of POST /dry-run
// and /explain, and the client that its askers share.
//
// The proxy answers with these types, and its commands and the control plane read them. It checks nothing that an answer
// says: whoever believes an answer bounds and checks what it believes. Names and order of the JSON are a contract, held
// by a golden file for each document; fields are added, never changed.
package adminapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// LocalName is the Host that a client of a unix socket sends. The server refuses names that are not its own.
const LocalName = "admin"

const (
	// MaxAnswer and MaxHeaders bound the body and the headers of an answer, in bytes.
	MaxAnswer  = 8 << 20
	MaxHeaders = 64 << 10
)

// Request is a question to an admin address.
type Request struct {
	Method, Path string
	Query        url.Values
	ContentType  string
	Body         []byte
	Timeout      time.Duration // for the whole exchange
}

// Do sends a request to an address of network "tcp" or "unix", and returns the status code and the body of whatever
// answer comes. It follows no redirect. An answer of more than [MaxAnswer] bytes is an error. Each request has a
// connection of its own: when a new proxy takes over, a connection that was kept would go on asking the old one.
func Do(ctx context.Context, network, address string, r Request) (code int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	target := url.URL{Scheme: "http", Host: LocalName, Path: r.Path, RawQuery: r.Query.Encode()}
	request, err := http.NewRequestWithContext(ctx, r.Method, target.String(), bytes.NewReader(r.Body))
	if err != nil {
		return 0, nil, err
	}
	if r.ContentType != "" {
		request.Header.Set("Content-Type", r.ContentType)
	}
	client := http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, address)
			},
			DisableKeepAlives:      true,
			DisableCompression:     true, // a bound on what is sent is then one on what is read
			MaxResponseHeaderBytes: MaxHeaders,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("query the running proxy at %s: %w", address, rootCause(err))
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("read the answer of the proxy at %s: %w", address, err)
	case len(body) > MaxAnswer:
		return 0, nil, fmt.Errorf("the answer of %s has more than %d MiB: is that a proxy?", address, MaxAnswer>>20)
	}
	return response.StatusCode, body, nil
}

// rootCause takes off what names a URL that nobody knows: the address is named already.
func rootCause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
