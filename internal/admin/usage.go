package admin

import (
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/session"
)

func showUsage(u session.Usage) adminapi.Usage {
	return adminapi.Usage{FirstSeen: optional(u.FirstSeen), LastSeen: optional(u.LastSeen), Sessions: u.Sessions}
}

func showCertificates(used session.Usages, now time.Time) []adminapi.ClientCertificate {
	list := make([]adminapi.ClientCertificate, 0, len(used.Certificates))
	for _, c := range used.Certificates {
		list = append(list, adminapi.ClientCertificate{
			Serial: c.Serial, Subject: c.Subject, Issuer: c.Issuer, NotAfter: c.NotAfter, DaysLeft: daysLeft(c.NotAfter, now), Usage: showUsage(c.Usage),
		})
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
