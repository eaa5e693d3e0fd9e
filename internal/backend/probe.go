package backend

import (
	"context"
	"crypto/tls"
	"fmt"
)

// Probe reports, by nil, that a PostgreSQL server answers at the target: as far as SSLRequest, and with TLS as far as
// the end of the handshake, so that a certificate that can't be verified shows. It logs in nowhere, so a server that
// is starting up passes. It is bounded as Dial is.
//
// It leaves quietly: PostgreSQL logs nothing about a client that goes away before its startup packet, but does about
// one that goes away in a TLS handshake.
func (t *Target) Probe(ctx context.Context) error {
	ctx, cancel := t.bound(ctx)
	defer cancel()
	if err := t.probe(ctx); err != nil {
		return fmt.Errorf("probe backend %s: %w", t, err)
	}
	return nil
}

func (t *Target) probe(ctx context.Context) error {
	conn, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if t.TLS != nil {
		return nil
	}
	release := watch(ctx, conn)
	defer func() { _ = release() }() // by then the outcome is known
	answer, err := requestTLS(conn)
	if err != nil {
		return failed(ctx, "SSLRequest", err)
	}
	if answer == 'S' {
		// The server offers TLS that the target does not use. Finish the handshake for the server's log's sake. It
		// is verified by nobody, because nothing is sent or read inside, and its failure tells nothing about us.
		secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
		if secured.HandshakeContext(ctx) == nil {
			secured.Close()
		}
	}
	return nil
}
