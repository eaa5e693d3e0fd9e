package registry

import (
	"strings"
	"time"
)

// Database is a database behind one or more proxies. It is also the document that the store keeps.
type Database struct {
	ID          string    `json:"id"` // UUID
	Name        string    `json:"name"`
	Space       string    `json:"space"`
	Hosts       []string  `json:"hosts"` // DNS names and IP addresses of its server certificate; the first stands in URLs
	Port        int       `json:"port"`  // for URLs
	BackendNote string    `json:"backend_note,omitempty"`
	Proxies     []Proxy   `json:"proxies"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`

	// Generation counts the policies. 0: there is none yet, because mutual TLS was never created.
	Generation int64 `json:"generation"`

	MTLS         *MTLS         `json:"mtls,omitempty"` // nil: not created, or destroyed and out of force
	Rules        []Rule        `json:"ip_rules"`       // oldest first
	Certificates []Certificate `json:"certificates"`   // oldest first
	Server       *ServerLeaf   `json:"server,omitempty"`
	Trust        []Trust       `json:"trust,omitempty"`  // the authorities in the policy, the signing one first
	Issues       *Issues       `json:"issues,omitempty"` // of client certificates; nil: none yet
	Enhanced     *Enhanced     `json:"enhanced,omitempty"`

	// ClientAuthOff lets clients in by the IP rules alone, as long as there is no mutual TLS. Only what was asked for on a
	// database without mutual TLS sets it; mutual TLS takes it back for good.
	ClientAuthOff bool `json:"client_auth_off,omitempty"`

	revision int64 // of the document in the store
}

// Proxy is one proxy in front of a database, and what it has acknowledged.
type Proxy struct {
	Name      string    `json:"name"` // unique in the database
	CreatedAt time.Time `json:"created_at"`

	// Where the daemon itself delivers. Without PolicyDir an agent does.
	Node      string `json:"node,omitempty"` // the daemon beside it
	PolicyDir string `json:"policy_dir,omitempty"`
	Admin     string `json:"admin,omitempty"`

	// Metrics is where Prometheus reaches the proxy's admin address, host:port; empty: at Admin, if that is TCP.
	Metrics string `json:"metrics,omitempty"`

	Acknowledged Acknowledgement `json:"acknowledged"`
}

// Target returns the host:port at which Prometheus reaches the proxy's metrics; empty: none is known.
func (p Proxy) Target() string {
	if p.Metrics == "" && !strings.HasPrefix(p.Admin, "unix:") {
		return p.Admin
	}
	return p.Metrics
}

// Local reports whether a daemon delivers to the proxy itself.
func (p Proxy) Local() bool { return p.PolicyDir != "" }

// Acknowledgement is the last that a proxy said of itself.
type Acknowledgement struct {
	Applied       int64          `json:"applied"`  // generation that new connections follow
	InForce       int64          `json:"in_force"` // and no session is left that it refuses
	AppliedAt     time.Time      `json:"applied_at,omitzero"`
	InForceAt     time.Time      `json:"in_force_at,omitzero"`
	SessionsEnded map[string]int `json:"sessions_ended,omitempty"` // by the last change, by reason
	Error         string         `json:"error,omitempty"`          // why it does not follow its policy, or that it can't be asked
	ErrorKind     string         `json:"error_kind,omitempty"`     // one of [api.Report]'s; empty: an older agent does not say
	Drift         string         `json:"drift,omitempty"`          // what somebody else changed in its directory
	Version       string         `json:"version,omitempty"`
	At            time.Time      `json:"at,omitzero"`

	AgentLogLinesDropped int64 `json:"agent_log_lines_dropped,omitempty"` // by the agent, since it started

	Clock    Clock    `json:"clock,omitzero"`
	Recorded Recorded `json:"recorded,omitzero"`
}

// Recorded is how often the audit trail and people were told what a proxy says of itself, which it may make up.
type Recorded struct {
	Day       string    `json:"day"`                // of UTC, such as 2026-11-27
	Count     int       `json:"count"`              // records of that day
	Overtaken time.Time `json:"overtaken,omitzero"` // when people were last told that it is ahead of the store
}

// Clock is what is known of a proxy's clock. Its zero value: nothing.
type Clock struct {
	Known  bool          `json:"known"`
	Skew   time.Duration `json:"skew"`             // how far it is ahead of this control plane's, in nanoseconds, whole seconds
	ToldAt time.Time     `json:"told_at,omitzero"` // when people were last told that it is wrong
}

