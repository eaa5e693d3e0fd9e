package api

import "time"

// Report is what a proxy says of its policy, for one database. The zero values are "never", "none" and "nothing".
// Generations count only if their bytes are those that were published.
type Report struct {
	Applied   int64     `json:"applied"`             // generation that new connections follow; 0: none of ours
	AppliedAt time.Time `json:"applied_at,omitzero"` // since when
	// InForce is the last generation that holds for everybody: no session is left that it, or one before it, refuses.
	InForce   int64     `json:"in_force"`
	InForceAt time.Time `json:"in_force_at,omitzero"`

	Ended map[string]int `json:"sessions_ended,omitempty"` // by the change to Applied, by the reason of the refusal
	Kept  int            `json:"sessions_kept,omitempty"`  // that went on behind the change to Applied

	Error string `json:"error,omitempty"` // why the proxy does not follow its policy, or that it can't be asked
	// ErrorKind is one of the three below; empty without an Error, and from agents that don't tell them apart.
	ErrorKind string `json:"error_kind,omitempty"`

	OnDisk int64  `json:"on_disk,omitempty"` // generation of the policy.yaml in the directory; read from the directory only
	Drift  string `json:"drift,omitempty"`   // how the directory differs from what was published; read from the directory only

	// Certificates are the client certificates that let a session in since the proxy began, by serial:
	// lower-case hex pairs with colons.
	Certificates map[string]Usage `json:"certificates,omitempty"`
	ProxyVersion string           `json:"proxy_version,omitempty"`

	LogLinesDropped int64 `json:"log_lines_dropped,omitempty"` // of the agent's log, since it started

	// Time is the proxy's clock when the report is sent; zero: not known.
	Time time.Time `json:"time,omitzero"`
	// ReadAt is when Time was read of the proxy, by the clock of the one who asked it. It is not sent: before that, Time is
	// moved on by what has passed.
	ReadAt time.Time `json:"-"`
}

// The kinds of errors of a proxy. They differ in what there is to do.
const (
	ErrorUnreachable   = "unreachable"   // it can't be asked; what it follows is not known
	ErrorUndeliverable = "undeliverable" // its policy can't be put into its directory; it follows what it had
	ErrorRefused       = "refused"       // it refuses what is in its directory; it follows what it had
)

// Usage is who uses a client certificate at a proxy.
type Usage struct {
	Sessions int       `json:"sessions"`           // live
	LastSeen time.Time `json:"last_seen,omitzero"` // now, while there are sessions
}

// Effect is what a policy would do at a proxy if it came into force. Lists have at most 100 elements; counts are of all.
type Effect struct {
	OK       bool     `json:"ok"`                 // it would come into force
	Problems []string `json:"problems,omitempty"` // why not, one sentence each

	Unchanged bool           `json:"unchanged,omitempty"` // it is in force already, byte for byte
	Kept      int            `json:"sessions_kept"`
	Ended     int            `json:"sessions_ended"`
	ByReason  map[string]int `json:"ended_by_reason,omitempty"` // by the reason of the refusal
	ByRule    map[string]int `json:"ended_by_rule,omitempty"`   // by the id of the rule that they were let in by
	// ByCertificate are the ended sessions by the serial of their certificate.
	ByCertificate map[string]int `json:"ended_by_certificate,omitempty"`
	Sessions      []Session      `json:"sessions,omitempty"` // that would be ended, the oldest first
}

// Session is one that a policy would end.
type Session struct {
	Connection string    `json:"conn"` // id, as in the proxy's log
	Addr       string    `json:"addr"`
	Since      time.Time `json:"since,omitzero"`
	User       string    `json:"user"`
	Database   string    `json:"database"` // of PostgreSQL
	Rule       string    `json:"rule,omitempty"`
	Serial     string    `json:"serial,omitempty"`  // of its certificate
	Refusal    string    `json:"refusal,omitempty"` // what it would be refused for
}
