package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/policysync"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// policyFile is policy.yaml, as docs/configuration.md describes it.
type policyFile struct {
	Generation   string              `yaml:"generation"`
	ClientAuth   string              `yaml:"client_auth"`
	ClientCA     []string            `yaml:"client_ca"`
	ClientCRL    []string            `yaml:"client_crl"`
	Certificates []policyCertificate `yaml:"certificates"`
	Identities   []policyIdentity    `yaml:"identities"`
	OnRemoval    string              `yaml:"on_removal"`
	Rules        []policyRule        `yaml:"ip_rules"` // what lets in comes last
}

type policyCertificate struct {
	Cert    string `yaml:"cert"`
	Key     string `yaml:"key"`
	Default bool   `yaml:"default"`
}

type policyRule struct {
	ID          string `yaml:"id"`
	Description string `yaml:"description,omitempty"`
	ExpiresAt   string `yaml:"expires_at,omitempty"`
	CIDR        string `yaml:"cidr"`
}

type policyIdentity struct {
	URI     string `yaml:"uri"`
	AnyUser bool   `yaml:"any_user"`
}

// Policy gives what the proxies of a database are to have now.
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
		name = policysync.FileName(stem, extension, content)
		files[name] = content
		return name
	}
	chain, key, err := r.leaf(ctx, db.Server.ID)
	if err != nil {
		return api.Policy{}, fmt.Errorf("server certificate of %s: %w", db.Name, err)
	}
	file := policyFile{
		Generation: strconv.FormatInt(db.Generation, 10),
		ClientAuth: "required",
		Certificates: []policyCertificate{{
			Cert: add("server", "crt", []byte(chain)), Key: add("server", "key", key), Default: true,
		}},
		Rules:      []policyRule{},
		Identities: []policyIdentity{{URI: identity(db.ID), AnyUser: true}},
		OnRemoval:  "end",
	}
	for _, t := range db.Trust {
		a, _, err := docstore.Get[Authority](ctx, r.docs.Store, authorityKey(db.Space, t.CA))
		if err != nil {
			return api.Policy{}, fmt.Errorf("authority %s: %w", t.CA, err)
		}
		crl, err := r.docs.Get(ctx, crlKey(t.CA, t.CRL))
		if err != nil {
			return api.Policy{}, fmt.Errorf("revocation list %d of %s: %w", t.CRL, a.Subject, err)
		}
		file.ClientCA = append(file.ClientCA, add("client-ca", "pem", []byte(a.CertificatePEM)))
		file.ClientCRL = append(file.ClientCRL, add("client-crl", "pem", crl.Value))
	}
	for _, rule := range db.Rules {
		if rule.Status == Deauthorizing {
			continue
		}
		written := policyRule{ID: rule.ID, CIDR: rule.CIDR, Description: rule.Description}
		if !rule.ExpiresAt.IsZero() {
			written.ExpiresAt = rule.ExpiresAt.Format(time.RFC3339)
		}
		file.Rules = append(file.Rules, written)
	}
	var text bytes.Buffer
	text.WriteString(policysync.Header(db.ID, db.Generation))
	if err := yaml.NewEncoder(&text).Encode(file); err != nil {
		return api.Policy{}, fmt.Errorf("write the policy of %s: %w", db.Name, err)
	}
	text.WriteString("...\n") // without its end the proxy does not take it
	files[api.PolicyFile] = text.Bytes()
	return api.Policy{Database: db.ID, Generation: db.Generation, Files: files}, nil
}
