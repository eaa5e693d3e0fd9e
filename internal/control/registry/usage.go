package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/proxyquery"
)

// Observation is what the proxies of a space said of the use of certificates when they were asked. The zero value is
// that none was asked.
type Observation struct {
	At   time.Time // when they were asked
	Said map[proxyquery.Proxy]proxyquery.Reported
}

// Silence is a proxy whose clients are not known now, because it could not be asked.
type Silence struct {
	Database, Proxy string // names
	Err             error
}

// errNotAsked is about a proxy that was added after the others were asked.
var errNotAsked = errors.New("it was not asked")

// Observe asks every proxy of the databases with mutual TLS in a space who uses which certificate now. [Options].Ask bounds
// how long it takes.
func (r *Registry) Observe(ctx context.Context, space string) (Observation, error) {
	databases, err := r.mutual(ctx, space)
	if err != nil {
		return Observation{}, err
	}
	var proxies []proxyquery.Proxy
	for _, db := range databases {
		for _, p := range db.Proxies {
			proxies = append(proxies, proxyquery.Proxy{Database: db.ID, Name: p.Name})
		}
	}
	seen := Observation{At: r.now()}
	if r.ask != nil && len(proxies) > 0 {
		seen.Said = r.ask(ctx, proxies)
	}
	return seen, ctx.Err()
}

// Silent returns the proxies of a space that have not answered, by database. One that was added after the others were asked is
// among them.
func (r *Registry) Silent(ctx context.Context, space string, seen Observation) ([]Silence, error) {
	databases, err := r.mutual(ctx, space)
	if err != nil {
		return nil, err
	}
	var silent []Silence
	for _, db := range databases {
		for _, p := range db.Proxies {
			said, asked := seen.Said[proxyquery.Proxy{Database: db.ID, Name: p.Name}]
			if !asked {
				said.Err = errNotAsked
			}
			if said.Err != nil {
				silent = append(silent, Silence{db.Name, p.Name, said.Err})
			}
		}
	}
	return silent, nil
}

// mutual returns the databases of a space that have mutual TLS. The proxies of others trust no authority.
func (r *Registry) mutual(ctx context.Context, space string) ([]Database, error) {
	databases, err := r.Databases(ctx)
	return slices.DeleteFunc(databases, func(db Database) bool { return db.Space != space || db.MTLS == nil }), err
}

// CAUsers returns every certificate that hangs on an authority, by database. Its use is what an observation has, and the last
// reports of the proxies that have not answered.
func (r *Registry) CAUsers(ctx context.Context, space, id string, seen Observation) ([]CAUser, error) {
	databases, err := r.Databases(ctx)
	if err != nil {
		return nil, err
	}
	users := []CAUser{}
	for _, db := range databases {
		if db.Space != space {
			continue
		}
		var usage map[string]api.Usage
		for _, cert := range db.Certificates {
			if cert.CA != id || !cert.Usable() {
				continue
			}
			if usage == nil {
				if usage, err = r.usage(ctx, db.ID, seen); err != nil {
					return nil, err
				}
			}
			used := usage[cert.Serial]
			user := CAUser{Database: db.Name, DatabaseID: db.ID, Certificate: cert, Sessions: used.Sessions, LastSeen: used.LastSeen}
			if successor := db.certificate(cert.Successor); successor != nil {
				user.SuccessorAt = successor.CreatedAt
				user.Replaced = replaced(used, usage[successor.Serial])
			}
			users = append(users, user)
		}
		if db.Server != nil && db.Server.CA == id && (db.MTLS != nil || db.rulesAlone()) {
			users = append(users, CAUser{Database: db.Name, DatabaseID: db.ID, Server: true})
		}
	}
	return users, nil
}

// usage returns which client certificates the proxies of a database have seen, by serial. What a proxy says now replaces the
// sessions of its last report. When a certificate was last seen is the later of both: a proxy forgets when it starts.
func (r *Registry) usage(ctx context.Context, databaseID string, seen Observation) (map[string]api.Usage, error) {
	prefix := keyUsage + databaseID + "/"
	items, _, err := r.docs.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	all := make(map[string]api.Usage)
	add := func(serial string, u api.Usage) {
		sum := all[serial]
		sum.Sessions += u.Sessions
		if u.LastSeen.After(sum.LastSeen) {
			sum.LastSeen = u.LastSeen
		}
		all[serial] = sum
	}
	for _, item := range items {
		var reported map[string]api.Usage
		if err := json.Unmarshal(item.Value, &reported); err != nil {
			return nil, fmt.Errorf("read %s from the store: %w", item.Key, err)
		}
		said, asked := seen.Said[proxyquery.Proxy{Database: databaseID, Name: strings.TrimPrefix(item.Key, prefix)}]
		for serial, u := range reported {
			if asked && said.Err == nil {
				u.Sessions = 0
			}
			add(serial, u)
		}
	}
	for proxy, said := range seen.Said {
		if proxy.Database != databaseID || said.Err != nil {
			continue
		}
		for serial, u := range said.Report.Certificates {
			add(serial, u)
		}
	}
	return all, nil
}
