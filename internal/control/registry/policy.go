package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/policyformat"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// Policy returns the policy that the proxies of a database are to apply now.
func (r *Registry) Policy(ctx context.Context, databaseID string) (api.Policy, error) {
	const attempts = 5
	for n := 1; ; n++ {
		db, err := r.load(ctx, databaseID)
		if err != nil {
			return api.Policy{}, err
		}
		policy, err := r.render(ctx, db)
		// What a document names is deleted only in the transaction that stops naming it.
		if !errors.Is(err, store.ErrNotFound) || n == attempts {
			return policy, err
		}
	}
}

// render makes the policy of a document.
func (r *Registry) render(ctx context.Context, db Database) (api.Policy, error) {
	if db.Generation == 0 || db.Server == nil {
		return api.Policy{}, problem.New(problem.NotFound, "database %s has no policy; create its mutual TLS first", db.Name)
	}
	files := make(map[string][]byte)
	add := func(stem, extension string, content []byte) (name string) {
		name = policyformat.Name(stem, extension, content)
		files[name] = content
		return name
	}
	chain, key, err := r.leaf(ctx, db.Server.ID)
	if err != nil {
		return api.Policy{}, fmt.Errorf("server certificate of %s: %w", db.Name, err)
	}
	names := policyFiles{cert: add("server", "crt", []byte(chain)), key: add("server", "key", key)}
	if e := db.Enhanced; e != nil && e.Leaf != nil {
		if chain, key, err = r.leaf(ctx, e.Leaf.ID); err != nil {
			return api.Policy{}, fmt.Errorf("public certificate of %s: %w", db.Name, err)
		}
		names.publicCert, names.publicKey = add("public", "crt", []byte(chain)), add("public", "key", key)
	}
	for _, t := range db.trusted() {
		a, _, err := docstore.Get[Authority](ctx, r.docs.Store, authorityKey(db.Space, t.CA))
		if err != nil {
			return api.Policy{}, fmt.Errorf("authority %s: %w", t.CA, err)
		}
		crl, err := r.list(ctx, db.ID, t)
		if err != nil {
			return api.Policy{}, fmt.Errorf("revocation list %d of %s: %w", t.CRL, a.Subject, err)
		}
		names.ca = append(names.ca, config.File{Path: add("client-ca", "pem", []byte(a.CertificatePEM))})
		names.crl = append(names.crl, config.File{Path: add("client-crl", "pem", crl)})
	}
	parsed, err := policyOf(db, names)
	if err != nil {
		return api.Policy{}, fmt.Errorf("policy of %s: %w", db.Name, err)
	}
	files[api.PolicyFile] = policyText(db, parsed)
	return api.Policy{Database: db.ID, Generation: db.Generation, Files: files}, nil
}

// policyFiles are the names of the files beside policy.yaml.
type policyFiles struct {
	cert, key             string
	publicCert, publicKey string // empty: there is no public certificate
	ca, crl               []config.File
}

// trusted are the authorities whose client certificates the policy lets in. One that asks for none has none.
func (db *Database) trusted() []Trust {
	if db.rulesAlone() {
		return nil
	}
	return db.Trust
}

// policyOf is what the policy.yaml of a document says. It is a function of the document and the names alone.
func policyOf(db Database, names policyFiles) (*config.Policy, error) {
	p := &config.Policy{
		Generation:   strconv.FormatInt(db.Generation, 10),
		ClientAuth:   config.ClientAuthRequired,
		ClientCA:     names.ca,
		ClientCRL:    names.crl,
		Certificates: []config.Certificate{{Cert: config.File{Path: names.cert}, Key: config.File{Path: names.key}, Default: true}},
		Identities:   []config.Identity{{URI: identity(db.ID), AnyUser: true}},
		OnRemoval:    config.OnRemovalEnd,
		EndGrace:     5 * time.Second, // the proxy's own default
	}
	if names.publicCert != "" {
		p.Certificates = append(p.Certificates, config.Certificate{Cert: config.File{Path: names.publicCert}, Key: config.File{Path: names.publicKey}})
	}
	if db.rulesAlone() {
		p.ClientAuth, p.Identities = config.ClientAuthOff, nil
	}
	for _, rule := range db.Rules {
		if rule.Status == Deauthorizing {
			continue
		}
		network, err := config.ParseCIDR(rule.CIDR)
		if err != nil {
			return nil, fmt.Errorf("IP rule %s: %w", rule.ID, err)
		}
		p.IPRules = append(p.IPRules, config.IPRule{ID: rule.ID, CIDR: network, Description: rule.Description, ExpiresAt: rule.ExpiresAt})
	}
	return p, nil
}

// policyText is the policy.yaml of a document.
func policyText(db Database, p *config.Policy) []byte {
	header := policyformat.Header(db.ID, db.Generation) + config.NameHeader(db.Name)
	return append([]byte(header), config.FormatPolicy(p)...)
}

// checkPolicy refuses a change whose policy the proxies could not read, or would read as something else: once such a
// one is stored, no later policy of the database would be taken either, revocations included. It writes and reads with
// the proxy's own code. Certificates and lists stand by names of their kind, since their bytes are only in the
// transaction as yet.
func (c *change) checkPolicy() error {
	if c.db.Generation == c.before || c.db.Server == nil {
		return nil
	}
	pem := func(stem, extension string, number int) string {
		return policyformat.Name(stem, extension, strconv.AppendInt(nil, int64(number), 10))
	}
	names := policyFiles{cert: pem("server", "crt", 0), key: pem("server", "key", 0)}
	if e := c.db.Enhanced; e != nil && e.Leaf != nil {
		names.publicCert, names.publicKey = pem("public", "crt", 0), pem("public", "key", 0)
	}
	for i := range c.db.trusted() {
		names.ca = append(names.ca, config.File{Path: pem("client-ca", "pem", i)})
		names.crl = append(names.crl, config.File{Path: pem("client-crl", "pem", i)})
	}
	meant, err := policyOf(*c.db, names)
	if err != nil {
		return unreadable(err)
	}
	read, err := config.ParsePolicy(api.PolicyFile, policyText(*c.db, meant))
	if err != nil {
		return unreadable(err)
	}
	if !read.Equal(meant) {
		return unreadable(errors.New("they would read something else than what was meant"))
	}
	return nil
}

func unreadable(err error) error {
	return problem.New(problem.InvalidParams, "nothing was changed, because the proxies could not read the resulting policy: %s", err)
}
