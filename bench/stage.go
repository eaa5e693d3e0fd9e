package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"pgmtls-proxy/bench/internal/dummy"
	"pgmtls-proxy/bench/internal/load"
	"pgmtls-proxy/bench/internal/peers"
	"pgmtls-proxy/bench/internal/proc"
	"pgmtls-proxy/internal/testkit/testpki"
)

// scene says in front of what, and how, proxies are started. The zero value is the dummy database and ECDSA.
type scene struct {
	backend  string        // the directory of the database's socket; empty: the dummy's
	server   *testpki.Pair // nil: ECDSA
	rules    int           // 0: 1
	sessions int           // how many at once must be allowed; 0: what a few measurements need
	cores    int           // how many processors the proxy may use; 0: all
}

// proxy is one that runs, or PostgreSQL without one.
type proxy struct {
	name    string
	process *proc.Process // nil: there is none whose use could be read
	target  load.Target
	site    peers.Site
	own     bool // see [peers.Kind]
}

// startAll starts every proxy in the same scene. Who does not come up is left out from here on, with a note; this
// repository's own program has to.
func (b *bench) startAll(ctx context.Context, s scene) ([]*proxy, error) {
	var proxies []*proxy
	var works []peers.Kind
	for _, kind := range b.kinds {
		p, err := b.start(ctx, kind, s)
		if err != nil && (kind.Own || ctx.Err() != nil) {
			return nil, errors.Join(err, stopAll(proxies))
		}
		if err != nil {
			b.note("%s does not come up: %v", kind.Name, err)
			continue
		}
		proxies, works = append(proxies, p), append(works, kind)
	}
	b.kinds = works
	return proxies, nil
}

// stopAll ends processes.
func stopAll(proxies []*proxy) error {
	var errs []error
	for _, p := range proxies {
		if p.process != nil {
			errs = append(errs, p.process.Stop())
		}
	}
	return errors.Join(errs...)
}

// start starts one proxy and returns when it hands sessions on.
func (b *bench) start(ctx context.Context, kind peers.Kind, s scene) (*proxy, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	b.sites++
	site := peers.Site{
		Dir: filepath.Join(b.dir, strconv.Itoa(b.sites)), Port: port, Backend: s.backend, Socket: dummy.SocketName,
		CA: b.ca.PEM(), Server: s.server, Rules: max(s.rules, 1), Sessions: s.sessions, Cores: s.cores, Account: b.account,
	}
	if site.Backend == "" {
		site.Backend = b.dummySocket
	}
	if site.Server == nil {
		site.Server = b.ecdsa
	}
	if site.Sessions == 0 {
		site.Sessions = 200
	}
	if err := os.Mkdir(site.Dir, 0o755); err != nil {
		return nil, err
	}
	process, err := kind.Start(site)
	if err != nil {
		return nil, err
	}
	p := &proxy{name: kind.Name, process: process, site: site, target: b.through(port), own: kind.Own}
	p.target.Direct = kind.Direct
	agreed, err := ready(ctx, process, p.target)
	if err != nil {
		return nil, errors.Join(err, process.Stop())
	}
	b.agreed(kind.Name, agreed)
	return p, nil
}

// through is the way to a database through a proxy at the port.
func (b *bench) through(port int) load.Target {
	return load.Target{
		Network: "tcp", Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), TLS: b.clientTLS(),
		User: peers.User, Database: peers.Database,
	}
}

// agreed keeps what TLS a program has spoken first; with another kind of key it differs in nothing that is shown.
func (b *bench) agreed(name, agreed string) {
	for i := range b.found.Programs {
		if p := &b.found.Programs[i]; p.Name == name && p.TLS == "" {
			p.TLS = agreed
		}
	}
}

// ready opens a session again and again until it works, and says what TLS it had.
func ready(ctx context.Context, process *proc.Process, target load.Target) (agreed string, err error) {
	const patience = 10 * time.Second
	deadline := time.Now().Add(patience)
	for {
		if agreed, err = target.Try(ctx); err == nil {
			return agreed, nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-process.Exited():
			return "", fmt.Errorf("it has ended: %s", process.LogTail())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no session within %s: %w; its log ends with: %s", patience, err, process.LogTail())
		}
	}
}

// freePort asks the kernel for a port of the loopback address that nobody uses right now.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
