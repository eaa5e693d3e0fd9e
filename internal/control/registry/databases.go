package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// NewDatabase is a database to be registered.
type NewDatabase struct {
	Name        string // lower-case letters, digits and dashes, 2 to 63; unique
	Space       string // likewise; empty: default
	Hosts       []string
	Port        int // 0: 5432
	BackendNote string
	Proxies     []NewProxy
}

// NewProxy is a proxy to be added. Whether a directory can be used, and an address, only its node can see; that no other
// proxy has the directory is seen here.
type NewProxy struct {
	Name, Node, PolicyDir, Admin string

	Metrics string // see [Proxy]
}

// DefaultSpace is the space of a database that names none.
const DefaultSpace = "default"

// Bounds of a database's document.
const (
	MaxHosts        = 32
	MaxProxies      = 64
	MaxCertificates = 50  // that are not disabled; one transaction can end them all
	maxDisabled     = 25  // that are still listed; each change writes the whole document
	maxDescription  = 256 // bytes, as in policy.yaml
)

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,61}[a-z0-9]$`)

func checkName(what, name string) error {
	if isID(name) || !namePattern.MatchString(name) {
		return problem.New(problem.InvalidParams, "%s %s is not a valid name; use 2 to 63 lower-case letters, digits and dashes, starting with a letter", what, problem.Quote(name))
	}
	return nil
}

// checkText accepts what a person may write to explain something.
func checkText(what, text string, longest int) error {
	if len(text) > longest {
		return problem.New(problem.InvalidParams, "%s has %d bytes; use at most %d", what, len(text), longest)
	}
	if !utf8.ValidString(text) {
		return problem.New(problem.InvalidParams, "%s is not UTF-8; send it in UTF-8", what)
	}
	if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return problem.New(problem.InvalidParams, "%s has an unprintable character; remove it", what)
	}
	return nil
}

// checkHosts normalizes the names of a server certificate.
func checkHosts(hosts []string) ([]string, error) {
	if len(hosts) == 0 {
		return nil, problem.New(problem.InvalidParams, "a database needs a host name, the one that its clients connect to; its server certificate is for that name")
	}
	if len(hosts) > MaxHosts {
		return nil, problem.New(problem.InvalidParams, "%d host names; at most %d fit into a certificate", len(hosts), MaxHosts)
	}
	var good []string
	for _, host := range hosts {
		name := strings.TrimSuffix(strings.ToLower(host), ".")
		if addr, err := netip.ParseAddr(name); err == nil {
			name = addr.Unmap().String()
		}
		if err := authority.CheckHost(name); err != nil {
			return nil, problem.New(problem.InvalidParams, "%s", err)
		}
		if !slices.Contains(good, name) {
			good = append(good, name)
		}
	}
	return good, nil
}

func (n NewProxy) check() error {
	if err := checkName("proxy", n.Name); err != nil {
		return err
	}
	if n.PolicyDir != "" && !filepath.IsAbs(n.PolicyDir) {
		return problem.New(problem.InvalidParams, "proxy %s: policy_dir: it must be an absolute path", n.Name)
	}
	if (n.PolicyDir == "") != (n.Admin == "") {
		return problem.New(problem.InvalidParams, "proxy %s: a proxy beside the daemon needs both policy_dir and admin; one with an agent needs neither", n.Name)
	}
	return checkMetrics(n.Metrics)
}

// checkMetrics accepts what Prometheus can connect to: a name or an address, with a port.
func checkMetrics(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	number, numberErr := strconv.ParseUint(port, 10, 16)
	_, addrErr := netip.ParseAddr(host)
	if err != nil || numberErr != nil || number == 0 || addrErr != nil && authority.CheckHost(host) != nil {
		return problem.New(problem.InvalidParams, "metrics: %s is no address that Prometheus can connect to; use the form host:port, such as db1.example.com:9815", problem.Quote(address))
	}
	return nil
}

func (n NewProxy) proxy(now time.Time) Proxy {
	return Proxy{Name: n.Name, CreatedAt: now, Node: n.Node, PolicyDir: n.PolicyDir, Admin: n.Admin, Metrics: n.Metrics}
}

// CreateDatabase registers a database. Nobody is let in before [Registry.EnableMTLS].
func (r *Registry) CreateDatabase(ctx context.Context, by audit.Actor, n NewDatabase) (Database, error) {
	if n.Space == "" {
		n.Space = DefaultSpace
	}
	if n.Port == 0 {
		n.Port = 5432
	}
	hosts, hostsErr := checkHosts(n.Hosts)
	problems := []error{checkName("database", n.Name), checkName("space", n.Space), hostsErr, checkText("backend_note", n.BackendNote, 1024)}
	if n.Port < 1 || n.Port > 65535 {
		problems = append(problems, problem.New(problem.InvalidParams, "port %d is out of range; use 1 to 65535", n.Port))
	}
	now := r.now()
	db := Database{ID: newID(), Name: n.Name, Space: n.Space, Hosts: hosts, Port: n.Port, BackendNote: n.BackendNote,
		Proxies: []Proxy{}, Rules: []Rule{}, Certificates: []Certificate{}, CreatedAt: now, UpdatedAt: now}
	for _, p := range n.Proxies {
		problems = append(problems, p.check(), db.addProxy(p, now))
	}
	if err := joined(problems); err != nil {
		return Database{}, err
	}
	err := r.attempt(ctx, func() error {
		_, err := r.docs.Get(ctx, keyNames+n.Name)
		if err == nil {
			return problem.New(problem.InvalidParams, "database %s already exists", n.Name)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		tx := new(store.Tx)
		tx.If(keyNames+n.Name, 0)
		tx.Put(keyNames+n.Name, []byte(db.ID))
		for _, p := range db.Proxies {
			if err := r.claimDir(ctx, tx, db.ID, p); err != nil {
				return err
			}
		}
		if err := docstore.Put(tx, KeyDatabases+db.ID, db); err != nil {
			return err
		}
		detail := map[string]string{"name": db.Name, "hosts": strings.Join(hosts, " ")}
		if err := r.trail.Add(tx, by, now, audit.Record{Action: "database.create", Database: db.ID, Space: db.Space, Object: db.ID, Detail: detail}); err != nil {
			return err
		}
		db.revision, err = r.docs.Commit(ctx, tx)
		return err
	})
	if err != nil {
		return Database{}, err
	}
	return db, nil
}

// joined makes one refusal of several.
func joined(problems []error) error {
	problems = slices.DeleteFunc(problems, func(err error) bool { return err == nil })
	if len(problems) <= 1 {
		return errors.Join(problems...)
	}
	texts := make([]string, len(problems))
	for i, err := range problems {
		texts[i] = err.Error()
	}
	return problem.New(problem.InvalidParams, "%s", strings.Join(texts, "; "))
}

// Databases returns all databases, by name.
func (r *Registry) Databases(ctx context.Context) ([]Database, error) {
	items, _, err := r.docs.List(ctx, KeyDatabases)
	if err != nil {
		return nil, err
	}
	list := make([]Database, 0, len(items))
	for _, item := range items {
		db, err := docstore.Decode[Database](item)
		if err != nil {
			return nil, err
		}
		db.revision = item.Revision
		list = append(list, db)
	}
	slices.SortFunc(list, func(a, b Database) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Database returns one database by its name or its id.
func (r *Registry) Database(ctx context.Context, nameOrID string) (Database, error) {
	id, err := r.databaseID(ctx, nameOrID)
	if err != nil {
		return Database{}, err
	}
	return r.load(ctx, id)
}

// DeleteDatabase forgets a database. Its mutual TLS must have been destroyed before, on every proxy: what is in their
// directories lets nobody in then.
func (r *Registry) DeleteDatabase(ctx context.Context, by audit.Actor, nameOrID string) error {
	id, err := r.databaseID(ctx, nameOrID)
	if err != nil {
		return err
	}
	err = r.attempt(ctx, func() error {
		db, err := r.load(ctx, id)
		if err != nil {
			return err
		}
		if db.MTLS != nil {
			return problem.New(problem.Conflict, "database %s still has mutual TLS (%s); destroy it first, so that its proxies refuse all clients", db.Name, db.MTLS.Status)
		}
		if db.rulesAlone() && len(db.Rules) > 0 {
			return problem.New(problem.Conflict, "database %s still has %d IP rules, and lets clients in by them alone; delete them first, so that its proxies refuse all clients", db.Name, len(db.Rules))
		}
		tx := new(store.Tx)
		tx.If(KeyDatabases+id, db.revision)
		tx.Delete(KeyDatabases + id)
		tx.Delete(keyNames + db.Name)
		tx.DeletePrefix(keyUsage + id + "/")
		tx.DeletePrefix(keyLists + id + "/")
		for _, p := range db.Proxies {
			if err := r.freeDir(ctx, tx, id, p); err != nil {
				return err
			}
		}
		if db.Server != nil {
			tx.Delete(keyLeaves + db.Server.ID)
		}
		if e := db.Enhanced; e != nil && e.Leaf != nil {
			tx.Delete(keyLeaves + e.Leaf.ID)
		}
		if err := r.trail.Add(tx, by, r.now(), audit.Record{Action: "database.delete", Database: id, Space: db.Space, Object: id, Detail: map[string]string{"name": db.Name}}); err != nil {
			return err
		}
		_, err = r.docs.Commit(ctx, tx)
		return err
	})
	if err == nil {
		r.forgetPublic(ctx, id)
	}
	return err
}

// AddProxy adds a proxy. Until it has acknowledged, new changes are not in force.
func (r *Registry) AddProxy(ctx context.Context, by audit.Actor, db string, n NewProxy) (Database, error) {
	if err := n.check(); err != nil {
		return Database{}, err
	}
	return r.change(ctx, by, db, func(c *change) error {
		c.adds = true
		for _, p := range c.db.Proxies {
			if n.PolicyDir != "" && p.Local() && dirKey(p) == dirKey(n.proxy(c.now)) {
				return problem.New(problem.Conflict, "policy_dir: proxy %s of database %s already uses this directory", p.Name, c.db.Name)
			}
		}
		if err := c.db.addProxy(n, c.now); err != nil {
			return err
		}
		if err := c.claimDir(c.ctx, c.tx, c.db.ID, *c.db.proxy(n.Name)); err != nil {
			return err
		}
		return c.audit("proxy.create", n.Name, nil)
	})
}

func (db *Database) addProxy(n NewProxy, now time.Time) error {
	if db.proxy(n.Name) != nil {
		return problem.New(problem.InvalidParams, "proxy %s already exists", n.Name)
	}
	added := n.proxy(now)
	if added.Local() && slices.ContainsFunc(db.Proxies, func(p Proxy) bool { return p.Local() && dirKey(p) == dirKey(added) }) {
		return problem.New(problem.InvalidParams, "two proxies have the policy_dir %s; each needs its own", problem.Quote(n.PolicyDir))
	}
	if len(db.Proxies) >= MaxProxies {
		return problem.New(problem.InvalidParams, "a database can have at most %d proxies", MaxProxies)
	}
	db.Proxies = append(db.Proxies, added)
	return nil
}

// ChangeProxy sets the address at which Prometheus reaches a proxy; empty: none of its own.
func (r *Registry) ChangeProxy(ctx context.Context, by audit.Actor, db, name, metrics string) (Database, error) {
	if err := checkMetrics(metrics); err != nil {
		return Database{}, err
	}
	return r.change(ctx, by, db, func(c *change) error {
		p := c.db.proxy(name)
		if p == nil {
			return problem.New(problem.NotFound, "database %s has no proxy %s", c.db.Name, problem.Quote(name))
		}
		if p.Metrics == metrics {
			return errUnchanged
		}
		p.Metrics = metrics
		return c.audit("proxy.change", name, map[string]string{"metrics": metrics})
	})
}

// RemoveProxy forgets a proxy: nothing waits for it any more. It does not stop it, and it takes its policy from
// nobody; switch it off first.
func (r *Registry) RemoveProxy(ctx context.Context, by audit.Actor, db, name string) (Database, error) {
	return r.change(ctx, by, db, func(c *change) error {
		p := c.db.proxy(name)
		if p == nil {
			return problem.New(problem.NotFound, "database %s has no proxy %s", c.db.Name, problem.Quote(name))
		}
		if err := c.freeDir(c.ctx, c.tx, c.db.ID, *p); err != nil {
			return err
		}
		c.db.Proxies = slices.DeleteFunc(c.db.Proxies, func(p Proxy) bool { return p.Name == name })
		c.tx.Delete(fmt.Sprintf("%s%s/%s", keyUsage, c.db.ID, name))
		return c.audit("proxy.delete", name, nil)
	})
}

// WantsAgent returns nil when the database has a proxy of the name that an agent delivers to, and a refusal otherwise.
func (db *Database) WantsAgent(name string) error {
	switch p := db.proxy(name); {
	case p == nil:
		return problem.New(problem.NotFound, "database %s has no proxy %s", db.Name, problem.Quote(name))
	case p.Local():
		return problem.New(problem.Conflict, "proxy %s of database %s has a policy_dir: a daemon delivers its policy, not an agent", p.Name, db.Name)
	}
	return nil
}

// proxy finds a proxy by its name.
func (db *Database) proxy(name string) *Proxy {
	if i := slices.IndexFunc(db.Proxies, func(p Proxy) bool { return p.Name == name }); i >= 0 {
		return &db.Proxies[i]
	}
	return nil
}
