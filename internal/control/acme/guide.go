package acme

import (
	"context"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// Record is a DNS record that a person makes for a certificate.
type Record struct {
	Name, Type, Value string // the value is empty where it is the person's to know
	Purpose           string
	Required          bool
	Found             bool // the public DNS has it, or one that does the same
}

// Records returns the DNS records that the names of a certificate need, and those that are recommended, with what the
// public DNS has of them. Look-ups that fail count as not found.
func (m *Manager) Records(ctx context.Context, names []string) ([]Record, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var list []Record
	for _, name := range names {
		list = append(list, m.addressRecord(ctx, name))
		if m.method == methodDNS {
			if record, needed := m.aliasRecord(ctx, name); needed {
				list = append(list, record)
			}
		}
	}
	for _, a := range m.authorities {
		status, err := m.authorityStatus(ctx, a)
		if err != nil {
			return nil, err
		}
		list = append(list, m.authorityRecords(ctx, a, status.Account, names)...)
	}
	return list, nil
}

func (m *Manager) addressRecord(ctx context.Context, name string) Record {
	r := Record{Name: canonical(name), Type: "A, AAAA or CNAME", Purpose: "clients find the proxies of the database by it", Required: true}
	if strings.HasPrefix(name, "*.") {
		r.Purpose = "clients find the proxies of the databases by it, or by a record for each database"
	}
	found, err := m.options.Resolver.addresses(ctx, strings.Replace(name, "*", randomLabel(), 1))
	if r.Found = err == nil && len(found) > 0; r.Found {
		r.Value = strings.Join(found, " ")
	}
	return r
}

// aliasRecord is the record that delegates the challenge to the zone that can be changed. It is not needed for names in
// that zone, and where a webhook or a program changes the zone of the name.
func (m *Manager) aliasRecord(ctx context.Context, name string) (record Record, needed bool) {
	solver, ok := m.options.Solver.(*RFC2136)
	at := challengeName(name)
	if !ok || isBelow(at, solver.Zone) {
		return Record{}, false
	}
	record = Record{Name: at, Type: "CNAME", Value: canonical(strings.TrimPrefix(name, "*.") + "." + solver.Zone), Required: true,
		Purpose: "it delegates the proof of the name to the zone " + solver.Zone + ", which the control plane changes"}
	_, target, err := m.options.Resolver.texts(ctx, at)
	record.Found = err == nil && target != at && isBelow(target, solver.Zone)
	return record, true
}

// authorityRecords are those that name an authority and our account at it. Without an account they are not known yet.
func (m *Manager) authorityRecords(ctx context.Context, a *authority, account string, names []string) (list []Record) {
	if account == "" {
		return nil
	}
	meta, err := a.client.directory(ctx)
	if err != nil || len(meta.CAAIdentities) == 0 {
		return nil
	}
	check := precheck{resolver: m.options.Resolver, method: m.method, identities: meta.CAAIdentities, account: account}
	for _, name := range names {
		plain, wildcard := strings.CutPrefix(name, "*.")
		if m.method == methodPersist {
			record := PersistRecord(plain, meta.CAAIdentities[0], account)
			list = append(list, Record{Name: record.Name, Type: "TXT", Value: record.Value, Required: true,
				Purpose: "it proves the name to " + a.Name, Found: check.persistName(ctx, name) == nil})
		}
		tag := "issue"
		if wildcard {
			tag = "issuewild"
		}
		records, _, err := m.options.Resolver.query(ctx, canonical(plain), dns.TypeCAA)
		list = append(list, Record{Name: canonical(plain), Type: "CAA",
			Value:   fmt.Sprintf(`0 %s "%s; accounturi=%s; validationmethods=%s"`, tag, meta.CAAIdentities[0], account, m.method),
			Purpose: "only " + a.Name + " may issue certificates for the name, and only to this control plane",
			Found:   err == nil && len(records) > 0 && check.allowed(plain, records, wildcard) == nil})
	}
	return list
}
