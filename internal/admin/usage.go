package admin

import (
	"time"

	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/session"
)

// usage says whether something is of use: to sessions that were let in, since the process began.
type usage struct {
	FirstSeen *time.Time `json:"first_seen,omitempty"` // never, if it is not there
	LastSeen  *time.Time `json:"last_seen,omitempty"`  // now, while a session is live
	Sessions  int        `json:"sessions"`             // live
}

// clientCertificate is an element of client_certificates in GET /status.
type clientCertificate struct {
	Serial   string    `json:"serial"`
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
	DaysLeft *int      `json:"days_left,omitempty"`
	usage
}

func showUsage(u session.Usage) usage {
	return usage{optional(u.FirstSeen), optional(u.LastSeen), u.Sessions}
}

func showCertificates(used session.Usages, now time.Time) []clientCertificate {
	list := make([]clientCertificate, 0, len(used.Certificates))
	for _, c := range used.Certificates {
		list = append(list, clientCertificate{c.Serial, c.Subject, c.Issuer, c.NotAfter, daysLeft(c.NotAfter, now), showUsage(c.Usage)})
	}
	return list
}

// daysLeft is nil for the zero time, which is never.
func daysLeft(end, now time.Time) *int {
	if end.IsZero() {
		return nil
	}
	days := policy.DaysLeft(end, now)
	return &days
}
