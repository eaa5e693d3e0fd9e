package admin

import (
	"net/http"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/session"
)

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	snapshot, last, phase := s.Policy.Current(), s.Policy.Status(), s.currentPhase()
	now := time.Now()
	used := s.Sessions.Table().Usage(now)
	var lost uint64
	if s.LogLinesDropped != nil {
		lost = s.LogLinesDropped()
	}
	sessions := make(map[string]int)
	s.Sessions.Table().EachState(func(state string, n int) { sessions[state] = n })
	answer(w, adminapi.Status{
		Info:      s.Built,
		Time:      now.UTC(),
		StartedAt: s.Started,
		Phase:     string(phase),
		Ready:     phase == Serving && snapshot != nil,
		Policy:    describe(snapshot, used, now),
		Reload:    adminapi.Reload{CheckedAt: last.CheckedAt, Error: last.Error, FailedAt: optional(last.FailedAt)},
		Sessions:  sessions,
		Receipts:  s.receipts(),

		LogLinesDropped: lost,

		ClientCertificates: showCertificates(used, now),

		PolicyDir: s.PolicyDir,
	})
}

func describe(s *policy.Snapshot, used session.Usages, now time.Time) *adminapi.Policy {
	if s == nil {
		return nil
	}
	p := &adminapi.Policy{
		Generation: s.Generation, Database: s.Database, Digest: s.Digest, LoadedAt: s.LoadedAt, ClientAuth: string(s.ClientAuth),
		Rules: []adminapi.Rule{}, Certificates: []adminapi.Certificate{}, ClientCAs: []adminapi.Authority{}, CRLs: []adminapi.CRL{},
	}
	for _, r := range s.Rules.Rules() {
		p.Rules = append(p.Rules, adminapi.Rule{
			ID: r.ID, CIDR: r.Prefix.String(), Description: r.Description, ExpiresAt: optional(r.ExpiresAt), Expired: r.Expired(now),
			DaysLeft: daysLeft(r.ExpiresAt, now), Usage: showUsage(used.Rule(r.ID, r.Prefix)),
		})
	}
	for i, c := range s.Certificates {
		p.Certificates = append(p.Certificates, adminapi.Certificate{
			Names: c.Names(), Serial: c.Serial(), Issuer: c.Leaf.Issuer.String(), NotBefore: c.NotBefore(), NotAfter: c.NotAfter(),
			Early: now.Before(c.NotBefore()), Default: i == s.Default,
		})
	}
	p.LeftOut = leftOut(s)
	for _, ca := range s.Trust.CAs() {
		p.ClientCAs = append(p.ClientCAs, adminapi.Authority{Subject: ca.Subject, NotAfter: ca.NotAfter})
	}
	for _, list := range s.Trust.CRLs() {
		p.CRLs = append(p.CRLs, adminapi.CRL{
			Issuer: list.Issuer, ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate, Revoked: list.Revoked, Stale: now.After(list.NextUpdate),
		})
	}
	return p
}

// leftOut returns the certificates of the policy that are not served, and why.
func leftOut(s *policy.Snapshot) []string {
	var lines []string
	for _, problem := range s.LeftOut {
		lines = append(lines, problem.Error())
	}
	return lines
}

// optional is nil for the zero time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
