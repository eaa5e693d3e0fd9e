package api

import (
	"time"
)

// The states of mutual TLS, of a rule and of a certificate. All but Deauthorizing are Heroku's words.
const (
	Provisioning   = "Provisioning"
	Operational    = "Operational"
	Deprovisioning = "Deprovisioning"

	Authorizing   = "Authorizing"
	Authorized    = "Authorized"
	Deauthorizing = "Deauthorizing" // ours: deleted, and not yet out of force on every proxy

	Pending   = "pending"
	Ready     = "ready"
	Disabling = "disabling"
	Disabled  = "disabled"
)

// TLSEndpoint is mutual TLS of a database.
type TLSEndpoint struct {
	App       string `json:"app"`   // the space
	Addon     string `json:"addon"` // the database's name
	Status    string `json:"status"`
	EnabledBy string `json:"enabled_by"` // name of the token

	// ActiveIPRules are the networks of the rules that every proxy follows, in the order of the list. It is never null.
	ActiveIPRules []string `json:"active_ip_rules"`

	// CertificateAuthorityChain is what clients trust: every CA of the space that is not retired, in PEM.
	CertificateAuthorityChain string `json:"certificate_authority_chain"`
}

// Rule lets a network in.
type Rule struct {
	ID          string    `json:"id"` // UUID
	CIDR        string    `json:"cidr"`
	Description string    `json:"description"`
	Status      string    `json:"status"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // ours
}

// NewRule asks for a rule.
type NewRule struct {
	CIDR        string    `json:"cidr"`
	Description string    `json:"description,omitempty"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"` // ours; left out: never
}

// RuleDryRun specifies what the delete of a rule would do. Nothing was done.
type RuleDryRun struct {
	Rule    Rule          `json:"rule"`
	Ended   int           `json:"sessions_ended"` // on the proxies that answered
	Proxies []ProxyEffect `json:"proxies"`
}

// ProxyEffect is one proxy's answer to a dry run. Exactly one of Effect and Error is there.
type ProxyEffect struct {
	Proxy  string  `json:"proxy"`
	Effect *Effect `json:"effect,omitempty"`
	Error  string  `json:"error,omitempty"` // why there is no answer
}

// Certificate is a client certificate.
type Certificate struct {
	ID        string    `json:"id"` // UUID
	Name      string    `json:"name"`
	Status    string    `json:"status"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	ExpiresAt time.Time `json:"expires_at"`

	// Ours.
	Serial      string    `json:"serial"`                // lower-case hex pairs with colons
	DisableAt   time.Time `json:"disable_at,omitzero"`   // it will be revoked then, unless it is kept
	Predecessor string    `json:"predecessor,omitempty"` // id of the one that this one replaces
	Successor   string    `json:"successor,omitempty"`   // id of the one that replaces this one

	// Only in the answer about one certificate.
	PrivateKey           string `json:"private_key,omitempty"` // PKCS #8 in PEM; left out when the client keeps its own key, and for tokens that may only read
	CertificateWithChain string `json:"certificate_with_chain,omitempty"`
}

// NewCertificate asks for a client certificate. All of it is optional.
type NewCertificate struct {
	Name string `json:"name,omitempty"`
	CSR  string `json:"csr,omitempty"` // ours: a PKCS #10 request in PEM, when the client keeps its own key
}

// CertificateFiles is what a client needs, as it was at one moment.
type CertificateFiles struct {
	CertificateWithChain string `json:"certificate_with_chain"` // and the intermediate that issued it, if there is one
	PrivateKey           string `json:"private_key,omitempty"`  // left out when the client keeps its own key
	Root                 string `json:"root"`                   // what the client trusts
}
