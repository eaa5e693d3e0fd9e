package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/safetext"
)

const (
	askTimeout   = 45 * time.Second // a policy directory that keeps changing is waited for half a minute
	maxErrorText = 4 << 10          // bytes of an answer that go into an error
)

// query posts a question to the running proxy. An answer that is neither 200 nor 422 is an error with its text.
func query(ctx context.Context, address config.Address, q adminapi.Request) (answer []byte, err error) {
	q.Method, q.Timeout = http.MethodPost, askTimeout
	code, answer, err := adminapi.Do(ctx, address.Network, address.Address, q)
	switch {
	case err != nil:
		return nil, err
	case code == http.StatusOK, code == http.StatusUnprocessableEntity:
		return answer, nil
	}
	return nil, fmt.Errorf("the running proxy at %s answered: %s", address.Address, shown(answer))
}

// shown is an answer in plain text, fit to be printed.
func shown(answer []byte) string {
	return strings.TrimSpace(safetext.Replace(safetext.Cut(string(answer), maxErrorText), '?', "\n"))
}
