package apiserver

import (
	"net/http"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
)

func listAgents(c *call) error {
	agents, err := c.server.access.Agents.List(c.ctx())
	if err != nil {
		return err
	}
	names, err := c.databaseNames()
	if err != nil {
		return err
	}
	shows := make([]api.Agent, len(agents))
	for i, a := range agents {
		shows[i] = api.Agent{ID: a.ID, Database: a.Database, DatabaseName: names[a.Database], Proxy: a.Proxy, Serial: a.Serial,
			ExpiresAt: utc(a.ExpiresAt), EnrolledAt: utc(a.EnrolledAt), LastSeenAt: utc(a.LastSeen)}
	}
	return c.answer(http.StatusOK, shows)
}

func createEnrolment(c *call) error {
	var body api.NewEnrolment
	if err := c.read(&body); err != nil {
		return err
	}
	db, err := c.find(body.Database)
	if err != nil {
		return asParameter(err)
	}
	if err := db.WantsAgent(body.Proxy); err != nil {
		return asParameter(err)
	}
	token, presented, err := c.server.access.Agents.Invite(c.ctx(), access.Place{Database: db.ID, Proxy: body.Proxy}, c.caller.Name)
	if err != nil {
		return err
	}
	c.audit(audit.Record{Action: "agent.invite", Database: db.ID, Object: token.ID, Detail: map[string]string{"proxy": token.Proxy}})
	url := ""
	if announced := c.server.url.Load(); announced != nil {
		url = *announced
	}
	return c.answer(http.StatusCreated, api.Enrolment{ControlURL: url, Token: presented, Database: db.ID, Proxy: token.Proxy,
		ExpiresAt: utc(token.ExpiresAt), ControlCA: c.server.access.Control.CertificatePEM()})
}

func revokeAgent(c *call) error {
	agent, err := c.server.access.Agents.Revoke(c.ctx(), c.r.PathValue("agent"))
	if err != nil {
		return err
	}
	c.audit(audit.Record{Action: "agent.revoke", Database: agent.Database, Object: agent.ID, Detail: map[string]string{"proxy": agent.Proxy}})
	return c.done()
}
