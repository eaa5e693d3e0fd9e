package registry

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/safetext"
)

// advance moves every object that waits for the proxies and need not any more: see awaited.
func (c *change) advance() {
	settled := func(action, object string, generation int64) {
		c.settled[action] = append(c.settled[action], settledObject{object, generation})
	}
	c.db.Rules = slices.DeleteFunc(c.db.Rules, func(r Rule) bool {
		gone := r.Status == Deauthorizing && c.db.confirmed(r.Status, r.Generation)
		if gone {
			settled("ip_rule.deleted", r.ID, r.Generation)
		}
		return gone
	})
	for i := range c.db.Rules {
		if r := &c.db.Rules[i]; r.Status == Authorizing && c.db.confirmed(r.Status, r.Generation) {
			r.Status, r.UpdatedAt = Authorized, c.now
			settled("ip_rule.authorized", r.ID, r.Generation)
		}
	}
	for i := range c.db.Certificates {
		cert := &c.db.Certificates[i]
		if !c.db.confirmed(cert.Status, cert.Generation) {
			continue
		}
		switch cert.Status {
		case Pending:
			cert.Status, cert.UpdatedAt = Ready, c.now
			settled("certificate.ready", cert.ID, cert.Generation)
		case Disabling:
			if c.tx.Operations() >= maxBeforeSettling {
				c.more = true
				continue
			}
			c.disable(cert)
			settled("certificate.disabled", cert.ID, cert.Generation)
		}
	}
	c.forgetDisabled()
	if m := c.db.MTLS; m != nil && c.db.confirmed(m.Status, m.Generation) {
		switch m.Status {
		case Provisioning:
			m.Status, m.UpdatedAt = Operational, c.now
			settled("mtls.operational", c.db.ID, m.Generation)
		case Deprovisioning:
			c.db.MTLS = nil
			settled("mtls.destroyed", c.db.ID, m.Generation)
		}
	}
}

// maxBeforeSettling is how many operations a transaction has at most before the records of what settles, and the document,
// come into it.
const maxBeforeSettling = store.MaxOperations / 2

// unsettled reports whether a certificate could be disabled and is not: see [change.advance].
func (db *Database) unsettled() bool {
	return slices.ContainsFunc(db.Certificates, func(cert Certificate) bool {
		return cert.Status == Disabling && db.confirmed(cert.Status, cert.Generation)
	})
}

// settledObject is what became true of an object, and with which generation.
type settledObject struct {
	id         string
	generation int64
}

// manyAtOnce is how many objects have records of their own when they settle in the same way together. A transaction
// holds 128 changes.
const manyAtOnce = 8

