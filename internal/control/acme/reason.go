package acme

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"pgmtls-proxy/internal/safetext"
)

// Reason specifies what a certificate waits for, or why it has not been issued. The words are those of the API.
type Reason string

// The reasons. Those up to Cleaning are progress; the others are problems.
const (
	Queued     Reason = "queued"     // for its turn, or for a token of the budget
	Ordered    Reason = "ordered"    // the authority is being asked for an order
	Validating Reason = "validating" // the DNS record is being made, or looked up by the authority
	Issuing    Reason = "issuing"    // the names are proved, and the certificate is being made
	Issued     Reason = "issued"

	RateLimited    Reason = "rate_limited"    // the authority says to wait
	CAUnavailable  Reason = "ca_unavailable"  // it does not answer, or answers nonsense
	DNSFailed      Reason = "dns_failed"      // the challenge's record could not be made, or was not found
	CAAForbids     Reason = "caa_forbids"     // a CAA record names other authorities, accounts or methods
	WildcardHost   Reason = "wildcard_host"   // the challenge's record would make the host vanish
	Rejected       Reason = "rejected"        // the authority issues nothing for the name
	ClockWrong     Reason = "clock_wrong"     // this machine's clock differs from the authority's
	AccountProblem Reason = "account_problem" // the account, its binding or its agreement needs a person
	BadChain       Reason = "bad_chain"       // what was issued can't be served
)

// Problem is an error of a step, with what follows from it.
type Problem struct {
	Reason Reason
	Detail string // for people: what was seen, and what to do
	URL    string // of a page that explains it, if the authority names one

	// NotBefore is when the authority wants to be asked again; zero if it did not say.
	NotBefore time.Time
	// Spent: the order can't go on. It is not set for what another try of the same step may get over.
	Spent bool
	// Everybody: it is the authority that fails or limits, not this certificate.
	Everybody bool

	kind string // of ACME, such as "alreadyReplaced"; empty if it is not the authority's
}

func (p *Problem) Error() string { return fmt.Sprintf("%s: %s", p.Reason, p.Detail) }

// problem makes one of this program's own.
func newProblem(reason Reason, format string, args ...any) *Problem {
	return &Problem{Reason: reason, Detail: clean(fmt.Sprintf(format, args...))}
}

// asProblem returns the problem in an error; what is none counts as the authority's or the store's trouble, which another
// try may get over.
func asProblem(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return newProblem(CAUnavailable, "%s", err)
}

// maxDetail bounds what is kept of another's words, in bytes.
const maxDetail = 500

// clean makes text that somebody else chose fit to be shown: one line, printable, and not long.
func clean(text string) string {
	return safetext.Truncate(safetext.Replace(strings.Join(strings.Fields(text), " "), '?', ""), maxDetail)
}
