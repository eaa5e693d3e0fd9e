package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/pemkey"
)

// Where records are kept. Keys are values that are sealed as a whole; of a leaf the key is.
const (
	keyCertificates = "public-certificates/" // <id>: Certificate
	keyOrders       = "acme-orders/"         // <certificate id>: order
	keyOrderKeys    = "acme-keys/"           // <certificate id>: the private key of its order
	keyAccounts     = "acme-accounts/"       // <CA name>: account
	keyAccountKeys  = "acme-account-keys/"   // <CA name>/<n>: a private key of its account
	keyBudgets      = "acme-budgets/"        // <CA name>: budget
	keyLeaves       = "public-leaves/"       // <leaf id>: leafRecord
)

// Certificate is a public certificate that is wanted, or not wanted any more. It is also the document that the store
// keeps.
type Certificate struct {
	ID        string    `json:"id"`    // its owner's choice, such as the id of a database
	Space     string    `json:"space"` // new certificates are fair over spaces
	Names     []string  `json:"names"` // DNS names in lower case; the first may be a wildcard's
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// RemovedAt is when nobody wanted it any more. Its leaf is kept for a while, so that who wants it again need not
	// order again. Purge: it is not kept.
	RemovedAt time.Time `json:"removed_at,omitzero"`
	Purge     bool      `json:"purge,omitempty"`

	Leaf     *Leaf  `json:"leaf,omitempty"`     // nil: not issued yet
	Previous string `json:"previous,omitempty"` // id of the leaf before, which proxies may still have

	// RenewNow has it renewed at once, whatever was planned. Compromised: somebody else may have the key of the leaf that
	// is replaced, so it is to be revoked.
	RenewNow    bool `json:"renew_now,omitempty"`
	Compromised bool `json:"compromised,omitempty"`
	// Revoke is the leaf that is to be revoked. That waits until no proxy needs it, which is RevokeNow: see
	// [Manager.Delivered].
	Revoke    *Leaf `json:"revoke,omitempty"`
	RevokeNow bool  `json:"revoke_now,omitempty"`

	// Warned is the last warning about the end of the leaf.
	Warned Warning `json:"warned,omitempty"`

	// Where the next certificate is.
	Reason    Reason    `json:"reason"`
	Detail    string    `json:"detail,omitempty"`
	HelpURL   string    `json:"help_url,omitempty"`
	Since     time.Time `json:"since"`                // of the reason
	NotBefore time.Time `json:"not_before,omitzero"`  // of the next attempt
	Failures  int       `json:"failures,omitempty"`   // in a row
	CA        string    `json:"ca,omitempty"`         // the authority that is tried; empty: the first
	Tried     int       `json:"tried,omitempty"`      // failures in a row at it
	NoReplace bool      `json:"no_replace,omitempty"` // the authority says that the leaf was replaced before

	revision int64
}

// Leaf is a certificate that was issued. Its chain and key are in the store under its id, the key sealed.
type Leaf struct {
	ID        string    `json:"id"`
	CA        string    `json:"ca"`      // name of the authority as configured
	Profile   string    `json:"profile"` // as ordered
	Names     []string  `json:"names"`
	Issuer    string    `json:"issuer"` // common name of the certificate above it
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`

	ARI        string        `json:"ari"`                  // its id in questions about renewal
	Window     *Window       `json:"window,omitempty"`     // as the authority said for this leaf
	SelectedAt time.Time     `json:"selected_at,omitzero"` // drawn in the window
	AskEvery   time.Duration `json:"ask_every,omitempty"`  // in nanoseconds; 0: as often as we like
}

// RenewAt is when the leaf is to be replaced.
func (c *Certificate) RenewAt() time.Time {
	if c.Leaf == nil {
		return time.Time{}
	}
	return c.Leaf.renewAt(c.ID)
}

// leafRecord is what the store keeps of a leaf besides the document.
type leafRecord struct {
	Chain string `json:"chain"`
	Key   []byte `json:"key"` // PKCS #8 in PEM, sealed
}

// account is ours at one authority.
type account struct {
	Directory string    `json:"directory"` // of the authority that it is at
	URL       string    `json:"url,omitempty"`
	Key       int       `json:"key"`                // the number of its key
	NextKey   int       `json:"next_key,omitempty"` // of the key that is to replace it
	Problem   string    `json:"problem,omitempty"`  // why it can't be used
	Retry     time.Time `json:"retry,omitzero"`     // not before
	Failures  int       `json:"failures,omitempty"`

	revision int64
}

// phase is how far an order is: the step that was committed last.
type phase string

const (
	phaseNew        phase = "new"        // to be asked for
	phaseOrdered    phase = "ordered"    // the authority has it; the challenges are to be read
	phasePresenting phase = "presenting" // the records are written down, and may be in the DNS
	phasePresented  phase = "presented"  // they are in the DNS
	phaseSeen       phase = "seen"       // and its public servers have them, as far as we could find out
	phaseAuthorized phase = "authorized" // the names are proved
	phaseMade       phase = "made"       // the certificate can be had
	phaseCleaning   phase = "cleaning"   // over; the records are to be removed
)

// order is one order at an authority.
type order struct {
	Phase          phase     `json:"phase"`
	CA             string    `json:"ca"`
	Account        string    `json:"account"` // URL
	Profile        string    `json:"profile,omitempty"`
	Replaces       string    `json:"replaces,omitempty"`
	Names          []string  `json:"names"`
	StartedAt      time.Time `json:"started_at"`
	PresentedAt    time.Time `json:"presented_at,omitzero"`
	URL            string    `json:"url,omitempty"`
	Finalize       string    `json:"finalize,omitempty"`
	Authorizations []string  `json:"authorizations,omitempty"`
	Records        []TXT     `json:"records,omitempty"`
	Certificate    string    `json:"certificate,omitempty"` // URL

	revision int64
}

// put adds a document to a transaction, with the condition that it is still as it was read.
func put(tx *store.Tx, key string, revision int64, document any) error {
	return docstore.Put(tx.If(key, revision), key, document)
}

func decodeCertificate(item store.Item) (*Certificate, error) {
	cert, err := docstore.Decode[Certificate](item)
	cert.revision = item.Revision
	return &cert, err
}

// certificate reads one; nil: there is none.
func (m *Manager) certificate(ctx context.Context, id string) (*Certificate, error) {
	cert, revision, err := docstore.Get[Certificate](ctx, m.docs.Store, keyCertificates+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	cert.revision = revision
	return &cert, err
}

// order reads the order of a certificate; nil: there is none.
func (m *Manager) order(ctx context.Context, id string) (*order, error) {
	o, revision, err := docstore.Get[order](ctx, m.docs.Store, keyOrders+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	o.revision = revision
	return &o, err
}

// newKey makes a private key, and its text.
func newKey() (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("a private key in the store is no PEM")
	}
	return pemkey.Parse([]*pem.Block{block})
}

// sealedKey reads a private key that is kept as a sealed value.
func (m *Manager) sealedKey(ctx context.Context, at string) (crypto.Signer, []byte, error) {
	item, err := m.docs.Get(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	text, err := m.docs.Ring.Open(at, item.Value)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", at, err)
	}
	key, err := parseKey(text)
	return key, text, err
}