// auditSettled records what settle found.
func (c *change) auditSettled() error {
	for _, action := range slices.Sorted(maps.Keys(c.settled)) {
		objects := c.settled[action]
		if len(objects) > manyAtOnce {
			ids := make([]string, len(objects))
			for i, o := range objects {
				ids[i] = o.id
			}
			if err := c.auditAs(audit.System, action, "", map[string]string{"objects": strings.Join(ids, " ")}); err != nil {
				return err
			}
			continue
		}
		for _, o := range objects {
			if err := c.auditAs(audit.System, action, o.id, map[string]string{"generation": strconv.FormatInt(o.generation, 10)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// disable ends a certificate for good; nobody needs its key any more.
func (c *change) disable(cert *Certificate) {
	cert.Status, cert.UpdatedAt, cert.DisableAt = Disabled, c.now, c.now
	c.tx.Delete(keyLeaves + cert.ID)
}

// forgetDisabled keeps the list of disabled certificates within its bound, the oldest go first.
func (c *change) forgetDisabled() {
	disabled := 0
	for _, cert := range c.db.Certificates {
		if cert.Status == Disabled {
			disabled++
		}
	}
	c.db.Certificates = slices.DeleteFunc(c.db.Certificates, func(cert Certificate) bool {
		forget := cert.Status == Disabled && disabled > maxDisabled
		if forget {
			disabled--
		}
		return forget
	})
}

// maxAhead bounds how far a report may be ahead of the document, and so how far one can lift the counter. A store that was
// restored lags by as many changes as were made since its snapshot.
const maxAhead = 1 << 20

// Acknowledge stores what a proxy reports of itself, and advances every state that waits for it.
func (r *Registry) Acknowledge(ctx context.Context, databaseID, proxy string, report api.Report) error {
	had := max(report.Applied, report.OnDisk)
	if report.Applied < 0 || report.InForce < 0 || report.InForce > report.Applied {
		return problem.New(problem.InvalidParams, "inconsistent report: generation %d in force, but %d applied", report.InForce, report.Applied)
	}
	_, err := r.change(ctx, audit.System, databaseID, func(c *change) error {
		p := c.db.proxy(proxy)
		if p == nil {
			return problem.New(problem.NotFound, "database %s has no proxy %s any more", c.db.Name, problem.Quote(proxy))
		}
		said := Acknowledgement{
			Applied: report.Applied, InForce: report.InForce, AppliedAt: report.AppliedAt, InForceAt: report.InForceAt,
			SessionsEnded: boundedCounts(report.Ended), Error: bounded(report.Error), ErrorKind: errorKind(report), Drift: bounded(report.Drift),
			Version: bounded(report.ProxyVersion), At: c.now,
		}
		said.AgentLogLinesDropped = max(report.LogLinesDropped, 0)
		said.Clock, said.Recorded = clockOf(p.Acknowledged.Clock, report, c.now), p.Acknowledged.Recorded
		if had > c.before+maxAhead {
			return problem.New(problem.InvalidParams, "a report of generation %d, but the newest is %d", had, c.before)
		}
		overtaken := had > c.before
		if overtaken {
			// The store was restored from a snapshot that is older than what the proxy has. What the store says counts,
			// and it needs a generation that the proxy has not seen.
			said.Applied, said.InForce = 0, 0
			c.db.Generation = had + 1
			if err := c.notifyOvertaken(proxy, &said.Recorded, had); err != nil {
				return err
			}
		}
		if !overtaken && p.Acknowledged.same(said) {
			return errUnchanged
		}
		if err := c.auditError(proxy, p.Acknowledged, &said); err != nil {
			return err
		}
		if said.Drift != "" && said.Drift != p.Acknowledged.Drift {
			if err := c.auditProxy("policy.drift", proxy, &said.Recorded, map[string]string{"drift": said.Drift}); err != nil {
				return err
			}
		}
		if err := c.notifySkew(proxy, &said.Clock); err != nil {
			return err
		}
		p.Acknowledged = said
		return nil
	})
	if err != nil || len(report.Certificates) == 0 {
		return err
	}
	return r.putUsage(ctx, databaseID+"/"+proxy, report.Certificates)
}

// auditError records that a proxy does not follow its policy, once for each error.
func (c *change) auditError(proxy string, before Acknowledgement, said *Acknowledgement) error {
	if said.Error == "" || said.Error == before.Error && said.ErrorKind == before.ErrorKind {
		return nil
	}
	action := "policy.refused" // by those, too, that don't say which kind it is
	switch said.ErrorKind {
	case api.ErrorUnreachable:
		action = "policy.unreachable"
	case api.ErrorUndeliverable:
		action = "policy.undeliverable"
	default:
		if c.before == 0 {
			return nil // without a policy none is refused
		}
	}
	return c.auditProxy(action, proxy, &said.Recorded, map[string]string{"error": said.Error})
}

// maxProxyRecords is how many records a day the audit trail has of what one proxy says of itself. Its agent, or who has taken
// its place, may say something else each time, and must not fill the store with it.
const maxProxyRecords = 100

// auditProxy records what a proxy says of itself, as often as a day allows.
func (c *change) auditProxy(action, proxy string, recorded *Recorded, detail map[string]string) error {
	if day := c.now.UTC().Format(time.DateOnly); recorded.Day != day {
		recorded.Day, recorded.Count = day, 0
	}
	if recorded.Count >= maxProxyRecords {
		return nil
	}
	if recorded.Count++; recorded.Count == maxProxyRecords {
		detail["note"] = "what else this proxy says is not recorded before 00:00 UTC"
	}
	return c.audit(action, proxy, detail)
}

// notifyOvertaken records that a proxy is ahead of the store, and has people told once a day.
func (c *change) notifyOvertaken(proxy string, recorded *Recorded, had int64) error {
	if err := c.auditProxy("policy.overtaken", proxy, recorded, map[string]string{"generation": strconv.FormatInt(had, 10)}); err != nil {
		return err
	}
	if c.now.Sub(recorded.Overtaken).Abs() < skewAgain {
		return nil
	}
	recorded.Overtaken = c.now
	return c.outbox.Add(c.tx, outbox.Notice{Kind: outbox.PolicyOvertaken, At: c.now, Space: c.db.Space, DatabaseID: c.db.ID, Database: c.db.Name, Proxy: proxy})
}

// errorKind returns the kind of a report's error, empty if it is none that is known.
func errorKind(r api.Report) string {
	if r.Error != "" && slices.Contains([]string{api.ErrorUnreachable, api.ErrorUndeliverable, api.ErrorRefused}, r.ErrorKind) {
		return r.ErrorKind
	}
	return ""
}

// same reports whether two acknowledgements differ in nothing but the time of the report.
func (a Acknowledgement) same(b Acknowledgement) bool {
	return a.Clock == b.Clock && a.AgentLogLinesDropped == b.AgentLogLinesDropped && a.Applied == b.Applied && a.InForce == b.InForce &&
		a.Error == b.Error && a.ErrorKind == b.ErrorKind && a.Drift == b.Drift && a.Version == b.Version &&
		a.AppliedAt.Equal(b.AppliedAt) && a.InForceAt.Equal(b.InForceAt) && maps.Equal(a.SessionsEnded, b.SessionsEnded)
}

// maxUsage is how many certificates' use is kept of one proxy. A database has some 50.
const maxUsage = 2000

// putUsage keeps which certificates a proxy saw, if that has changed. A proxy forgets when it starts; what it saw before
// stays known here.
func (r *Registry) putUsage(ctx context.Context, key string, seen map[string]api.Usage) error {
	return r.attempt(ctx, func() error {
		before, revision, err := docstore.Get[map[string]api.Usage](ctx, r.docs.Store, keyUsage+key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		usage := maps.Clone(seen)
		for serial, old := range before {
			now := usage[serial]
			if now.LastSeen.Before(old.LastSeen) {
				now.LastSeen = old.LastSeen
			}
			usage[serial] = now
		}
		forgetUsage(usage)
		if maps.Equal(usage, before) {
			return nil
		}
		tx := new(store.Tx)
		tx.If(keyUsage+key, revision)
		if err := docstore.Put(tx, keyUsage+key, usage); err != nil {
			return err
		}
		_, err = r.docs.Commit(ctx, tx)
		return err
	})
}

// forgetUsage keeps the certificates that were seen last, when there are more than can be kept.
func forgetUsage(usage map[string]api.Usage) {
	if len(usage) <= maxUsage {
		return
	}
	serials := slices.SortedFunc(maps.Keys(usage), func(a, b string) int {
		return cmp.Or(usage[b].LastSeen.Compare(usage[a].LastSeen), cmp.Compare(a, b))
	})
	for _, serial := range serials[maxUsage:] {
		delete(usage, serial)
	}
}

// bounded is a text of a proxy's, fit to be kept.
func bounded(text string) string { return safetext.Truncate(text, 500) }

// boundedCounts drops what can't be counts of refusals by their names.
func boundedCounts(counts map[string]int) map[string]int {
	if len(counts) > 32 {
		return nil
	}
	return maps.Clone(counts)
}
