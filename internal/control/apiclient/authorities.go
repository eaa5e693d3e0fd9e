package apiclient

import (
	"context"
	"net/http"
	"net/url"

	"pgmtls-proxy/internal/control/api"
)

func authorityPath(space string, more ...string) string {
	return path(append([]string{"v1", "spaces", space, "ca"}, more...)...)
}

// Spaces lists the names of the spaces.
func (c *Client) Spaces(ctx context.Context) ([]string, error) {
	return ask[[]string](ctx, c, call{method: http.MethodGet, path: path("v1", "spaces")})
}

// Authorities lists a space's certificate authorities, the newest first, and who used them at the last reports.
func (c *Client) Authorities(ctx context.Context, space string) ([]api.Authority, error) {
	return ask[[]api.Authority](ctx, c, call{method: http.MethodGet, path: authorityPath(space)})
}

// AskAuthorities lists them like [Client.Authorities], after every proxy of the space was asked who uses them now. That
// takes up to ten seconds when a proxy does not answer.
func (c *Client) AskAuthorities(ctx context.Context, space string) ([]api.Authority, error) {
	return ask[[]api.Authority](ctx, c, call{method: http.MethodGet, path: authorityPath(space), query: url.Values{"ask": {"true"}}})
}

// CRL gets the revocation list of a space's CA.
func (c *Client) CRL(ctx context.Context, space, id string) (api.CRL, error) {
	return ask[api.CRL](ctx, c, call{method: http.MethodGet, path: authorityPath(space, id, "crl")})
}

// RotateCA makes a new CA that signs from now on.
func (c *Client) RotateCA(ctx context.Context, space string) (api.Authority, error) {
	return ask[api.Authority](ctx, c, call{method: http.MethodPost, path: authorityPath(space, "rotate")})
}

// ImportCA brings a CA from outside that signs from now on.
func (c *Client) ImportCA(ctx context.Context, space string, ca api.ImportCA) (api.Authority, error) {
	return ask[api.Authority](ctx, c, call{method: http.MethodPost, path: authorityPath(space, "import"), body: ca})
}

// Retirement specifies which CA is to be trusted no more.
type Retirement struct {
	Space, ID string
	Force     bool // although its certificates are in use
}

// RetireCA trusts a CA no more.
func (c *Client) RetireCA(ctx context.Context, retirement Retirement) (api.Authority, error) {
	query := url.Values{}
	if retirement.Force {
		query.Set("force", "true")
	}
	return ask[api.Authority](ctx, c, call{
		method: http.MethodPost,
		path:   authorityPath(retirement.Space, retirement.ID, "retire"),
		query:  query,
	})
}
