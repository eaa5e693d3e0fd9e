package acme

import (
	"context"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

// The challenges that are answered, by their names in the protocol.
const (
	methodDNS     = acmez.ChallengeTypeDNS01
	methodPersist = acmez.ChallengeTypeDNSPersist01
)

// Solver makes and removes the TXT records of challenges. Both methods are idempotent: making what is there and
// removing what is not there are no errors. Only the record with that value is touched. They may be called from any
// goroutine, and end with ctx. An error is shown to people.
type Solver interface {
	// Present makes the record.
	Present(ctx context.Context, record TXT) error
	// Remove removes it.
	Remove(ctx context.Context, record TXT) error
}

// TXT is one TXT record.
type TXT struct {
	Name  string `json:"name"` // absolute, as in "_acme-challenge.db.example.com."
	Value string `json:"value"`
}

const (
	// solveTimeout bounds one Present or Remove.
	solveTimeout = 60 * time.Second
	// recordTTL is in seconds. A record lives for one challenge.
	recordTTL = 60
)

// challengeName is where the record of a dns-01 challenge stands. A wildcard is proved at the name below its star.
func challengeName(name string) string {
	return canonical("_acme-challenge." + strings.TrimPrefix(name, "*."))
}

// persistName is where a record of dns-persist-01 for a name may stand (draft-ietf-acme-dns-persist).
func persistName(name string) string {
	return canonical("_validation-persist." + strings.TrimPrefix(name, "*."))
}

// PersistRecord is the record that proves the names of a zone by dns-persist-01, for one account of one authority.
func PersistRecord(zone, issuer, account string) TXT {
	return TXT{Name: persistName(zone), Value: issuer + "; accounturi=" + account + "; policy=wildcard"}
}
