package apiserver

import (
	"context"
	"net/http"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/registry"
)

// listDatabases answers a caller of one database with that one, and every other caller with all.
func listDatabases(c *call) error {
	databases, err := c.server.registry.Databases(c.ctx())
	if err != nil {
		return err
	}
	shows := []api.Database{}
	for _, db := range databases {
		if c.caller.May(access.ReadDatabase, db.ID) == nil {
			shows = append(shows, showDatabase(db))
		}
	}
	return c.answer(http.StatusOK, shows)
}

func createDatabase(c *call) error {
	var body api.NewDatabase
	if err := c.read(&body); err != nil {
		return err
	}
	asks := registry.NewDatabase{Name: body.Name, Space: body.Space, Hosts: body.Hosts, Port: body.Port, BackendNote: body.BackendNote}
	for _, proxy := range body.Proxies {
		good, err := c.newProxy(proxy)
		if err != nil {
			return err
		}
		asks.Proxies = append(asks.Proxies, good)
	}
	db, err := c.server.registry.CreateDatabase(c.ctx(), c.actor(), asks)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, showDatabase(db))
}

func getDatabase(c *call) error { return c.answer(http.StatusOK, showDatabase(c.db)) }

// deleteDatabase forgets a database, and with it the tokens and agents that were for it alone.
func deleteDatabase(c *call) error {
	if err := c.server.registry.DeleteDatabase(c.ctx(), c.actor(), c.db.ID); err != nil {
		return err
	}
	// They can do nothing any more; what is left over when this is cut short harms nobody.
	ctx := context.WithoutCancel(c.ctx())
	tokens, err := c.server.access.Tokens.RevokeFor(ctx, c.db.ID)
	for _, token := range tokens {
		c.audit(audit.Record{Action: "token.revoke", Database: c.db.ID, Object: token.ID, Detail: map[string]string{"name": token.Name}})
	}
	if err != nil {
		c.server.log.Warn().Err(err).Str("database", c.db.Name).Msg("can't delete the tokens of a deleted database")
	}
	c.endAgents(nil)
	return c.done()
}

func addProxy(c *call) error {
	var body api.NewProxy
	if err := c.read(&body); err != nil {
		return err
	}
	proxy, err := c.newProxy(body)
	if err != nil {
		return err
	}
	db, err := c.server.registry.AddProxy(c.ctx(), c.actor(), c.db.ID, proxy)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, showDatabase(db))
}

func changeProxy(c *call) error {
	var body api.ChangedProxy
	if err := c.read(&body); err != nil {
		return err
	}
	if body.Metrics == nil {
		return invalid("nothing is to be changed; name metrics, the address at which Prometheus reaches the proxy")
	}
	db, err := c.server.registry.ChangeProxy(c.ctx(), c.actor(), c.db.ID, c.r.PathValue("proxy"), *body.Metrics)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, showDatabase(db))
}

// listTargets gives every proxy that the caller may see, in the form of Prometheus' HTTP service discovery. One whose
// address is not known is a group without targets, which Prometheus passes over.
func listTargets(c *call) error {
	databases, err := c.server.registry.Databases(c.ctx())
	if err != nil {
		return err
	}
	targets := []api.Target{}
	for _, db := range databases {
		if c.caller.May(access.ReadDatabase, db.ID) != nil {
			continue
		}
		for _, p := range db.Proxies {
			target := api.Target{Targets: []string{}, Labels: map[string]string{"database": db.Name, "space": db.Space, "proxy": p.Name}}
			if address := p.Target(); address != "" {
				target.Targets = append(target.Targets, address)
			}
			targets = append(targets, target)
		}
	}
	return c.answer(http.StatusOK, targets)
}

func removeProxy(c *call) error {
	db, err := c.server.registry.RemoveProxy(c.ctx(), c.actor(), c.db.ID, c.r.PathValue("proxy"))
	if err != nil {
		return err
	}
	var left []string
	for _, proxy := range db.Proxies {
		left = append(left, proxy.Name)
	}
	c.endAgents(left)
	return c.answer(http.StatusOK, showDatabase(db))
}

// endAgents revokes the agents of the database's proxies that are not among those left. Without their proxy they get
// nothing already: see streamAgent.
func (c *call) endAgents(left []string) {
	agents, err := c.server.access.Agents.RevokeFor(context.WithoutCancel(c.ctx()), c.db.ID, left)
	for _, agent := range agents {
		c.audit(audit.Record{Action: "agent.revoke", Database: c.db.ID, Object: agent.ID, Detail: map[string]string{"proxy": agent.Proxy}})
	}
	if err != nil {
		c.server.log.Warn().Err(err).Str("database", c.db.Name).Msg("can't revoke the agents of removed proxies")
	}
}

func showDatabase(db registry.Database) api.Database {
	shows := api.Database{ID: db.ID, Name: db.Name, Space: db.Space, Hosts: append([]string{}, db.Hosts...), Port: db.Port,
		BackendNote: db.BackendNote, Generation: db.Generation, Proxies: make([]api.Proxy, len(db.Proxies)),
		ClientAuth: clientAuth(db), CreatedAt: utc(db.CreatedAt), UpdatedAt: utc(db.UpdatedAt)}
	if db.Enhanced != nil {
		shows.Enhanced = string(db.Enhanced.Status)
	}
	if db.MTLS != nil {
		shows.MTLS = string(db.MTLS.Status)
	}
	for i, p := range db.Proxies {
		shows.Proxies[i] = api.Proxy{Name: p.Name, Node: p.Node, PolicyDir: p.PolicyDir, Admin: p.Admin, Metrics: p.Metrics, CreatedAt: utc(p.CreatedAt)}
	}
	return shows
}
