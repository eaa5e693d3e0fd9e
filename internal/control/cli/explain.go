package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"syscall"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
)

// explain adds to an error what to do next, where the client knows it better than the server.
func (s *session) explain(err error) error {
	if err == nil {
		return nil
	}
	var known *failure
	if errors.As(err, &known) {
		return err
	}
	return &failure{exitFailure, s.advise(err)}
}

func (s *session) advise(err error) error {
	var (
		refused    *api.Error
		connection *apiclient.ConnectionError
		authority  x509.UnknownAuthorityError
		name       x509.HostnameError
	)
	switch {
	case errors.As(err, &refused):
		return s.adviseRefused(refused)
	case errors.As(err, &authority):
		return fmt.Errorf("%w\nName the control plane's CA with --ca: it is control-ca.pem in the daemon's data_dir", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w\nUse a name that its certificate contains, or add this one to names in pgmtls.yaml (or set public_url), and restart pgmtls serve", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w\nNothing listens there: start pgmtls serve, or correct the URL (from %s)", err, s.from.urlFrom)
	case errors.As(err, &connection) && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w\nCheck the URL (from %s), and that its port is open", err, s.from.urlFrom)
	}
	return err
}

func (s *session) adviseRefused(refused *api.Error) error {
	message := clean(refused.Message)
	switch refused.ID {
	case api.Unauthorized:
		if s.from.token == "" {
			return fmt.Errorf("%s\nProvide a token: --token-file, PGMTLS_TOKEN, or token_file in client.yaml", message)
		}
		return fmt.Errorf("%s\nThe token is from %s. With scope all, create another: pgmtls tokens create", message, s.from.tokenAt)
	case api.RateLimit:
		return fmt.Errorf("%s\nTry again in %v", message, max(refused.RetryAfter, 1e9))
	case api.Internal:
		if refused.RequestID != "" {
			return fmt.Errorf("%s\nThe daemon's log says why, under request_id %s", message, clean(refused.RequestID))
		}
	}
	return errors.New(message)
}

// isID reports whether an error is a refusal with this id.
func isID(err error, id string) bool {
	var refused *api.Error
	return errors.As(err, &refused) && refused.ID == id
}
