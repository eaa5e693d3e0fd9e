package apiserver

import (
	"net/http"
	"time"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
)

func listTokens(c *call) error {
	tokens, err := c.server.access.Tokens.List(c.ctx())
	if err != nil {
		return err
	}
	names, err := c.databaseNames()
	if err != nil {
		return err
	}
	shows := make([]api.Token, len(tokens))
	for i, token := range tokens {
		shows[i] = showToken(token, names)
	}
	return c.answer(http.StatusOK, shows)
}

func createToken(c *call) error {
	var body api.NewToken
	if err := c.read(&body); err != nil {
		return err
	}
	asks := access.NewToken{Name: body.Name, Kind: access.Kind(body.Scope), ExpiresAt: utc(body.ExpiresAt).Truncate(time.Second), CreatedBy: c.caller.Name}
	if asks.Kind == access.Enrolment {
		return invalid("an agent's token is created with POST /v1/agents")
	}
	names := map[string]string{}
	if body.Database != "" {
		db, err := c.find(body.Database)
		if err != nil {
			return asParameter(err)
		}
		asks.Database, names[db.ID] = db.ID, db.Name
	}
	token, presented, err := c.server.access.Tokens.Create(c.ctx(), asks)
	if err != nil {
		return err
	}
	c.audit(audit.Record{Action: "token.create", Database: token.Database, Object: token.ID, Detail: map[string]string{"name": token.Name, "scope": string(token.Kind)}})
	shows := showToken(token, names)
	shows.Secret = presented
	return c.answer(http.StatusCreated, shows)
}

func revokeToken(c *call) error {
	token, err := c.server.access.Tokens.Revoke(c.ctx(), c.r.PathValue("token"))
	if err != nil {
		return err
	}
	c.audit(audit.Record{Action: "token.revoke", Database: token.Database, Object: token.ID, Detail: map[string]string{"name": token.Name}})
	return c.done()
}

func showToken(t access.Token, names map[string]string) api.Token {
	return api.Token{ID: t.ID, Name: t.Name, Scope: string(t.Kind), Database: t.Database, DatabaseName: names[t.Database], Proxy: t.Proxy,
		CreatedAt: utc(t.CreatedAt), CreatedBy: t.CreatedBy, ExpiresAt: utc(t.ExpiresAt), LastUsedAt: utc(t.LastUsed)}
}

// databaseNames returns the names of all databases by their ids.
func (c *call) databaseNames() (map[string]string, error) {
	databases, err := c.server.registry.Databases(c.ctx())
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(databases))
	for _, db := range databases {
		names[db.ID] = db.Name
	}
	return names, nil
}

// asParameter makes 422 of 404 when it is not the path that names what there is not.
func asParameter(err error) error {
	if said := failure(err); said.ID == api.NotFound {
		return invalid("%s", said.Message)
	}
	return err
}
