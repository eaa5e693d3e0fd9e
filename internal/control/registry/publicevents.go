package registry

import (
	"context"
	"time"

	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/store"
)

// privateURL and publicURL are what clients connect to, without a login.
func (db *Database) privateURL() string {
	return api.Connect(api.Place{Host: db.Hosts[0], Port: db.Port}).URL
}

func (db *Database) publicURL() string {
	return api.Connect(api.Place{Host: db.Enhanced.Host, Port: db.Port, Roots: api.RootsBundle}).URL
}

// notifyConnection has people told that clients are to connect by another URL. The previous one is in it: on enable it
// stays valid, on disable it ends.
func (c *change) notifyConnection(url, previous string) error {
	return c.outbox.Add(c.tx, outbox.Notice{Kind: outbox.ConnectionChanged, At: c.now, Space: c.db.Space, DatabaseID: c.db.ID, Database: c.db.Name,
		Public: &outbox.Public{Host: c.db.Enhanced.Host, URL: url, PreviousURL: previous}})
}

// audited has the actions of what happens to public certificates. What is not here is not recorded.
var audited = map[acme.EventKind]string{
	acme.EventOrdered: "enhanced_certificate.order", acme.EventIssued: "enhanced_certificate.issue", acme.EventRenewed: "enhanced_certificate.renewed",
	acme.EventFailed: "enhanced_certificate.fail", acme.EventRemoved: "enhanced_certificate.remove", acme.EventRevoked: "enhanced_certificate.revoke",
	acme.EventAccount: "acme.account", acme.EventRefused: "acme.account_problem", acme.EventRollover: "acme.rolled_over", acme.EventLimited: "acme.rate_limited",
}

// told has the notices of what happens to public certificates.
var told = map[acme.EventKind]outbox.Kind{
	acme.EventChain: outbox.EnhancedChain, acme.EventFailing: outbox.EnhancedFailing, acme.EventExpired: outbox.EnhancedExpired,
	acme.EventRefused: outbox.ACMEAccount, acme.EventLimited: outbox.ACMELimited,
}

// RecordPublic adds to a transaction what is to be known of an event: a record of the trail, a notice, or both. It is the
// Record of the manager that the registry was made with.
func (r *Registry) RecordPublic(tx *store.Tx, e acme.Event) error {
	cert := e.Certificate
	database := cert.ID
	if len(cert.ID) > len(spacePrefix) && cert.ID[:len(spacePrefix)] == spacePrefix {
		database = ""
	}
	if action, ok := audited[e.Kind]; ok {
		record := audit.Record{Action: action, Database: database, Space: cert.Space, Object: cert.ID, Detail: eventDetail(e)}
		if cert.ID == "" {
			record.Object = e.CA
		}
		if err := r.trail.Add(tx, audit.System, e.At, record); err != nil {
			return err
		}
	}
	kind, ok := told[e.Kind]
	if !ok {
		return nil
	}
	n := outbox.Notice{Kind: kind, At: e.At, Space: cert.Space, DatabaseID: database, Database: r.databaseName(database), Public: &outbox.Public{CA: e.CA}}
	if len(cert.Names) > 0 {
		n.Public.Host = cert.Names[0]
	}
	if cert.Leaf != nil {
		n.ExpiresAt, n.Public.Issuer = cert.Leaf.NotAfter, cert.Leaf.Issuer
	}
	n.Public.Reason, n.Public.Detail = string(cert.Reason), cert.Detail
	if e.Problem != nil {
		n.Public.Reason, n.Public.Detail, n.Public.Until = string(e.Problem.Reason), e.Problem.Detail, e.Problem.NotBefore
	}
	return r.outbox.Add(tx, n)
}

// eventDetail is what the trail has of an event.
func eventDetail(e acme.Event) map[string]string {
	detail := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			detail[name] = value
		}
	}
	set("ca", e.CA)
	set("account", e.Account)
	if len(e.Certificate.Names) > 0 {
		set("host", e.Certificate.Names[0])
	}
	if leaf := e.Certificate.Leaf; leaf != nil && (e.Kind == acme.EventIssued || e.Kind == acme.EventRenewed) {
		set("serial", leaf.Serial)
		set("issuer", leaf.Issuer)
		set("not_after", leaf.NotAfter.Format(time.RFC3339))
	}
	if revoked := e.Certificate.Revoke; revoked != nil && e.Kind == acme.EventRevoked {
		set("serial", revoked.Serial)
	}
	if e.Problem != nil {
		set("reason", string(e.Problem.Reason))
		set("detail", e.Problem.Detail)
	}
	return detail
}

// databaseName looks a name up for people. Without one, the notice has the id.
func (r *Registry) databaseName(id string) string {
	if id == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	db, err := r.load(ctx, id)
	if err != nil {
		return id
	}
	return db.Name
}
