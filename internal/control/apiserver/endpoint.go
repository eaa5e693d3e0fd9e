package apiserver

import (
	"net/http"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/registry"
)

func getEndpoint(c *call) error { return c.answerEndpoint(http.StatusOK, c.db) }

// createEndpoint makes mutual TLS. The body says nothing that is needed, and clients send all kinds.
func createEndpoint(c *call) error {
	db, err := c.server.registry.EnableMTLS(c.ctx(), c.actor(), c.db.ID)
	if err != nil {
		return err
	}
	return c.answerEndpoint(http.StatusCreated, db)
}

func deleteEndpoint(c *call) error {
	// A database without proxies has nothing to wait for: its mutual TLS may be gone in the answer.
	before := c.db
	db, err := c.server.registry.DisableMTLS(c.ctx(), c.actor(), c.db.ID)
	if err != nil {
		return err
	}
	if db.MTLS == nil && before.MTLS != nil {
		gone := *before.MTLS
		gone.Status = registry.Deprovisioning
		db.MTLS = &gone
	}
	return c.answerEndpoint(http.StatusAccepted, db)
}

func (c *call) answerEndpoint(status int, db registry.Database) error {
	if db.MTLS == nil {
		return notFound("database %s has no mutual TLS; create it first", db.Name)
	}
	chain, err := c.server.registry.Chain(c.ctx(), db.Space)
	if err != nil {
		return err
	}
	active := []string{}
	for _, rule := range db.Rules {
		if rule.Status == registry.Authorized {
			active = append(active, rule.CIDR)
		}
	}
	return c.answer(status, api.TLSEndpoint{App: db.Space, Addon: db.Name, Status: string(db.MTLS.Status),
		EnabledBy: db.MTLS.EnabledBy, ActiveIPRules: active, CertificateAuthorityChain: chain})
}
