// Package dispatch delivers policies to the proxies on the daemon's own machine. It follows the databases, runs one
// policysync.Syncer for each proxy that belongs to this node, and answers questions about them.
//
// It decides nothing: what is in a policy is registry's to say, how it gets into a directory is policysync's. Proxies on
// other machines have agents, which apiserver serves.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/policysync"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/retry"
)

// Dispatcher serves the proxies of one node.
type Dispatcher struct {
	Registry *registry.Registry
	Hub      *informer.Hub
	Queries  *proxyquery.Queries
	Node     string   // proxies of other nodes are not touched
	Roots    []string // directories under which policy directories must be
	Marks    string   // directory that keeps the newest generation of each proxy, outside of Roots; empty: it is not kept
	Log      zerolog.Logger

	mu     sync.Mutex // held for no longer than it takes to look into a map
	routes map[place]*running
	ending map[place]*running  // the route to a proxy that began last, until it has ended
	dirs   map[string]*running // likewise, of a directory
	group  sync.WaitGroup
}

type place struct{ database, proxy string }

// running is a route on its way.
type running struct {
	route   *policysync.Syncer
	at      registry.Proxy // as it was when the route began
	offered int64          // generation
	stop    context.CancelFunc
	done    chan struct{}
}

// Run serves until ctx ends, and returns when every route has ended.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.routes, d.ending, d.dirs = make(map[place]*running), make(map[place]*running), make(map[string]*running)
	defer d.group.Wait()
	d.group.Go(func() { d.answer(ctx) })
	for change := range d.Hub.FollowAll(ctx) {
		d.follow(ctx, change)
	}
	return ctx.Err()
}

// follow brings the routes of a database up to date with its document. It waits for none of them.
func (d *Dispatcher) follow(ctx context.Context, change informer.Change) {
	db := change.Database
	wanted := make(map[place]registry.Proxy)
	for _, p := range db.Proxies {
		if p.Local() && p.Node == d.Node {
			wanted[place{db.ID, p.Name}] = p
		}
	}
	for _, mark := range d.stop(db.ID, wanted) {
		if err := os.Remove(mark); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.Log.Warn().Err(err).Msg("can't remove the recorded generation of a removed proxy")
		}
	}
	var behind []*running
	for at, p := range wanted {
		r := d.routeOf(at)
		if r == nil {
			r = d.start(ctx, db, p)
		}
		if r != nil && d.lacks(r, db.Generation) {
			behind = append(behind, r)
		}
	}
	if len(behind) > 0 {
		d.offer(ctx, db, behind)
	}
}

// stop ends the routes of a database that are not wanted any more, or not as they are. They end by themselves.
// It returns the high-water marks of proxies that are gone.
func (d *Dispatcher) stop(database string, wanted map[place]registry.Proxy) (removed []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for at, r := range d.routes {
		if at.database != database {
			continue
		}
		if p, stays := wanted[at]; !stays || p.PolicyDir != r.at.PolicyDir || p.Admin != r.at.Admin {
			r.stop()
			delete(d.routes, at)
			if mark := d.markFile(at.database, at.proxy); mark != "" && !stays {
				removed = append(removed, mark)
			}
		}
	}
	return removed
}

// lacks reports whether a route was not offered a generation yet.
func (d *Dispatcher) lacks(r *running, generation int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return r.offered < generation
}

// routeOf is the route to a proxy, nil if there is none.
func (d *Dispatcher) routeOf(at place) *running {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.routes[at]
}

// offer gives the policy of a database to the routes that lack it: at once, or as soon as it can be made, for as long as
// they run.
func (d *Dispatcher) offer(ctx context.Context, db registry.Database, behind []*running) {
	if d.offered(ctx, db, behind) {
		return
	}
	d.group.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-behind[0].done:
				return
			case <-time.After(time.Second):
			}
			if d.offered(ctx, db, behind) {
				return
			}
		}
	})
}

