package admin

import (
	"time"

	"pgmtls-proxy/internal/policy"
)

// receipt is what became of one change of the policy. With in_force_at set, nobody is connected any more whom the
// generation refuses: that is what a control plane waits for.
type receipt struct {
	Generation string         `json:"generation"`
	Digest     string         `json:"digest"`
	AppliedAt  time.Time      `json:"applied_at"`
	InForceAt  *time.Time     `json:"in_force_at"`
	Changes    changes        `json:"changes"`
	Ended      map[string]int `json:"sessions_ended"` // by the reason for which they would be refused
	Kept       int            `json:"sessions_kept"`
}

type changes struct {
	RulesAdded          []string `json:"ip_rules_added,omitempty"`
	RulesRemoved        []string `json:"ip_rules_removed,omitempty"`
	CertificatesAdded   []string `json:"certificates_added,omitempty"`
	CertificatesRemoved []string `json:"certificates_removed,omitempty"`
	ClientCAsAdded      []string `json:"client_ca_added,omitempty"`
	ClientCAsRemoved    []string `json:"client_ca_removed,omitempty"`
	Trust               bool     `json:"trust_changed,omitempty"` // CAs, revocation lists or revoked serials
	ClientAuth          bool     `json:"client_auth_changed,omitempty"`
	Identities          bool     `json:"identities_changed,omitempty"`
}

func (s *Server) receipts() []receipt {
	list := []receipt{}
	for _, r := range s.Sessions.Receipts() {
		ended := make(map[string]int, len(r.Ended))
		for reason, n := range r.Ended {
			ended[reason.String()] = n
		}
		list = append(list, receipt{
			Generation: r.Generation, Digest: r.Digest, AppliedAt: r.AppliedAt, InForceAt: optional(r.InForceAt),
			Changes: showChanges(r.Changes),
			Ended:   ended,
			Kept:    r.Kept,
		})
	}
	return list
}

func showChanges(c policy.Changes) changes {
	return changes{
		RulesAdded: c.RulesAdded, RulesRemoved: c.RulesRemoved,
		CertificatesAdded: c.CertificatesAdded, CertificatesRemoved: c.CertificatesRemoved,
		ClientCAsAdded: c.ClientCAsAdded, ClientCAsRemoved: c.ClientCAsRemoved,
		Trust: c.TrustChanged, ClientAuth: c.ClientAuthChanged, Identities: c.IdentitiesChanged,
	}
}
