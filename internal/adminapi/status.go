package adminapi

import (
	"time"

	"pgmtls-proxy/internal/buildinfo"
)

// Status is the body of GET /status.
type Status struct {
	buildinfo.Info
	Time      time.Time      `json:"time"` // by this host's clock
	StartedAt time.Time      `json:"started_at"`
	Phase     string         `json:"phase"`
	Ready     bool           `json:"ready"`
	Policy    *Policy        `json:"policy"` // null while there has never been a good one
	Reload    Reload         `json:"reload"`
	Sessions  map[string]int `json:"sessions"` // by state
	Receipts  []Receipt      `json:"receipts"` // of the last changes of the policy, the oldest first

	LogLinesDropped uint64 `json:"log_lines_dropped"` // since the start

	ClientCertificates []ClientCertificate `json:"client_certificates"` // that let a session in, the last seen first

	PolicyDir string `json:"policy_dir,omitempty"` // absolute path, as this process sees it; proxies before it left it out
}

// Policy is what is in force.
type Policy struct {
	Generation   string        `json:"generation"`
	Database     string        `json:"database,omitempty"` // name, of the policy's header or proxy.yaml
	Digest       string        `json:"digest"`
	LoadedAt     time.Time     `json:"loaded_at"`
	ClientAuth   string        `json:"client_auth"`
	Rules        []Rule        `json:"ip_rules"`
	Certificates []Certificate `json:"certificates"`
	LeftOut      []string      `json:"certificates_left_out,omitempty"` // of the policy and not served, with the reason
	ClientCAs    []Authority   `json:"client_ca"`
	CRLs         []CRL         `json:"client_crl"`
}

// Reload is how the last look at the policy directory ended. With an error, what is on disk is not in force.
type Reload struct {
	CheckedAt time.Time  `json:"checked_at"`
	Error     string     `json:"error,omitempty"`
	FailedAt  *time.Time `json:"failing_since,omitempty"`
}

// Rule is an IP rule of the policy in force.
type Rule struct {
	ID          string     `json:"id"`
	CIDR        string     `json:"cidr"`
	Description string     `json:"description,omitempty"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	Expired     bool       `json:"expired,omitempty"`
	DaysLeft    *int       `json:"days_left,omitempty"`
	Usage
}

// Certificate is a server certificate of the policy in force.
type Certificate struct {
	Names     []string  `json:"names"`
	Serial    string    `json:"serial"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Early     bool      `json:"not_valid_yet,omitempty"` // by this host's clock
	Default   bool      `json:"default"`
}

// Authority is a CA that client certificates are verified against.
type Authority struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

// CRL is a certificate revocation list of the policy in force.
type CRL struct {
	Issuer     string    `json:"issuer"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	Revoked    int       `json:"revoked"`
	Stale      bool      `json:"stale"`
}

// Usage is how much something is used by sessions that were admitted since the process began.
type Usage struct {
	FirstSeen *time.Time `json:"first_seen,omitempty"` // never, if it is not there
	LastSeen  *time.Time `json:"last_seen,omitempty"`  // now, while a session is live
	Sessions  int        `json:"sessions"`             // live
}

// ClientCertificate is an element of client_certificates in GET /status.
type ClientCertificate struct {
	Serial   string    `json:"serial"`
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after"`
	DaysLeft *int      `json:"days_left,omitempty"`
	Usage
}

// Receipt is what became of one change of the policy. With in_force_at set, nobody is connected any more whom the
// generation refuses: that is what a control plane waits for.
type Receipt struct {
	Generation string         `json:"generation"`
	Digest     string         `json:"digest"`
	AppliedAt  time.Time      `json:"applied_at"`
	InForceAt  *time.Time     `json:"in_force_at"`
	Changes    Changes        `json:"changes"`
	Ended      map[string]int `json:"sessions_ended"` // by the reason for which they would be refused
	Kept       int            `json:"sessions_kept"`
}

// Changes are the differences of two policies.
type Changes struct {
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
