package api

import "time"

// The statuses of an enhanced certificate. Disabled, Provisioning and Enabled are Heroku's; Deprovisioning is ours.
const (
	EnhancedDisabled = "Disabled" // there is none
	EnhancedEnabled  = "Enabled"  // every proxy serves it
)

// EnhancedCertificate is where the public certificate of a database is.
type EnhancedCertificate struct {
	Status      string    `json:"status"`
	Host        string    `json:"host,omitempty"`
	Reason      string    `json:"reason,omitempty"` // what it waits for, or why it is not renewed
	Detail      string    `json:"detail,omitempty"`
	HelpURL     string    `json:"help_url,omitempty"` // of the authority
	Since       time.Time `json:"since,omitzero"`     // of the reason, or else of the status
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	Ends        time.Time `json:"ends,omitzero"`
	Issuer      string    `json:"issuer,omitempty"`
	Serial      string    `json:"serial,omitempty"`   // hexadecimal
	URL         string    `json:"url,omitempty"`      // by which clients connect, once it is Enabled
	Uploaded    bool      `json:"uploaded,omitempty"` // somebody brought it: nobody renews it
}

// UploadedCertificate is a certificate that somebody brings for the public name.
type UploadedCertificate struct {
	Certificate string `json:"certificate"`    // PEM, the chain, the server's own first
	PrivateKey  string `json:"private_key"`    // PEM, not encrypted
	Host        string `json:"host,omitempty"` // the public name; left out: the first of the certificate that is no wildcard
}

// Renewal asks for another certificate now.
type Renewal struct {
	Reason string `json:"reason,omitempty"` // KeyCompromise: the old one is revoked once every proxy has the new one
}

// KeyCompromise is the reason of a renewal: somebody else may know the private key.
const KeyCompromise = "key_compromise"

// DNSRecord is a record that a person makes for an enhanced certificate.
type DNSRecord struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Value    string `json:"value,omitempty"` // left out: it is yours to know
	Purpose  string `json:"purpose"`
	Required bool   `json:"required"`
	Found    bool   `json:"found"` // the DNS has it
}

// ACME is the state of the public authorities.
type ACME struct {
	Authorities []ACMEAuthority `json:"authorities"` // in the order in which they are tried; none: there is no acme block
	Zone        string          `json:"zone,omitempty"`
	Waiting     int             `json:"waiting"` // certificates that wait for an order
	// OldestWait is since when the one that waits longest does.
	OldestWait time.Time `json:"oldest_wait,omitzero"`
}

// ACMEAuthority is a public authority.
type ACMEAuthority struct {
	Name        string    `json:"name"`
	Directory   string    `json:"directory"`
	Account     string    `json:"account,omitempty"` // URL
	Problem     string    `json:"problem,omitempty"` // of the account
	Reason      string    `json:"reason,omitempty"`  // for which it is asked nothing
	Detail      string    `json:"detail,omitempty"`
	AwaySince   time.Time `json:"away_since,omitzero"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	OrdersLeft  *int      `json:"orders_left,omitempty"` // of its limit as configured; left out: there is none
}
