package apiserver

import (
	"net/http"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/registry"
)

func getAcknowledgements(c *call) error {
	db := c.db
	shows := api.Acknowledgements{Database: db.Name, Generation: db.Generation, InForce: len(db.Proxies) > 0,
		Proxies: make([]api.ProxyAcknowledgement, len(db.Proxies)), Waiting: waitingFor(db)}
	for i, proxy := range db.Proxies {
		said := proxy.Acknowledged
		shows.InForce = shows.InForce && said.InForce >= db.Generation
		shows.Proxies[i] = api.ProxyAcknowledgement{Proxy: proxy.Name, Applied: said.Applied, InForce: said.InForce,
			AppliedAt: utc(said.AppliedAt), InForceAt: utc(said.InForceAt), Ended: said.SessionsEnded,
			Error: said.Error, Drift: said.Drift, Version: said.Version, At: utc(said.At)}
	}
	return c.answer(http.StatusOK, shows)
}

// waitingFor lists the changes of a database that not every proxy has acknowledged, in the order in which they stand
// in the document.
func waitingFor(db registry.Database) []api.Waiting {
	waiting := []api.Waiting{}
	add := func(w api.Waiting, status registry.Status) {
		switch status {
		case registry.Provisioning, registry.Authorizing, registry.Pending:
			w.Until = api.UntilApplied
		case registry.Deprovisioning, registry.Deauthorizing, registry.Disabling:
			w.Until = api.UntilInForce
		default:
			return
		}
		w.Status, w.Proxies = string(status), []string{}
		for _, proxy := range db.Proxies {
			has := proxy.Acknowledged.Applied
			if w.Until == api.UntilInForce {
				has = proxy.Acknowledged.InForce
			}
			if has < w.Generation {
				w.Proxies = append(w.Proxies, proxy.Name)
			}
		}
		waiting = append(waiting, w)
	}
	if m := db.MTLS; m != nil {
		add(api.Waiting{Kind: api.WaitingTLSEndpoint, Name: db.Name, Generation: m.Generation}, m.Status)
	}
	for _, rule := range db.Rules {
		add(api.Waiting{Kind: api.WaitingRule, ID: rule.ID, Name: rule.CIDR, Generation: rule.Generation}, rule.Status)
	}
	for _, certificate := range db.Certificates {
		add(api.Waiting{Kind: api.WaitingCertificate, ID: certificate.ID, Name: certificate.Name, Generation: certificate.Generation}, certificate.Status)
	}
	return waiting
}
