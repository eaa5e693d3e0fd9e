package admin

import (
	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/policy"
)

func (s *Server) receipts() []adminapi.Receipt {
	list := []adminapi.Receipt{}
	for _, r := range s.Sessions.Receipts() {
		ended := make(map[string]int, len(r.Ended))
		for reason, n := range r.Ended {
			ended[reason.String()] = n
		}
		list = append(list, adminapi.Receipt{
			Generation: r.Generation, Digest: r.Digest, AppliedAt: r.AppliedAt, InForceAt: optional(r.InForceAt),
			Changes: showChanges(r.Changes),
			Ended:   ended,
			Kept:    r.Kept,
		})
	}
	return list
}

func showChanges(c policy.Changes) adminapi.Changes {
	return adminapi.Changes{
		RulesAdded: c.RulesAdded, RulesRemoved: c.RulesRemoved,
		CertificatesAdded: c.CertificatesAdded, CertificatesRemoved: c.CertificatesRemoved,
		ClientCAsAdded: c.ClientCAsAdded, ClientCAsRemoved: c.ClientCAsRemoved,
		Trust: c.TrustChanged, ClientAuth: c.ClientAuthChanged, Identities: c.IdentitiesChanged,
	}
}
