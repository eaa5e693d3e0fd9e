package api

import "time"

// The states of a certificate authority.
const (
	ActiveCA   = "active"   // signs
	RetiringCA = "retiring" // still trusted
	RetiredCA  = "retired"  // trusted by no policy, its key is gone
)

// Authority is a certificate authority of a space.
type Authority struct {
	ID          string    `json:"id"`
	Space       string    `json:"space"`
	Subject     string    `json:"subject"`
	State       string    `json:"state"`
	External    bool      `json:"external,omitempty"` // its key came from outside
	Certificate string    `json:"certificate"`        // PEM: what proxies trust
	Chain       string    `json:"chain"`              // PEM, with what is above it: what clients trust
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Revoked     int       `json:"revoked"` // certificates of it that are revoked and did not end long ago
	Users       []CAUser  `json:"users"`   // certificates of it that are let in or served; empty when retired
	// AsOf is when the proxies were asked for the use of the certificates. Left out: they were not, and Users has what they
	// reported last, up to five minutes ago.
	AsOf       time.Time     `json:"as_of,omitzero"`
	Unanswered []SilentProxy `json:"unanswered,omitempty"` // whose use is that of the last report nonetheless
	CreatedAt  time.Time     `json:"created_at"`
	UpdatedAt  time.Time     `json:"updated_at"`
}

// CRL is a signed list of all certificates of an authority that are revoked and have not expired.
type CRL struct {
	CRL        string    `json:"crl"` // PEM, RFC 5280
	Number     int64     `json:"number"`
	Revoked    int       `json:"revoked"`     // entries
	NextUpdate time.Time `json:"next_update"` // get it again before
}

// CAUser is a certificate that an authority signed, and that is in use.
type CAUser struct {
	Database    string    `json:"database"`              // name
	Server      bool      `json:"server,omitempty"`      // the database's server certificate
	Certificate string    `json:"certificate,omitempty"` // id of the client certificate
	Name        string    `json:"name,omitempty"`        // of the client certificate
	ExpiresAt   time.Time `json:"expires_at,omitzero"`   // of the client certificate
	LastSeen    time.Time `json:"last_seen,omitzero"`    // left out: not since its proxies started
	Sessions    int       `json:"sessions"`              // live, over all proxies
}

// SilentProxy is a proxy that could not be asked.
type SilentProxy struct {
	Database string `json:"database"` // name
	Proxy    string `json:"proxy"`
	Error    string `json:"error"` // why not
}

// ImportCA brings a certificate authority from outside; it becomes the active one.
type ImportCA struct {
	Certificate string `json:"certificate"` // PEM: the CA first, then what is above it
	PrivateKey  string `json:"private_key"` // PEM, not encrypted
}
