package api

import "time"

// Database is a database behind one or more proxies.
type Database struct {
	ID          string   `json:"id"` // UUID
	Name        string   `json:"name"`
	Space       string   `json:"space"`
	Hosts       []string `json:"hosts"` // names and IP addresses of its server certificate; the first stands in URLs
	Port        int      `json:"port"`  // for URLs
	BackendNote string   `json:"backend_note,omitempty"`
	MTLS        string   `json:"mtls,omitempty"` // status of mutual TLS; left out when there is none
	// ClientAuth specifies whether clients need a certificate: "required", or "off" where IP rules alone decide.
	ClientAuth string    `json:"client_auth"`
	Enhanced   string    `json:"enhanced_certificate,omitempty"` // status of the public certificate; left out when there is none
	Generation int64     `json:"generation"`                     // of the policy; 0: there was none yet
	Proxies    []Proxy   `json:"proxies"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// Proxy is one proxy in front of a database.
type Proxy struct {
	Name      string    `json:"name"`
	Node      string    `json:"node,omitempty"`       // the daemon beside it
	PolicyDir string    `json:"policy_dir,omitempty"` // left out: an agent delivers
	Admin     string    `json:"admin,omitempty"`
	Metrics   string    `json:"metrics,omitempty"` // host:port at which Prometheus reaches its admin address, if it was given
	CreatedAt time.Time `json:"created_at"`
}

// NewDatabase asks for a database.
type NewDatabase struct {
	Name        string     `json:"name"`
	Space       string     `json:"space,omitempty"` // left out: "default"
	Hosts       []string   `json:"hosts"`
	Port        int        `json:"port,omitempty"` // left out: 5432
	BackendNote string     `json:"backend_note,omitempty"`
	Proxies     []NewProxy `json:"proxies,omitempty"`
}

// NewProxy registers a proxy. With PolicyDir and Admin the daemon Node, by default the one that is asked, delivers to
// it; without, an agent does.
type NewProxy struct {
	Name      string `json:"name"`
	Node      string `json:"node,omitempty"`
	PolicyDir string `json:"policy_dir,omitempty"`
	Admin     string `json:"admin,omitempty"`
	Metrics   string `json:"metrics,omitempty"` // see [Proxy]
}

// ChangedProxy says what is to be changed of a proxy.
type ChangedProxy struct {
	Metrics *string `json:"metrics"` // see [Proxy]; empty: no address of its own; nil: as it is
}

// Target is what Prometheus' HTTP service discovery reads of one proxy.
type Target struct {
	Targets []string          `json:"targets"` // its address; empty when none is known
	Labels  map[string]string `json:"labels"`  // database, space, proxy
}

// Acknowledgements is what the proxies of a database have, and what still waits for them.
type Acknowledgements struct {
	Database   string                 `json:"database"`   // name
	Generation int64                  `json:"generation"` // that every proxy should have
	InForce    bool                   `json:"in_force"`   // every proxy has it in force; false without a proxy
	Proxies    []ProxyAcknowledgement `json:"proxies"`
	Waiting    []Waiting              `json:"waiting"`
}

// ProxyAcknowledgement is the last that a proxy said of itself.
type ProxyAcknowledgement struct {
	Proxy     string         `json:"proxy"`
	Applied   int64          `json:"applied"`  // generation that new connections follow; 0: none
	InForce   int64          `json:"in_force"` // and no session is left that it refuses
	AppliedAt time.Time      `json:"applied_at,omitzero"`
	InForceAt time.Time      `json:"in_force_at,omitzero"`
	Ended     map[string]int `json:"sessions_ended,omitempty"` // by the last change, by reason
	Error     string         `json:"error,omitempty"`          // why it does not follow its policy, or that it can't be asked
	ErrorKind string         `json:"error_kind,omitempty"`     // [ErrorUnreachable], [ErrorUndeliverable] or [ErrorRefused]; empty: not known
	Drift     string         `json:"drift,omitempty"`          // what somebody else changed in its directory
	Version   string         `json:"version,omitempty"`
	At        time.Time      `json:"at,omitzero"` // when it said so; left out: never
	// ClockSkew is how far the proxy's clock is ahead of the control plane's, in seconds; nil: not known.
	ClockSkew *int64 `json:"clock_skew_seconds,omitempty"`
}

// What can wait for acknowledgements.
const (
	WaitingTLSEndpoint = "tls_endpoint"
	WaitingRule        = "ip_rule"
	WaitingCertificate = "certificate"
	WaitingEnhanced    = "enhanced_certificate"
)

// What is waited for.
const (
	UntilApplied = "applied"  // something was added: new connections are to follow it
	UntilInForce = "in_force" // something was removed: its last session is to end
)

// Waiting is a change that is not in force everywhere yet.
type Waiting struct {
	Kind       string   `json:"kind"`
	ID         string   `json:"id,omitempty"` // of the rule or the certificate
	Name       string   `json:"name"`         // CIDR of the rule, name of the certificate or of the database
	Status     string   `json:"status"`
	Generation int64    `json:"generation"` // that has to be acknowledged
	Until      string   `json:"until"`
	Proxies    []string `json:"proxies"` // that have not acknowledged it; empty only without a proxy
}
