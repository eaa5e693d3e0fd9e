// Package refusal names every way in which the proxy says no.
//
// A refusal is decided in one place and seen in four: the client reads a PostgreSQL error, the log has a
// field, a metric has a label, and the documentation has a row. All four derive from one [Reason], so they
// can't disagree. The package knows no network and no protocol encoding: package pgwire turns a [Response]
// into bytes.
//
// It stands at the bottom of the import order: everything that can refuse imports it, it imports nothing.
package refusal

// Reason is one way to say no. The zero value is not a reason.
type Reason uint8

// The reasons, in the order in which a connection can meet them.
const (
	_ Reason = iota

	// Before TLS.
	AddressShed       // a denied address beyond the rate at which denied addresses are answered
	UnencryptedData   // bytes behind SSLRequest or GSSENCRequest: CVE-2021-23214, CVE-2021-3935
	ProtocolViolation // framing that no PostgreSQL client sends
	UnsupportedProtocol
	TLSRequired
	HandshakeFailed
	CertificateUnreadable // the client's, in the handshake: there is no TLS to answer in
	ALPNMissing           // direct TLS without ALPN "postgresql"
	StartupTimeout
	NoPolicy

	// The gate.
	AddressNotAllowed
	NoClientCertificate
	CertificateExpired
	CertificateNotYetValid
	CertificateRevoked
	CertificateUnknownCA
	CertificateWrongPurpose
	CertificateWeakKey
	CertificateInvalid
	RevocationUnknown // a CRL is configured and none that is current covers the certificate
	UserMissing
	UserNotAllowed

	// Capacity and life cycle.
	TooManySessions
	TooManySessionsFromAddress
	RateLimited
	OutOfDescriptors // the proxy's own, not the database's
	Draining
	BackendUnavailable
	CancelDenied
	InternalError

	// Ends of sessions that were allowed.
	SessionDrained
	SessionForbidden
	SessionIdle
	SessionLifetime

	reasons // their number
)

// row is what the outside sees of a reason. The SQLSTATEs follow two rules: 57P03 is the only code after
// which libpq tries the next host and sslmode=prefer does not reconnect in plaintext, and XX000 and 58000
// are never used, because drivers take them for bugs of the server and pools retry them blindly.
type row struct {
	name     string
	sqlState string // empty: the client is told nothing
	message  string
	hint     string
}

var table = [reasons]row{
	AddressShed:     {name: "address_shed"},
	UnencryptedData: {"unencrypted_data", "08P01", "received unencrypted data after SSL request", "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."},
	ProtocolViolation: {"protocol_violation", "08P01", "invalid length of startup packet",
		"This port speaks the PostgreSQL protocol."},
	UnsupportedProtocol: {"unsupported_protocol", "0A000", "unsupported frontend protocol", "Connect with protocol version 3.0 or later."},
	TLSRequired: {"tls_required", "28000", "connection requires TLS",
		"Connect with sslmode=require or stricter, and with sslcert and sslkey if a client certificate is needed."},
	HandshakeFailed:       {name: "tls_handshake_failed"},
	CertificateUnreadable: {name: "certificate_unreadable"},
	ALPNMissing:           {name: "alpn_missing"},
	StartupTimeout:        {"startup_timeout", "57014", "canceling authentication due to timeout", ""},
	NoPolicy: {"no_policy", "57P03", "the database system is not accepting connections",
		"The gate in front of this database has no access policy in force yet. Try again later."},

	AddressNotAllowed: {"address_not_allowed", "28000", "no allowlist entry for this host",
		"Add the address to the database's IP rules."},
	NoClientCertificate: {"no_client_certificate", "28000", invalidCertificate,
		"Set sslcert and sslkey to a client certificate of this database and its key."},
	CertificateExpired: {"certificate_expired", "28000", invalidCertificate,
		"Download the current client certificate of this database."},
	CertificateNotYetValid: {"certificate_not_yet_valid", "28000", invalidCertificate,
		"Check the client's certificate, and the clocks of the client's issuer and of this server."},
	CertificateRevoked: {"certificate_revoked", "28000", invalidCertificate,
		"Download the current client certificate of this database."},
	CertificateUnknownCA: {"certificate_unknown_ca", "28000", invalidCertificate,
		"Use a client certificate that was issued for this database, with its intermediate certificates."},
	CertificateWrongPurpose: {"certificate_wrong_purpose", "28000", invalidCertificate,
		"Use a certificate issued for TLS client authentication."},
	CertificateWeakKey: {"certificate_weak_key", "28000", invalidCertificate,
		"Use an ECDSA P-256, P-384 or P-521, an Ed25519, or an RSA key of 2048 to 4096 bits."},
	CertificateInvalid: {"certificate_invalid", "28000", invalidCertificate,
		"Use a client certificate that was issued for this database."},
	RevocationUnknown: {"revocation_unknown", "28000", invalidCertificate,
		"The server can't tell whether the certificate has been revoked. Its operator has to renew the revocation list (CRL)."},
	UserMissing: {"user_missing", "28000", "no PostgreSQL user name specified in startup packet", ""},
	UserNotAllowed: {"user_not_allowed", "28000", "certificate authentication failed",
		"Connect as a user that this client certificate is for."},

	TooManySessions:            {"too_many_sessions", "53300", tooMany, "Try again later."},
	TooManySessionsFromAddress: {"too_many_sessions_from_address", "53300", tooMany, "Close unused connections from this address."},
	RateLimited:                {"rate_limited", "53300", tooMany, "Try again later."},
	OutOfDescriptors: {"out_of_descriptors", "53300", tooMany,
		"The proxy in front of the database has no file descriptors left. Its operator can raise LimitNOFILE, or lower limits.sessions."},
	Draining: {"draining", "57P03", "the database system is shutting down",
		"This proxy is being replaced. Connect again."},
	BackendUnavailable: {"backend_unavailable", "57P03", "the database system is not available",
		"The gate is up, but the database behind it does not answer. Try again later."},
	CancelDenied:  {name: "cancel_denied"},
	InternalError: {name: "internal_error"},

	SessionDrained: {"session_drained", "57P01", terminated,
		"Connect again."},
	SessionForbidden: {"session_forbidden", "57P01", terminated, ""},
	SessionIdle:      {"session_idle", "57P05", "terminating connection due to idle-session timeout", ""},
	SessionLifetime:  {"session_lifetime", "57P05", "terminating connection due to session lifetime limit", "Connect again."},
}

// PostgreSQL's own texts, where it has one for several reasons: auth.c, proc.c and postgres.c.
const (
	invalidCertificate = "connection requires a valid client certificate"
	tooMany            = "sorry, too many clients already"
	terminated         = "terminating connection due to administrator command"
)

// String is the reason's name: the metric label, the log field and the row of docs/refusals.md.
func (r Reason) String() string {
	if r == 0 || r >= reasons {
		return "unknown"
	}
	return table[r].name
}

// Silent reports whether the client is told nothing: the connection just ends.
func (r Reason) Silent() bool { return r.SQLState() == "" }

// SQLState is the five-character code that the client sees, empty for a silent reason.
func (r Reason) SQLState() string {
	if r >= reasons {
		return ""
	}
	return table[r].sqlState
}

// All lists every reason, for metrics that start at zero and for the documentation's test.
func All() []Reason {
	all := make([]Reason, 0, reasons-1)
	for r := Reason(1); r < reasons; r++ {
		all = append(all, r)
	}
	return all
}
