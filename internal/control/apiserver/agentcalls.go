package apiserver

import (
	"net/http"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/proxyquery"
)

func enrollAgent(c *call) error {
	var body api.Certify
	if err := c.read(&body); err != nil {
		return err
	}
	if err := c.stillThere(); err != nil {
		return err
	}
	certified, err := c.server.access.Agents.Enrol(c.ctx(), c.caller, []byte(body.CSR))
	if err != nil {
		return err
	}
	return c.answerCertified("agent.enrol", certified)
}

func renewAgent(c *call) error {
	var body api.Certify
	if err := c.read(&body); err != nil {
		return err
	}
	certified, err := c.server.access.Agents.Renew(c.ctx(), c.caller, []byte(body.CSR))
	if err != nil {
		return err
	}
	return c.answerCertified("agent.renew", certified)
}

func (c *call) answerCertified(action string, certified access.Certified) error {
	agent := certified.Agent
	c.audit(audit.Record{Action: action, Database: agent.Database, Object: agent.ID, Detail: map[string]string{"proxy": agent.Proxy}})
	return c.answer(http.StatusCreated, api.Certified{Agent: agent.ID, Database: agent.Database, Proxy: agent.Proxy,
		Certificate: certified.CertificatePEM, ControlCA: c.server.access.Control.CertificatePEM(),
		RenewAt: utc(certified.RenewAt), ExpiresAt: utc(certified.ExpiresAt)})
}

// receiveReport passes on what a proxy says of itself. For which proxy it speaks, the agent's certificate says.
func receiveReport(c *call) error {
	var report api.Report
	if err := c.read(&report); err != nil {
		return err
	}
	if err := checkReport(report); err != nil {
		return err
	}
	if err := c.stillThere(); err != nil {
		return err
	}
	if err := c.server.registry.Acknowledge(c.ctx(), c.caller.Database, c.caller.Proxy, report); err != nil {
		return err
	}
	return c.done()
}

// Bounds of what a report may put into the database's document.
const (
	maxReasons      = 64
	maxCertificates = 1000
	maxSaid         = 4096
)

func checkReport(r api.Report) error {
	switch {
	case r.Applied < 0 || r.InForce < 0 || r.Kept < 0:
		return invalid("the numbers of a report must not be negative")
	case len(r.Ended) > maxReasons:
		return invalid("sessions_ended has more than %d reasons", maxReasons)
	case len(r.Certificates) > maxCertificates:
		return invalid("certificates has more than %d serials; leave out unused ones", maxCertificates)
	case len(r.Error) > maxSaid || len(r.Drift) > maxSaid || len(r.ProxyVersion) > 128 || len(r.ErrorKind) > 64:
		return invalid("error and drift have at most %d bytes, proxy_version 128, error_kind 64", maxSaid)
	}
	for reason, n := range r.Ended {
		if n < 0 || len(reason) > 64 {
			return invalid("sessions_ended has an invalid reason or count")
		}
	}
	for serial, usage := range r.Certificates {
		if usage.Sessions < 0 || len(serial) > 64 {
			return invalid("certificates has an invalid serial or session count")
		}
	}
	return nil
}

// receiveAnswer passes on the answer to a question, if it is one that this agent was asked.
func receiveAnswer(c *call) error {
	var body api.Answer
	if err := c.read(&body); err != nil {
		return err
	}
	if err := checkAnswer(body); err != nil {
		return err
	}
	id := c.r.PathValue("question")
	if !c.server.hub.answered(id, c.caller.Database, c.caller.Proxy) {
		return notFound("this query is no longer waiting for an answer")
	}
	answer := proxyquery.Answer{Kind: body.Kind, Report: body.Report, Error: body.Error}
	if body.Effect != nil {
		answer.Effect = *body.Effect
	}
	if err := c.server.queries.Reply(c.ctx(), id, answer); err != nil {
		return err
	}
	return c.done()
}

// checkAnswer refuses an answer that has nothing, or more than one thing, to say. Its kind is held against the question's
// where that is known.
func checkAnswer(a api.Answer) error {
	said := 0
	for _, there := range []bool{a.Effect != nil, a.Report != nil, a.Error != ""} {
		if there {
			said++
		}
	}
	switch {
	case said != 1:
		return invalid("an answer must have either an effect, a report or an error")
	case len(a.Error) > maxSaid || len(a.Kind) > 64:
		return invalid("error has at most %d bytes, kind 64", maxSaid)
	case a.Report != nil:
		return checkReport(*a.Report)
	}
	return nil
}
