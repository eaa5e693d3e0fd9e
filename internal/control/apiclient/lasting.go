package apiclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// lasting reports whether an error will be there at the next attempt too: the caller's own end, or a certificate that
// is not to be trusted.
func lasting(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		alert        tls.AlertError
	)
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &alert)
}
