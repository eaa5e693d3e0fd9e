package registry

import (
	"context"
	"time"

	"pgmtls-proxy/internal/control/audit"
)

// A clock that is ahead signs what is of no use until its time comes. So what begins in the future is as due as what ends
// soon: it is replaced as soon as a daemon whose clock is right looks at it.

// backdate is how far the beginning of all that is signed lies in the past: for proxies and clients whose clocks are behind
// this one. Within it, a clock that is ahead does no harm.
const backdate = time.Hour

// keepRevoked is how long a certificate stays on its revocation list after its end. A clock that is ahead would otherwise
// take certificates off the list that are still good.
const keepRevoked = 90 * 24 * time.Hour

// early reports whether the server certificate is not valid yet.
func (s *ServerLeaf) early(now time.Time) bool { return s.NotBefore.After(now) }

// early reports whether the certificate is not valid yet.
func (c Certificate) early(now time.Time) bool { return c.CreatedAt.Add(-backdate).After(now) }

// early reports whether the authority, or one above it, is not valid yet. Neither is anything that it issues.
func (a *Authority) early(now time.Time) bool { return a.NotBefore.After(now) }

// earlyList reports whether a revocation list begins in the future, as its nextUpdate shows.
func (r *Registry) earlyList(nextUpdate, now time.Time) bool {
	return nextUpdate.Add(-r.lifetimes.CRL - backdate).After(now)
}

// replaceEarly rotates the authority that signs for a space if it is not valid yet, and returns the space's authorities.
// One from outside stays: when it begins is its owner's choice.
func (r *Registry) replaceEarly(ctx context.Context, now time.Time, space string) ([]Authority, error) {
	list, err := r.Authorities(ctx, space)
	if err != nil || list[0].State != ActiveCA || list[0].External || !list[0].early(now) {
		return list, err
	}
	r.log.Warn().Str("space", space).Str("authority", list[0].Subject).Time("valid_from", list[0].NotBefore).
		Msg("the certificate authority was created by a clock that was ahead; replacing it")
	if _, err := r.RotateCA(ctx, audit.System, space); err != nil {
		return list, err
	}
	return r.Authorities(ctx, space)
}
