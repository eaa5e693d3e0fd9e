// Package standin stands in for many proxies in one process: a thousand real ones would not fit beside what is measured.
//
// Each has what a control plane sees of a proxy, made of the proxy's own packages: it reads, checks and builds its policy
// directory (policy), writes a receipt of each change (session), and answers on an admin address of its own (admin). It
// listens for no clients. And all of them share one watch of the system, since it has no thousand, with the pause that a
// proxy makes after a change.
package standin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/admin"
	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/metrics"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/session"
	"pgmtls-proxy/internal/sockopt"
)

// quiet is how long a directory is left alone after a change, as a proxy does (internal/policy, Watcher).
const quiet = 50 * time.Millisecond

// Place is where one of the proxies finds its policy and is found.
type Place struct {
	Dir    string // the policy directory, which is there
	Socket string // of the admin address
}

// proxy is one of them.
type proxy struct {
	keeper   *policy.Reloader
	sessions *session.Server
	admin    *admin.Server
	socket   string
	asked    atomic.Int64 // when somebody last asked for its status, in Unix nanoseconds
	due      *time.Timer  // a change is to be looked at
}

// Serve plays the proxies until ctx ends. On the socket it tells how far the control plane is: see [Asked].
func Serve(ctx context.Context, places []Place, socket string) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the policy directories: %w", err)
	}
	defer func() { _ = notify.Close() }() // it was only read
	proxies := make(map[string]*proxy, len(places))
	var all serving
	defer all.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, place := range places {
		p, err := newProxy(place)
		if err != nil {
			return err
		}
		if err := notify.Add(place.Dir); err != nil {
			return fmt.Errorf("watch %s: %w", place.Dir, err)
		}
		proxies[place.Dir] = p
	}
	loadAll(ctx, proxies)
	for _, p := range proxies {
		if err := all.serve(p.http(), p.socket); err != nil {
			return err
		}
		all.sweeping.Go(func() { _ = p.sessions.Sweep(ctx) }) // it gives the cause of ctx
	}
	if err := all.serve(&http.Server{Handler: tally(proxies)}, socket); err != nil {
		return err
	}
	follow(ctx, notify, proxies)
	return nil
}

func newProxy(place Place) (*proxy, error) {
	target, err := policy.NewTarget(config.Backend{Network: "unix", Address: "/nonexistent", TLS: config.BackendTLSOff, ConnectTimeout: time.Second}, sockopt.TCP{})
	if err != nil {
		return nil, err
	}
	registry, live := prometheus.NewRegistry(), &policy.Live{}
	log := zerolog.Nop()
	p := &proxy{socket: place.Socket}
	p.sessions = session.New(session.Config{Policy: live, Metrics: metrics.New(registry, metrics.Process{Version: "stand-in"}), Log: log, MaxSessions: 1})
	p.keeper = &policy.Reloader{Dir: place.Dir, Live: live, Builder: policy.Builder{Backend: target, MinVersion: tls.VersionTLS12},
		Log: log, OnApplied: p.sessions.PolicyChanged}
	p.admin = &admin.Server{Policy: live, Sessions: p.sessions, Try: p.keeper.Try, Metrics: registry, Built: buildinfo.Info{Version: "stand-in"}, Started: time.Now(), Log: log}
	p.admin.SetPhase(admin.Serving)
	return p, nil
}

// loadAll has every proxy look at its directory, as at a start. Where there is no policy yet, that takes some patience.
func loadAll(ctx context.Context, proxies map[string]*proxy) {
	var loading sync.WaitGroup
	for _, p := range proxies {
		loading.Go(func() { p.keeper.Load(ctx) })
	}
	loading.Wait()
}

// http is the proxy's admin server, which remembers when it was asked.
func (p *proxy) http() *http.Server {
	server := p.admin.HTTP()
	inner := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		if r.URL.Path == "/status" {
			p.asked.Store(time.Now().UnixNano())
		}
	})
	return server
}

// follow looks at directories when they have changed.
func follow(ctx context.Context, notify *fsnotify.Watcher, proxies map[string]*proxy) {
	var looking sync.WaitGroup
	defer looking.Wait()
	for {
		select {
		case <-ctx.Done():
			for _, p := range proxies {
				if p.due != nil && p.due.Stop() {
					looking.Done()
				}
			}
			return
		case event := <-notify.Events:
			p := proxies[filepath.Dir(event.Name)]
			if p == nil || filepath.Base(event.Name) != "policy.yaml" || event.Has(fsnotify.Remove) {
				continue
			}
			looking.Add(1)
			if p.due == nil {
				p.due = time.AfterFunc(quiet, func() {
					defer looking.Done()
					p.keeper.Load(ctx)
				})
			} else if p.due.Reset(quiet) {
				looking.Done() // the look before was still to come
			}
		case err := <-notify.Errors: // what was missed shows in the results, as a change that nobody applies
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// Asked is how far the control plane is with the proxies.
type Asked struct {
	Proxies int `json:"proxies"`
	Asked   int `json:"asked"` // of them, those whose status was asked for since the moment in question
}

// tally answers GET /?since=TIME with [Asked].
func tally(proxies map[string]*proxy) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		since, err := time.Parse(time.RFC3339Nano, r.URL.Query().Get("since"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer := Asked{Proxies: len(proxies)}
		for _, p := range proxies {
			if p.asked.Load() > since.UnixNano() {
				answer.Asked++
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer) // who is gone is gone
	})
}

// serving are the servers that run.
type serving struct {
	servers  []*http.Server
	answers  sync.WaitGroup
	sweeping sync.WaitGroup
}

func (s *serving) serve(server *http.Server, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for a stand-in: %w", err)
	}
	s.servers = append(s.servers, server)
	s.answers.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the process is of no use any more, and the bench shows what it said
		}
	})
	return nil
}

// close ends the servers and waits for what was started. The context has ended.
func (s *serving) close() {
	for _, server := range s.servers {
		_ = server.Close() // of a listener that is not needed any more
	}
	s.answers.Wait()
	s.sweeping.Wait()
}
