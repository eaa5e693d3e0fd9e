package apiclient

import (
	"context"
	"net/http"

	"pgmtls-proxy/internal/control/api"
)

func enhancedPath(db string, more ...string) string {
	return databasePath(db, append([]string{"enhanced-certificate"}, more...)...)
}

// EnhancedCertificate returns where the public certificate of a database is.
func (c *Client) EnhancedCertificate(ctx context.Context, db string) (api.EnhancedCertificate, error) {
	return ask[api.EnhancedCertificate](ctx, c, call{method: http.MethodGet, path: enhancedPath(db)})
}

// EnableEnhancedCertificate asks for a public certificate. Asked again, it changes nothing.
func (c *Client) EnableEnhancedCertificate(ctx context.Context, db string) (api.EnhancedCertificate, error) {
	return ask[api.EnhancedCertificate](ctx, c, call{method: http.MethodPut, path: enhancedPath(db)})
}

// DisableEnhancedCertificate has the public certificate taken away.
func (c *Client) DisableEnhancedCertificate(ctx context.Context, db string) (api.EnhancedCertificate, error) {
	return ask[api.EnhancedCertificate](ctx, c, call{method: http.MethodDelete, path: enhancedPath(db)})
}

// RenewEnhancedCertificate has the public certificate replaced now.
func (c *Client) RenewEnhancedCertificate(ctx context.Context, db string, renewal api.Renewal) (api.EnhancedCertificate, error) {
	return ask[api.EnhancedCertificate](ctx, c, call{method: http.MethodPost, path: enhancedPath(db, "renew"), body: renewal})
}

// UploadEnhancedCertificate brings a certificate for the public name.
func (c *Client) UploadEnhancedCertificate(ctx context.Context, db string, certificate api.UploadedCertificate) (api.EnhancedCertificate, error) {
	return ask[api.EnhancedCertificate](ctx, c, call{method: http.MethodPut, path: enhancedPath(db, "upload"), body: certificate})
}

// DNSRecords lists the records that a person makes for the public certificate of a database.
func (c *Client) DNSRecords(ctx context.Context, db string) ([]api.DNSRecord, error) {
	return ask[[]api.DNSRecord](ctx, c, call{method: http.MethodGet, path: enhancedPath(db, "records")})
}

// ACME tells how the public authorities are.
func (c *Client) ACME(ctx context.Context) (api.ACME, error) {
	return ask[api.ACME](ctx, c, call{method: http.MethodGet, path: path("v1", "acme")})
}

// RollOverACME gives the account at a public authority another key.
func (c *Client) RollOverACME(ctx context.Context, authority string) (api.ACMEAuthority, error) {
	return ask[api.ACMEAuthority](ctx, c, call{method: http.MethodPost, path: path("v1", "acme", authority, "rollover")})
}
