package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/atomicfile"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/apiserver"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/dispatch"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/notify"
	"pgmtls-proxy/internal/control/outbox"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/safetext"
)

// daemon is the running program.
type daemon struct {
	config     *config.Control
	log        zerolog.Logger
	store      *store.Store
	registry   *registry.Registry
	trail      *audit.Trail
	outbox     *outbox.Outbox
	hub        *informer.Hub
	access     *access.Access
	server     *apiserver.Server
	dispatcher *dispatch.Dispatcher
	sender     notify.Sender // nil: nobody is told
	own        *tls.Certificate
	public     *acme.Manager // nil: no public authority is configured

	leading atomic.Bool
}

// files that the daemon leaves in its data directory, for commands on the same machine.
const (
	adminTokenFile = "admin.token"
	controlCAFile  = "control-ca.pem"
	clientFile     = "client.yaml"
)

// build opens the store and puts the daemon together. It binds nothing. LinesDropped counts what the log has lost.
func build(ctx context.Context, cfg *config.Control, env environment, log zerolog.Logger, linesDropped func() uint64) (d *daemon, err error) {
	for _, dir := range append([]string{cfg.DataDir}, cfg.PolicyRoots...) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create a directory: %w", err)
		}
	}
	options, err := storeOptions(cfg, log)
	if err != nil {
		return nil, err
	}
	d = &daemon{config: cfg, log: log}
	if d.own, err = keyPair(cfg.TLS.Cert, cfg.TLS.Key); err != nil {
		return nil, fmt.Errorf("API certificate: %w", err)
	}
	if d.sender, err = newSender(cfg.Notify); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	if d.store, err = store.Open(ctx, options); err != nil {
		return nil, err
	}
	opened := d.store
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.Close())
		}
	}()
	ring, err := masterKeys(ctx, cfg, env, d.store, log)
	if err != nil {
		return nil, err
	}
	docs := &docstore.Docs{Store: d.store, Ring: ring}
	d.trail = audit.New(docs, nil)
	d.outbox = outbox.New(outbox.Options{Docs: docs, Audit: d.trail, Log: log.With().Str("part", "outbox").Logger()})
	series := prometheus.NewRegistry()
	series.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	public, err := newPublic(&cfg.ACME, docs, func(tx *store.Tx, e acme.Event) error { return d.registry.RecordPublic(tx, e) }, apiserver.NewACMECounts(series).Count, log.With().Str("part", "acme").Logger())
	if err != nil {
		return nil, err
	}
	d.public = public.Manager
	queries := proxyquery.New(proxyquery.Options{Docs: docs, Log: log.With().Str("part", "proxyquery").Logger()})
	d.registry = registry.New(registry.Options{
		Docs: docs, Audit: d.trail, Outbox: d.outbox, Log: log.With().Str("part", "registry").Logger(), AuditKeep: cfg.AuditKeep, Ask: queries.Reports,
		Public: public,
		Lifetimes: registry.Lifetimes{
			ClientMonths: cfg.ClientCertificates.ValidityMonths, ClientRenewBefore: cfg.ClientCertificates.RenewBefore,
			Server: cfg.ServerCertificates.Validity, ServerRenewBefore: cfg.ServerCertificates.RenewBefore, CRL: cfg.CRLValidity,
		},
	})
	d.hub = informer.New(docs, log.With().Str("part", "informer").Logger())
	if d.access, err = access.Open(ctx, access.Options{Docs: docs, Names: apiNames(cfg)}); err != nil {
		return nil, err
	}
	d.server = apiserver.New(apiserver.Options{
		Registry: d.registry, Hub: d.hub, Audit: d.trail, Queries: queries, Access: d.access, Store: d.store, Log: log.With().Str("part", "api").Logger(), Built: built,
		LogLinesDropped: linesDropped, Node: cfg.Node, PolicyRoots: cfg.PolicyRoots, Leading: d.leading.Load, Metrics: series,
		Rate: float64(cfg.Limits.RequestsPerSecond), Burst: cfg.Limits.Burst,
	})
	d.dispatcher = &dispatch.Dispatcher{Registry: d.registry, Hub: d.hub, Queries: queries, Node: cfg.Node, Roots: cfg.PolicyRoots,
		Marks: filepath.Join(cfg.DataDir, "generations"), Log: log.With().Str("part", "delivery").Logger()}
	return d, nil
}

// storeDir is where the store inside the daemon is.
func storeDir(cfg *config.Control) string { return filepath.Join(cfg.DataDir, "etcd") }

