package api

import "time"

// The scopes of tokens.
const (
	ScopeAll      = "all"
	ScopeRead     = "read"     // everything but private keys, and nothing is changed
	ScopeDatabase = "database" // one database
	ScopeAgent    = "agent"    // one enrolment of an agent
)

// Token is an API token, without what makes it one.
type Token struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	Scope        string    `json:"scope"`
	Database     string    `json:"database,omitempty"`      // id, with the scopes database and agent
	DatabaseName string    `json:"database_name,omitempty"` // while there is such a database
	Proxy        string    `json:"proxy,omitempty"`         // with the scope agent
	CreatedAt    time.Time `json:"created_at"`
	CreatedBy    string    `json:"created_by,omitempty"`
	ExpiresAt    time.Time `json:"expires_at,omitzero"`   // left out: never
	LastUsedAt   time.Time `json:"last_used_at,omitzero"` // to the hour; left out: never
	Secret       string    `json:"token,omitempty"`       // the token itself; only in the answer that made it
}

// NewToken asks for a token of scope all, read or database. The one of an agent is made with [NewEnrolment].
type NewToken struct {
	Name      string    `json:"name"`
	Scope     string    `json:"scope"`
	Database  string    `json:"database,omitempty"` // name or id, with the scope database
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Agent is an enrolled agent.
type Agent struct {
	ID           string    `json:"id"`
	Database     string    `json:"database"`                // id
	DatabaseName string    `json:"database_name,omitempty"` // while there is such a database
	Proxy        string    `json:"proxy"`
	Serial       string    `json:"serial"` // of its certificate
	ExpiresAt    time.Time `json:"expires_at"`
	EnrolledAt   time.Time `json:"enrolled_at"`
	LastSeenAt   time.Time `json:"last_seen_at,omitzero"` // to the minute
}

// NewEnrolment asks for a token with which one agent may enrol, once, within an hour.
type NewEnrolment struct {
	Database string `json:"database"` // name or id
	Proxy    string `json:"proxy"`    // name of a proxy of it that has no policy_dir
}

// Enrolment is the token, and what the agent needs to know whom it gives it to.
type Enrolment struct {
	Token     string    `json:"token"`
	Database  string    `json:"database"` // id
	Proxy     string    `json:"proxy"`
	ExpiresAt time.Time `json:"expires_at"`
	ControlCA string    `json:"control_ca"` // PEM: what to trust when connecting

	ControlURL string `json:"control_url,omitempty"` // where the agent reaches the control plane; left out: not known
}
