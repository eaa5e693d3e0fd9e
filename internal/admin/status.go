package admin

import (
	"net/http"
	"time"

	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/session"
)

// status is the body of GET /status.
type status struct {
	buildinfo.Info
	Time      time.Time      `json:"time"` // by this host's clock
	StartedAt time.Time      `json:"started_at"`
	Phase     Phase          `json:"phase"`
	Ready     bool           `json:"ready"`
	Policy    *policyStatus  `json:"policy"` // null while there has never been a good one
	Reload    reloadStatus   `json:"reload"`
	Sessions  map[string]int `json:"sessions"` // by state
	Receipts  []receipt      `json:"receipts"` // of the last changes of the policy, the oldest first

	LogLinesDropped uint64 `json:"log_lines_dropped"` // since the start

	ClientCertificates []clientCertificate `json:"client_certificates"` // that let a session in, the last seen first
}

// policyStatus is what is in force.
type policyStatus struct {
	Generation   string        `json:"generation"`
	Digest       string        `json:"digest"`
	LoadedAt     time.Time     `json:"loaded_at"`
	ClientAuth   string        `json:"client_auth"`
	Rules        []rule        `json:"ip_rules"`
	Certificates []certificate `json:"certificates"`
	LeftOut      []string      `json:"certificates_left_out,omitempty"` // of the policy and not served, with the reason
	ClientCAs    []authority   `json:"client_ca"`
	CRLs         []crl         `json:"client_crl"`
}

// reloadStatus is how the last look at the policy directory ended. With an error, what is on disk is not in force.
type reloadStatus struct {
	CheckedAt time.Time  `json:"checked_at"`
	Error     string     `json:"error,omitempty"`
	FailedAt  *time.Time `json:"failing_since,omitempty"`
}

type rule struct {
	ID          string     `json:"id"`
	CIDR        string     `json:"cidr"`
	Description string     `json:"description,omitempty"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	Expired     bool       `json:"expired,omitempty"`
	DaysLeft    *int       `json:"days_left,omitempty"`
	usage
}

type certificate struct {
	Names     []string  `json:"names"`
	Serial    string    `json:"serial"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Early     bool      `json:"not_valid_yet,omitempty"` // by this host's clock
	Default   bool      `json:"default"`
}

type authority struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

type crl struct {
	Issuer     string    `json:"issuer"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	Revoked    int       `json:"revoked"`
	Stale      bool      `json:"stale"`
}

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
	answer(w, status{
		Info:      s.Built,
		Time:      now.UTC(),
		StartedAt: s.Started,
		Phase:     phase,
		Ready:     phase == Serving && snapshot != nil,
		Policy:    describe(snapshot, used, now),
		Reload:    reloadStatus{CheckedAt: last.CheckedAt, Error: last.Error, FailedAt: optional(last.FailedAt)},
		Sessions:  sessions,
		Receipts:  s.receipts(),

		LogLinesDropped: lost,

		ClientCertificates: showCertificates(used, now),
	})
}

func describe(s *policy.Snapshot, used session.Usages, now time.Time) *policyStatus {
	if s == nil {
		return nil
	}
	p := &policyStatus{
		Generation: s.Generation, Digest: s.Digest, LoadedAt: s.LoadedAt, ClientAuth: string(s.ClientAuth),
		Rules: []rule{}, Certificates: []certificate{}, ClientCAs: []authority{}, CRLs: []crl{},
	}
	for _, r := range s.Rules.Rules() {
		p.Rules = append(p.Rules, rule{r.ID, r.Prefix.String(), r.Description, optional(r.ExpiresAt), r.Expired(now),
			daysLeft(r.ExpiresAt, now), showUsage(used.Rule(r.ID, r.Prefix))})
	}
	for i, c := range s.Certificates {
		p.Certificates = append(p.Certificates, certificate{c.Names(), c.Serial(), c.Leaf.Issuer.String(), c.NotBefore(), c.NotAfter(), now.Before(c.NotBefore()), i == s.Default})
	}
	p.LeftOut = leftOut(s)
	for _, ca := range s.Trust.CAs() {
		p.ClientCAs = append(p.ClientCAs, authority{ca.Subject, ca.NotAfter})
	}
	for _, list := range s.Trust.CRLs() {
		p.CRLs = append(p.CRLs, crl{list.Issuer, list.ThisUpdate, list.NextUpdate, list.Revoked, now.After(list.NextUpdate)})
	}
	return p
}

// leftOut says which certificates of the policy are not served, and why.
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
