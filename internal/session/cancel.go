package session

import (
	"context"
	"io"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/tlsconf"
)

const (
	// cancelTimeout bounds a cancel of the proxy's own, for a client that is gone.
	cancelTimeout = 5 * time.Second
	// MaxCancels is how many CancelRequests may be at the backend at once. Each takes a process there.
	MaxCancels = 64

	// Wrong guesses of a key that a client may make. Its key has 32 bits before protocol 3.2.
	cancelKeyFailuresPerSecond, cancelKeyFailuresBurst = 1, 20
)

// cancel forwards a CancelRequest, and answers as PostgreSQL does: with the end of the connection, once the
// backend has ended its own. There is never a reply, so that nobody learns whether a key was right.
//
// psql and most drivers send it in plaintext even where TLS is required, so it must be taken. It carries its own
// proof, the session's key, and passes only for a live session of this proxy and from the address of that session,
// or in TLS with the certificate of that session.
func (c *connection) cancel(o pgwire.Opening, r io.Reader) error {
	c.opening.cancel = true
	request, err := pgwire.ReadCancel(r, o)
	if err != nil {
		return err
	}
	if err := c.mayCancel(request.Key); err != nil {
		return err
	}
	select {
	case c.server.admission.cancels <- struct{}{}:
		defer func() { <-c.server.admission.cancels }()
	default:
		return refusal.New(refusal.CancelDenied, "too many cancel requests at once")
	}
	ctx, stop := context.WithDeadline(context.Background(), c.deadline)
	defer stop()
	if err := c.server.database(c.snap).Cancel(ctx, request.Raw); err != nil {
		return refusal.Because(refusal.BackendUnavailable, err)
	}
	if c.tls != nil {
		c.tls.CloseWrite()
	}
	return errDone
}

// mayCancel is the gate of CancelRequests. It asks the policy that is in force now: the one of the connection's begin may
// have let in an address that is no longer allowed.
func (c *connection) mayCancel(key pgwire.Key) error {
	if c.snap = c.server.config.Policy.Current(); c.snap == nil {
		return refusal.New(refusal.CancelDenied, "no policy is in force")
	}
	q := c.request()
	if c.tls == nil {
		if !c.snap.Admits(q.Addr, q.Now) {
			return refusal.New(refusal.CancelDenied, "address not allowed")
		}
	} else {
		grant, refused := c.snap.AuthorizeCancel(q)
		if refused != nil {
			return refusal.Because(refusal.CancelDenied, refused)
		}
		c.setGrant(grant)
	}
	if c.server.config.ForwardAnyCancel {
		return nil
	}
	owner, denied := c.server.ownerOf(c, key)
	if denied != "" {
		return refusal.New(refusal.CancelDenied, "%s", denied)
	}
	c.opening.cancels = owner.id
	return nil
}

// sameCertificate reports whether two connections have proven the key of the same client certificate.
func sameCertificate(a, b *tlsconf.Identity) bool {
	return a != nil && b != nil && a.Fingerprint == b.Fingerprint
}
