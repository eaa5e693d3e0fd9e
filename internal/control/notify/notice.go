// Package notify tells people what they have to do: that a client certificate has a successor, that one ends, that an
// authority does. It says it by webhook (Standard Webhooks, signed) and by mail.
//
// It sends one notice, once. When something is due, to whom it was told already and when to try again is its caller's
// to know: the daemon's leader keeps an outbox in the store and takes a notice out of it when it was sent. So a notice
// comes at least once, and its id, which is the webhook's and the mail's, lets receivers drop doubles. The package reads
// no file and no store, and imports no other package of this module.
package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind specifies what a notice is about. Receivers of webhooks see it as the type.
type Kind string

// The kinds. Each has its words in words.go.
const (
	CertificateSuccessor Kind = "certificate.successor" // a client certificate ends, and the next one was issued
	CertificateExpiring  Kind = "certificate.expiring"  // a client certificate ends soon and is still in use, or has no successor
	CertificateExpired   Kind = "certificate.expired"   // a client certificate has ended
	CAExpiring           Kind = "ca.expiring"           // a space's authority ends
	PolicyOvertaken      Kind = "policy.overtaken"      // the store was restored, and a proxy has had a newer policy
	ProxyClock           Kind = "proxy.clock"           // a proxy's clock and the control plane's differ
	StoreSpace           Kind = "store.space"           // the space of the control plane's store gets short

	ConnectionChanged Kind = "connection.changed"                   // clients are to connect by another URL
	EnhancedFailing   Kind = "enhanced_certificate.renewal_failing" // a public certificate is not renewed, and ends
	EnhancedEnding    Kind = "enhanced_certificate.ending"          // one that was uploaded ends; nobody renews it
	EnhancedExpired   Kind = "enhanced_certificate.expired"         // it has ended
	EnhancedChain     Kind = "enhanced_certificate.chain_changed"   // its successor has another issuer
	ACMEAccount       Kind = "acme.account_problem"                 // a public authority refuses our account
	ACMELimited       Kind = "acme.rate_limited"                    // it issues nothing for more than an hour
)

// Notice is one thing that people are to know. Its texts may be anybody's choice: they are cleaned and cut where they
// are written down.
type Notice struct {
	ID          string // 1 to 128 of A-Z a-z 0-9 . _ -; the same at each attempt, and no other notice's
	Kind        Kind
	At          time.Time     // when it became due
	Database    string        // name; empty with CAExpiring and StoreSpace
	Space       string        // name; empty with StoreSpace
	Certificate *Certificate  // of a client, with the kinds that are about one, and only then; with CAExpiring the authority's own
	Proxy       string        // name; with ProxyClock and PolicyOvertaken
	Skew        time.Duration // how far the proxy's clock is ahead of the control plane's
	Public      *Public       // with the kinds that are about a public certificate or its authority
	Ends        time.Time     // of the public certificate; zero: not known
	Shortage    string        // with StoreSpace: what is short, as the rest of a sentence about the store
	Text        string        // what to do, in place of the kind's own words; usually empty
}

// Public is what a notice says of a public certificate or its authority.
type Public struct {
	Host        string    `json:"host,omitempty"`
	URL         string    `json:"url,omitempty"`          // by which clients are to connect
	PreviousURL string    `json:"previous_url,omitempty"` // by which they did
	CA          string    `json:"ca,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Until       time.Time `json:"until,omitzero"` // when the authority may be asked again
}

// Certificate is a certificate as a notice names it. It holds no key.
type Certificate struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Serial    string    `json:"serial"`
	ExpiresAt time.Time `json:"expires_at"`
	// OwnKey: it was made from the client's own request, so the next one needs a request too.
	OwnKey    bool         `json:"own_key,omitempty"`
	Successor *Certificate `json:"successor,omitempty"` // nil: none was issued. Its own successor is not looked at
}

// Sender sends notices. Send is bounded in time, also under a context without a deadline, and safe for
// concurrent use. It returns nil when the notice was taken over, by a mail server for instance: whether a person read
// it nobody knows. An error that is [ErrPermanent] will be the same next time; after any other, try again later. After
// an error the notice may have arrived all the same.
type Sender interface {
	Send(ctx context.Context, n Notice) error
}

// ErrPermanent is in the chain of errors that another attempt would not mend: the receiver refused this notice for
// good, or it is malformed.
var ErrPermanent = errors.New("permanent failure")

// namesProxy reports whether notices of the kind are about a proxy.
func (k Kind) namesProxy() bool { return k == ProxyClock || k == PolicyOvertaken }

// namesCertificate reports whether notices of the kind are about a client's certificate, or a space's authority.
func (k Kind) namesCertificate() bool { return !k.namesProxy() && !k.isPublic() && k != StoreSpace }

// isPublic reports whether notices of the kind are about a public certificate or its authority.
func (k Kind) isPublic() bool {
	switch k {
	case ConnectionChanged, EnhancedFailing, EnhancedEnding, EnhancedExpired, EnhancedChain, ACMEAccount, ACMELimited:
		return true
	}
	return false
}

// check holds the notice against what its receivers rely on.
func (n Notice) check() error {
	switch _, known := wordings[n.Kind]; {
	case !isID(n.ID):
		return fmt.Errorf("the notice's id must be 1 to 128 characters of A-Z a-z 0-9 . _ -: %w", ErrPermanent)
	case !known:
		return fmt.Errorf("the notice's kind %q does not exist: %w", clean(string(n.Kind)), ErrPermanent)
	case n.Kind.namesProxy() && n.Proxy == "":
		return fmt.Errorf("the notice names no proxy: %w", ErrPermanent)
	case n.Kind.isPublic() && n.Public == nil:
		return fmt.Errorf("the notice names no public certificate and no authority: %w", ErrPermanent)
	case n.Kind == StoreSpace && n.Shortage == "":
		return fmt.Errorf("the notice does not say what is short: %w", ErrPermanent)
	case n.Kind.namesCertificate() && n.Certificate == nil:
		return fmt.Errorf("the notice names no certificate: %w", ErrPermanent)
	}
	return nil
}

// isID reports whether the text can stand in an HTTP header and in a mail's Message-ID as it is.
func isID(text string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	return len(text) >= 1 && len(text) <= 128 && !strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(letters, r) })
}
