package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"pgmtls-proxy/internal/admin"
	"pgmtls-proxy/internal/config"
)

const (
	askTimeout = 45 * time.Second // a policy directory that keeps changing is waited for half a minute
	maxAnswer  = 8 << 20          // bytes
)

// adminClient asks the admin address of the configuration, which may be a unix socket.
func adminClient(address config.Address) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, address.Network, address.Address)
		},
		DisableKeepAlives: true,
	}}
}

// inquiry is a question to the running proxy.
type inquiry struct {
	path  string
	query url.Values
	kind  string // content type of body
	body  []byte
}

// ask posts a question to the running proxy. An answer that is neither 200 nor 422 is an error with its text.
func ask(ctx context.Context, address config.Address, q inquiry) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	target := url.URL{Scheme: "http", Host: admin.LocalName, Path: q.path, RawQuery: q.query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", q.kind)
	response, err := adminClient(address).Do(request)
	if err != nil {
		return nil, fmt.Errorf("query the running proxy at %s: %w", address.Address, err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of the running proxy at %s: %w", address.Address, err)
	}
	switch response.StatusCode {
	case http.StatusOK, http.StatusUnprocessableEntity:
		return answer, nil
	}
	return nil, fmt.Errorf("the running proxy at %s answered: %s", address.Address, strings.TrimSpace(string(answer)))
}