// offered renders the policy of a document, or a later one, and offers it. An earlier one is none: nobody would hear of
// the right one again.
func (d *Dispatcher) offered(ctx context.Context, db registry.Database, behind []*running) bool {
	policy, err := d.Registry.Policy(ctx, db.ID)
	if err == nil && policy.Generation < db.Generation {
		err = fmt.Errorf("generation %d was announced, but the store has %d", db.Generation, policy.Generation)
	}
	if err != nil {
		if ctx.Err() == nil {
			d.Log.Error().Err(err).Str("database", db.Name).Msg("can't generate the policy; trying again")
		}
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range behind {
		r.offered = max(r.offered, policy.Generation)
		r.route.Offer(policy)
	}
	return true
}

// start begins a route. One that can't be is told to the registry, where its status shows it.
//
// Two routes on one directory would be in each other's way, and two that speak for one proxy would contradict each other: a
// route waits for those before it to end.
func (d *Dispatcher) start(ctx context.Context, db registry.Database, p registry.Proxy) *running {
	log := d.Log.With().Str("database", db.Name).Str("proxy", p.Name).Logger()
	report := func(ctx context.Context, r api.Report) error {
		return d.Registry.Acknowledge(ctx, db.ID, p.Name, r)
	}
	admin, err := config.ParseAddress(p.Admin)
	if err == nil {
		err = admin.CheckLocal()
	}
	dir := p.PolicyDir
	if err == nil {
		dir, err = policysync.Below(d.Roots, p.PolicyDir)
	}
	if err != nil {
		log.Error().Err(err).Msg("can't deliver policies to the proxy")
		if err := report(ctx, api.Report{Error: fmt.Sprintf("node %s: %s", d.Node, err), ErrorKind: api.ErrorUndeliverable}); err != nil {
			log.Warn().Err(err).Msg("can't record the proxy's error")
		}
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	r := &running{at: p, stop: stop, done: make(chan struct{}), route: &policysync.Syncer{
		Publisher: &policysync.Publisher{Database: db.ID, Dir: dir, Admin: admin, MarkFile: d.markFile(db.ID, p.Name)},
		Report:    report,
		Log:       log,
	}}
	d.mu.Lock()
	at := place{db.ID, p.Name}
	before := []*running{d.dirs[dir], d.ending[at]}
	d.routes[at], d.ending[at], d.dirs[dir] = r, r, r
	d.mu.Unlock()
	d.group.Go(func() {
		defer d.ended(at, dir, r)
		for _, b := range before {
			if b != nil {
				<-b.done
			}
		}
		if err := r.route.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error().Err(err).Msg("delivery stopped")
		}
	})
	return r
}

// markFile is where the newest generation of a proxy is kept.
func (d *Dispatcher) markFile(database, proxy string) string {
	if d.Marks == "" {
		return ""
	}
	return filepath.Join(d.Marks, database+"."+proxy)
}

// ended is behind a route.
func (d *Dispatcher) ended(at place, dir string, r *running) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ending[at] == r {
		delete(d.ending, at)
	}
	if d.dirs[dir] == r {
		delete(d.dirs, dir)
	}
	close(r.done)
}

// Bounds of the questions that are answered at the same time. Whoever asks one more is told so at once.
const (
	maxDryRuns = 8
	maxReports = 64 // one who asks for the reports of a space has 32 under way
)

// answer answers questions about the node's proxies.
func (d *Dispatcher) answer(ctx context.Context) {
	dryRuns, reports := make(chan struct{}, maxDryRuns), make(chan struct{}, maxReports)
	for ctx.Err() == nil {
		for asked, err := range d.Queries.Questions(ctx) {
			if err != nil {
				d.Log.Warn().Err(err).Msg("can't read a query")
				continue
			}
			r := d.routeOf(place{asked.Database, asked.Proxy})
			if r == nil {
				continue // another node's, or an agent's
			}
			slots := dryRuns
			if asked.Kind == api.AskReport {
				slots = reports
			}
			select {
			case slots <- struct{}{}:
			default:
				d.reply(ctx, asked, proxyquery.Answer{Kind: asked.Kind, Error: "the daemon is busy with other queries; try again"})
				continue
			}
			d.group.Go(func() {
				defer func() { <-slots }()
				said := r.route.Answer(ctx, api.Question{Kind: asked.Kind, Policy: asked.Policy})
				answer := proxyquery.Answer{Kind: said.Kind, Report: said.Report, Error: said.Error}
				if said.Effect != nil {
					answer.Effect = *said.Effect
				}
				d.reply(ctx, asked, answer)
			})
		}
		_ = retry.Sleep(ctx, time.Second) // the loop looks at ctx
	}
}

func (d *Dispatcher) reply(ctx context.Context, asked proxyquery.Asked, answer proxyquery.Answer) {
	if err := d.Queries.Reply(ctx, asked.ID, answer); err != nil && ctx.Err() == nil {
		d.Log.Warn().Err(err).Msg("can't deliver the answer to a query")
	}
}