// Status is the state of mutual TLS, of a rule or of a certificate. The words are those of Heroku's data API.
type Status string

const (
	Provisioning   Status = "Provisioning"
	Operational    Status = "Operational"
	Deprovisioning Status = "Deprovisioning"

	Authorizing   Status = "Authorizing"
	Authorized    Status = "Authorized"
	Deauthorizing Status = "Deauthorizing" // ours: deleted, and not yet out of force everywhere

	Pending   Status = "pending"
	Ready     Status = "ready"
	Disabling Status = "disabling"
	Disabled  Status = "disabled"
)

// MTLS is mutual TLS of a database.
type MTLS struct {
	Status     Status    `json:"status"`
	EnabledBy  string    `json:"enabled_by"`
	Generation int64     `json:"generation"` // that created or destroyed it
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// Rule lets a network in.
type Rule struct {
	ID          string    `json:"id"` // UUID
	CIDR        string    `json:"cidr"`
	Description string    `json:"description"`
	Status      Status    `json:"status"`
	Generation  int64     `json:"generation"` // that added it, or removes it
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // zero: never
}

// Certificate is a client certificate. Its PEM text and its key are in the store under its id, the key sealed.
type Certificate struct {
	ID          string    `json:"id"` // UUID
	Name        string    `json:"name"`
	Serial      string    `json:"serial"`
	CA          string    `json:"ca"` // id of its issuer
	Status      Status    `json:"status"`
	Generation  int64     `json:"generation"` // that admits it, or revokes it
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	DisableAt   time.Time `json:"disable_at,omitzero"`   // when it will be revoked; zero: not asked for
	Predecessor string    `json:"predecessor,omitempty"` // id of the one that this one replaces
	Successor   string    `json:"successor,omitempty"`   // id of the one that replaces this one
	OwnKey      bool      `json:"own_key,omitempty"`     // made from a request: the client keeps its key
}

// Usable reports whether the certificate is let in, or will be as soon as the proxies know it.
func (c Certificate) Usable() bool { return c.Status == Pending || c.Status == Ready }

// ServerLeaf is the database's server certificate. Its PEM texts are in the store under its id, the key sealed.
type ServerLeaf struct {
	ID        string    `json:"id"`
	CA        string    `json:"ca"`
	Hosts     []string  `json:"hosts"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Trust is one authority in a database's policy, with the revocation list that goes with it.
type Trust struct {
	CA         string    `json:"ca"`
	Generation int64     `json:"generation"` // since which its certificates are let in
	CRL        int64     `json:"crl"`        // number of the revocation list
	NextUpdate time.Time `json:"next_update"`
	Own        bool      `json:"own,omitempty"`     // the list is the database's; false: the space's, of an older release
	Revoked    int       `json:"revoked,omitempty"` // entries of the database's list
}

// AuthorityState specifies what a space's certificate authority is for.
type AuthorityState string

const (
	ActiveCA   AuthorityState = "active"   // signs
	RetiringCA AuthorityState = "retiring" // still trusted, signs only its revocation list and server certificates
	RetiredCA  AuthorityState = "retired"  // no policy trusts it, its key is gone
)

// Authority is a certificate authority of a space.
type Authority struct {
	ID             string         `json:"id"`
	Space          string         `json:"space"`
	Subject        string         `json:"subject"`
	State          AuthorityState `json:"state"`
	External       bool           `json:"external,omitempty"` // its key came from outside
	CertificatePEM string         `json:"certificate"`        // what proxies trust
	ChainPEM       string         `json:"chain"`              // with what is above it: what clients trust
	NotBefore      time.Time      `json:"not_before"`
	NotAfter       time.Time      `json:"not_after"`
	CreatedAt      time.Time      `json:"created_at"`
	UpdatedAt      time.Time      `json:"updated_at"`

	// Revoked is what an older release revoked. What is revoked now has keys of its own.
	Revoked []Revoked `json:"revoked,omitempty"`
	Warned  bool      `json:"warned,omitempty"` // people were told that it ends

	revision int64
}

// Revoked is an entry of a revocation list. It is left out when the certificate would have ended long ago anyway.
type Revoked struct {
	Serial    string    `json:"serial"`
	At        time.Time `json:"at"`
	ExpiresAt time.Time `json:"expires_at"`
}
