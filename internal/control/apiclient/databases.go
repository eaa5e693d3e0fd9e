package apiclient

import (
	"context"
	"net/http"
	"net/url"

	"pgmtls-proxy/internal/control/api"
)

func databasePath(db string, more ...string) string {
	return path(append([]string{"v1", "databases", db}, more...)...)
}

// Databases lists the databases that the token may see, by name.
func (c *Client) Databases(ctx context.Context) ([]api.Database, error) {
	return ask[[]api.Database](ctx, c, call{method: http.MethodGet, path: path("v1", "databases")})
}

// Database gets one by its name or id.
func (c *Client) Database(ctx context.Context, db string) (api.Database, error) {
	return ask[api.Database](ctx, c, call{method: http.MethodGet, path: databasePath(db)})
}

// CreateDatabase registers a database.
func (c *Client) CreateDatabase(ctx context.Context, database api.NewDatabase) (api.Database, error) {
	return ask[api.Database](ctx, c, call{method: http.MethodPost, path: path("v1", "databases"), body: database})
}

// DeleteDatabase forgets a database that has no mutual TLS.
func (c *Client) DeleteDatabase(ctx context.Context, db string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: databasePath(db)})
}

// AddProxy registers a proxy of a database.
func (c *Client) AddProxy(ctx context.Context, db string, proxy api.NewProxy) (api.Database, error) {
	return ask[api.Database](ctx, c, call{method: http.MethodPost, path: databasePath(db, "proxies"), body: proxy})
}

// ChangeProxy changes what is given of a proxy.
func (c *Client) ChangeProxy(ctx context.Context, db, proxy string, changed api.ChangedProxy) (api.Database, error) {
	return ask[api.Database](ctx, c, call{method: http.MethodPatch, path: databasePath(db, "proxies", proxy), body: changed})
}

// Targets lists the proxies that the token may see, as Prometheus reads them.
func (c *Client) Targets(ctx context.Context) ([]api.Target, error) {
	return ask[[]api.Target](ctx, c, call{method: http.MethodGet, path: path("v1", "targets")})
}

// RemoveProxy forgets a proxy of a database.
func (c *Client) RemoveProxy(ctx context.Context, db, proxy string) (api.Database, error) {
	return ask[api.Database](ctx, c, call{method: http.MethodDelete, path: databasePath(db, "proxies", proxy)})
}

// Acknowledgements returns what each proxy has, and what still waits.
func (c *Client) Acknowledgements(ctx context.Context, db string) (api.Acknowledgements, error) {
	return ask[api.Acknowledgements](ctx, c, call{method: http.MethodGet, path: databasePath(db, "acknowledgements")})
}

// Login is what the URLs of a database are to say. All of it may be empty.
type Login struct {
	User, DBName string // of PostgreSQL
	SSLMode      string // empty: [api.SSLVerifyFull]
	Roots        string // bundle, system, none or a path; empty: bundle for a public name, none for a private one
}

// Connection returns where a database is reached.
func (c *Client) Connection(ctx context.Context, db string, login Login) (api.Connection, error) {
	query := url.Values{}
	set(query, "user", login.User)
	set(query, "dbname", login.DBName)
	set(query, "sslmode", login.SSLMode)
	set(query, "roots", login.Roots)
	return ask[api.Connection](ctx, c, call{method: http.MethodGet, path: databasePath(db, "url"), query: query})
}

// set leaves out what is empty.
func set(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}
