package api

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Certify asks for an agent's client certificate: with the one-time token as Bearer to enrol, with the present
// certificate to renew it.
type Certify struct {
	CSR string `json:"csr"` // PKCS #10 in PEM; its subject does not count
}

// Certified is the certificate. A renewed one replaces the one before as soon as it was used.
type Certified struct {
	Agent       string    `json:"agent"`    // id
	Database    string    `json:"database"` // id
	Proxy       string    `json:"proxy"`
	Certificate string    `json:"certificate"` // PEM
	ControlCA   string    `json:"control_ca"`  // PEM: what to trust from now on
	RenewAt     time.Time `json:"renew_at"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// StreamLine is one line of the agents' stream. Exactly one field is there. A line that a newer server sends and that
// has none of them is to be skipped.
type StreamLine struct {
	Policy    *Policy    `json:"policy,omitempty"`
	Question  *Question  `json:"question,omitempty"`
	Heartbeat *Heartbeat `json:"heartbeat,omitempty"`
}

// The kinds of a [Question].
const (
	AskDryRun = ""       // what would Policy do
	AskReport = "report" // what is the proxy's report now; without Policy
)

// Question asks an agent about its proxy. The answer goes to /v1/agent/answers/{id}.
type Question struct {
	ID     string `json:"id"`
	Kind   string `json:"kind,omitempty"`
	Policy Policy `json:"policy,omitzero"`
}

// Answer is the agent's. Exactly one of Effect, Report and Error is there.
type Answer struct {
	Kind   string  `json:"kind,omitempty"` // the question's; an agent that does not know of kinds leaves it out
	Effect *Effect `json:"effect,omitempty"`
	Report *Report `json:"report,omitempty"`
	Error  string  `json:"error,omitempty"` // why there is neither
}

// Heartbeat comes every [HeartbeatEvery], whatever else does.
type Heartbeat struct {
	At time.Time `json:"at"`
}

const (
	HeartbeatEvery = 10 * time.Second // on both streams; on the event stream it is a comment
	SilenceBound   = 35 * time.Second // with no line for so long a client takes the stream for dead
)

// Digest distinguishes policies: the SHA-256 of [PolicyFile], in hex. That file names all others by what is
// in them. Empty without it.
func Digest(policy Policy) string {
	text, ok := policy.Files[PolicyFile]
	if !ok {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
