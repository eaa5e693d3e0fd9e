package apiclient

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"pgmtls-proxy/internal/control/api"
)

// AuditQuery specifies which records are wanted. Empty fields want all.
type AuditQuery struct {
	Database, Actor, Action string
	Before                  string // Next of the page before
	Limit                   int    // 0: [api.DefaultPage]
}

// Audit gets a page of the audit trail, the newest first.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (api.Audit, error) {
	query := url.Values{}
	set(query, "database", q.Database)
	set(query, "actor", q.Actor)
	set(query, "action", q.Action)
	set(query, "before", q.Before)
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	return ask[api.Audit](ctx, c, call{method: http.MethodGet, path: path("v1", "audit"), query: query})
}

// Snapshot writes a copy of the store to w, and says how long it is. After an error what was written is no snapshot.
// It may take as long as it keeps moving.
func (c *Client) Snapshot(ctx context.Context, w io.Writer) (int64, error) {
	body, err := c.stream(ctx, call{method: http.MethodGet, path: path("v1", "snapshot")})
	if err != nil {
		return 0, err
	}
	defer body.Close()
	n, err := io.Copy(w, body)
	if err != nil {
		return n, fmt.Errorf("copy the snapshot of %s: %w", c.base, err)
	}
	return n, nil
}

// CompactStore gives the unused space of the daemon's own store back to its disk. Requests wait meanwhile.
func (c *Client) CompactStore(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodPost, path: path("v1", "store", "compact")})
}

// DisarmStore lets a store that has reached its quota take writes again.
func (c *Client) DisarmStore(ctx context.Context) error {
	return c.do(ctx, call{method: http.MethodPost, path: path("v1", "store", "disarm")})
}

// Version asks for the daemon's version.
func (c *Client) Version(ctx context.Context) (api.Version, error) {
	return ask[api.Version](ctx, c, call{method: http.MethodGet, path: path("v1", "version")})
}
