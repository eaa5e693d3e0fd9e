package apiclient

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// endpointPath is below Heroku's part of the API.
func endpointPath(db string, more ...string) string {
	return path(append([]string{"postgres", "v0", "databases", db, "tls-endpoint"}, more...)...)
}

// TLSEndpoint gets a database's mutual TLS; [api.NotFound] when there is none.
func (c *Client) TLSEndpoint(ctx context.Context, db string) (api.TLSEndpoint, error) {
	return ask[api.TLSEndpoint](ctx, c, call{method: http.MethodGet, path: endpointPath(db)})
}

// CreateTLSEndpoint enables mutual TLS for a database.
func (c *Client) CreateTLSEndpoint(ctx context.Context, db string) (api.TLSEndpoint, error) {
	return ask[api.TLSEndpoint](ctx, c, call{method: http.MethodPost, path: endpointPath(db)})
}

// DeleteTLSEndpoint takes it away, with all rules and certificates.
func (c *Client) DeleteTLSEndpoint(ctx context.Context, db string) (api.TLSEndpoint, error) {
	return ask[api.TLSEndpoint](ctx, c, call{method: http.MethodDelete, path: endpointPath(db)})
}

// Rules lists a database's IP rules, oldest first.
func (c *Client) Rules(ctx context.Context, db string) ([]api.Rule, error) {
	return ask[[]api.Rule](ctx, c, call{method: http.MethodGet, path: endpointPath(db, "ip-rules")})
}

// Rule gets an IP rule; [api.NotFound] when it is out of force everywhere.
func (c *Client) Rule(ctx context.Context, db, id string) (api.Rule, error) {
	return ask[api.Rule](ctx, c, call{method: http.MethodGet, path: endpointPath(db, "ip-rules", id)})
}

// CreateRule lets a network in.
func (c *Client) CreateRule(ctx context.Context, db string, rule api.NewRule) (api.Rule, error) {
	return ask[api.Rule](ctx, c, call{method: http.MethodPost, path: endpointPath(db, "ip-rules"), body: rule})
}

// DeleteRule lets a network in no more.
func (c *Client) DeleteRule(ctx context.Context, db, id string) (api.Rule, error) {
	return ask[api.Rule](ctx, c, call{method: http.MethodDelete, path: endpointPath(db, "ip-rules", id)})
}

// DryRunDeleteRule returns what [Client.DeleteRule] would do, and does nothing.
func (c *Client) DryRunDeleteRule(ctx context.Context, db, id string) (api.RuleDryRun, error) {
	return ask[api.RuleDryRun](ctx, c, call{
		method: http.MethodDelete,
		path:   endpointPath(db, "ip-rules", id),
		query:  url.Values{"dry_run": {"true"}},
	})
}

// Certificates lists a database's client certificates, oldest first, without keys.
func (c *Client) Certificates(ctx context.Context, db string) ([]api.Certificate, error) {
	return ask[[]api.Certificate](ctx, c, call{method: http.MethodGet, path: endpointPath(db, "certificates")})
}

// Certificate gets a client certificate with its key; [api.NotFound] when it is disabled.
func (c *Client) Certificate(ctx context.Context, db, id string) (api.Certificate, error) {
	return ask[api.Certificate](ctx, c, call{method: http.MethodGet, path: endpointPath(db, "certificates", id)})
}

// CreateCertificate issues a client certificate. The answer has no key.
func (c *Client) CreateCertificate(ctx context.Context, db string, certificate api.NewCertificate) (api.Certificate, error) {
	return ask[api.Certificate](ctx, c, call{method: http.MethodPost, path: endpointPath(db, "certificates"), body: certificate})
}

// Deletion specifies which certificate is to be revoked, and when.
type Deletion struct {
	Database, ID string
	After        time.Duration // 0: now
}

// DeleteCertificate revokes a client certificate, or says that it will be.
func (c *Client) DeleteCertificate(ctx context.Context, deletion Deletion) (api.Certificate, error) {
	query := url.Values{}
	if deletion.After > 0 {
		query.Set("after", deletion.After.String())
	}
	return ask[api.Certificate](ctx, c, call{
		method: http.MethodDelete,
		path:   endpointPath(deletion.Database, "certificates", deletion.ID),
		query:  query,
	})
}

// KeepCertificate undoes a delete that is still to come.
func (c *Client) KeepCertificate(ctx context.Context, db, id string) (api.Certificate, error) {
	return ask[api.Certificate](ctx, c, call{method: http.MethodPost, path: endpointPath(db, "certificates", id, "keep")})
}

// CertificateFiles gets a client certificate, its key and what to trust, as they are at one moment.
func (c *Client) CertificateFiles(ctx context.Context, db, id string) (api.CertificateFiles, error) {
	return ask[api.CertificateFiles](ctx, c, call{method: http.MethodGet, path: endpointPath(db, "certificates", id, "files")})
}