// storeOptions returns the options of the etcd that is configured.
func storeOptions(cfg *config.Control, log zerolog.Logger) (store.Options, error) {
	options := store.Options{
		Endpoints: cfg.Store.Endpoints, Username: cfg.Store.Username, Prefix: cfg.Store.Prefix,
		Log: log.With().Str("part", "etcd").Logger(),
	}
	if len(options.Endpoints) == 0 {
		options.DataDir = storeDir(cfg)
		return options, nil
	}
	var err error
	if options.Password, err = line(cfg.Store.PasswordFile); err != nil {
		return options, fmt.Errorf("password of the store: %w", err)
	}
	pair, err := keyPair(cfg.Store.Cert, cfg.Store.Key)
	if err != nil {
		return options, fmt.Errorf("certificate for the store: %w", err)
	}
	options.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if pair != nil {
		options.TLS.Certificates = []tls.Certificate{*pair}
	}
	if cfg.Store.CA.Path != "" {
		text, err := os.ReadFile(cfg.Store.CA.Path)
		if err != nil {
			return options, fmt.Errorf("authority of the store: %w", err)
		}
		options.TLS.RootCAs = x509.NewCertPool()
		if !options.TLS.RootCAs.AppendCertsFromPEM(safetext.WithoutMark(text)) {
			return options, fmt.Errorf("authority of the store: %s has no certificate in PEM", cfg.Store.CA.Path)
		}
	}
	return options, nil
}

// apiNames are the names of the API's certificate besides those of loopback.
func apiNames(cfg *config.Control) []string {
	names := append([]string{}, cfg.Names...)
	if public, err := url.Parse(cfg.PublicURL); err == nil && public.Hostname() != "" {
		names = append(names, public.Hostname())
	}
	// A host may have a name that no certificate can have; then nobody can ask by it.
	if host, err := os.Hostname(); err == nil && authority.CheckHost(host) == nil {
		names = append(names, host)
	}
	for _, listen := range cfg.Listen {
		if !listen.Addr().IsUnspecified() {
			names = append(names, listen.Addr().String())
		}
	}
	return names
}

// prepare leaves in the data directory what commands on this machine need: a token at the first start, the authority
// of the API's certificate, and the settings that name both. With newToken there is another token at a later start.
func (d *daemon) prepare(ctx context.Context, bound []net.Listener, newToken bool) error {
	dir := d.config.DataDir
	if err := d.registry.ClaimDirs(ctx); err != nil {
		// It concerns these proxies and nobody else; the leader goes on telling it.
		d.log.Error().Err(err).Msg("a policy directory belongs to two proxies; remove one of them")
	}
	made, err := d.access.Tokens.Bootstrap(ctx, filepath.Join(dir, adminTokenFile))
	if err != nil {
		return fmt.Errorf("create the first token: %w", err)
	}
	if made {
		d.log.Info().Str("file", filepath.Join(dir, adminTokenFile)).Msg("created a token of scope all")
	} else if newToken {
		token, err := d.access.Tokens.Recover(ctx, filepath.Join(dir, adminTokenFile))
		if err != nil {
			return fmt.Errorf("create another token: %w", err)
		}
		record := audit.Record{Action: "token.create", Object: token.ID, Detail: map[string]string{"name": token.Name, "scope": string(token.Kind)}}
		if err := d.trail.Note(ctx, audit.System, record); err != nil {
			return fmt.Errorf("record another token: %w", err)
		}
		d.log.Warn().Str("file", filepath.Join(dir, adminTokenFile)).Str("token", token.Name).Msg("created another token of scope all; revoke the lost ones")
	}
	d.server.Announce(d.publicURL(bound))
	if err := atomicfile.Replace(filepath.Join(dir, controlCAFile), []byte(d.access.Control.CertificatePEM()), 0o644); err != nil {
		return fmt.Errorf("write the control CA: %w", err)
	}
	settings := fmt.Sprintf("# written by pgmtls serve at each start\nurl: %q\ntoken_file: %q\n", d.publicURL(bound), adminTokenFile)
	if !d.config.PlainHTTP && d.own == nil {
		settings += fmt.Sprintf("ca: %q\n", controlCAFile)
	}
	return atomicfile.Replace(filepath.Join(dir, clientFile), []byte(settings), 0o644)
}

// publicURL returns where other machines reach the API, as far as the configuration tells; else, where commands on this one do.
func (d *daemon) publicURL(bound []net.Listener) string {
	if d.config.PublicURL != "" {
		return d.config.PublicURL
	}
	for _, socket := range bound {
		address := socket.Addr().(*net.TCPAddr)
		if !address.IP.IsLoopback() && len(d.config.Names) > 0 && !d.config.PlainHTTP {
			return "https://" + net.JoinHostPort(d.config.Names[0], strconv.Itoa(address.Port))
		}
	}
	return d.url(bound[0].Addr())
}

// url is where commands on this machine find the API.
func (d *daemon) url(addr net.Addr) string {
	scheme := "https"
	if d.config.PlainHTTP {
		scheme = "http"
	}
	tcp := addr.(*net.TCPAddr).AddrPort()
	host := tcp.Addr().Unmap().String()
	if tcp.Addr().IsUnspecified() {
		host = "localhost"
	}
	return fmt.Sprintf("%s://%s", scheme, net.JoinHostPort(host, fmt.Sprint(tcp.Port())))
}
