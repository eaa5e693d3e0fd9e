package apiclient

import (
	"context"
	"net/http"

	"pgmtls-proxy/internal/control/api"
)

// Tokens lists the tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]api.Token, error) {
	return ask[[]api.Token](ctx, c, call{method: http.MethodGet, path: path("v1", "tokens")})
}

// CreateToken makes a token. Its secret is in this answer alone.
func (c *Client) CreateToken(ctx context.Context, token api.NewToken) (api.Token, error) {
	return ask[api.Token](ctx, c, call{method: http.MethodPost, path: path("v1", "tokens"), body: token})
}

// RevokeToken revokes a token by its id.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: path("v1", "tokens", id)})
}

// Agents lists the enrolled agents.
func (c *Client) Agents(ctx context.Context) ([]api.Agent, error) {
	return ask[[]api.Agent](ctx, c, call{method: http.MethodGet, path: path("v1", "agents")})
}

// CreateEnrolment makes a one-time token for the agent of a proxy.
func (c *Client) CreateEnrolment(ctx context.Context, enrolment api.NewEnrolment) (api.Enrolment, error) {
	return ask[api.Enrolment](ctx, c, call{method: http.MethodPost, path: path("v1", "agents"), body: enrolment})
}

// RevokeAgent revokes an agent by its id.
func (c *Client) RevokeAgent(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: path("v1", "agents", id)})
}
