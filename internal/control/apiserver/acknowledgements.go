package apiserver

import (
	"net/http"
	"time"

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
			Error: said.Error, ErrorKind: said.ErrorKind, Drift: said.Drift, Version: said.Version, At: utc(said.At)}
		if said.Clock.Known {
			skew := int64(said.Clock.Skew / time.Second)
			shows.Proxies[i].ClockSkew = &skew
		}
	}
	return c.answer(http.StatusOK, shows)
}

// waitingFor shows the changes of a database that wait for its proxies.
func waitingFor(db registry.Database) []api.Waiting {
	waiting := []api.Waiting{}
	for _, w := range db.Waiting() {
		waiting = append(waiting, api.Waiting{Kind: string(w.Kind), ID: w.ID, Name: w.Name, Status: string(w.Status),
			Generation: w.Generation, Until: string(w.Until), Proxies: append([]string{}, w.Proxies...)})
	}
	return waiting
}
