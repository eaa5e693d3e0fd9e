package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/admin"
	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/listener"
	"pgmtls-proxy/internal/metrics"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/relay"
	"pgmtls-proxy/internal/session"
	"pgmtls-proxy/internal/sockopt"
	"pgmtls-proxy/internal/tlsconf"
)

// unfinished is how many connections may be open beyond the sessions, if there are descriptors for them: those that are still
// opening, and those that are being told no.
const unfinished = 1024

// proxy is the running program.
type proxy struct {
	config   *config.Proxy
	shares   shares
	log      zerolog.Logger
	metrics  *metrics.Metrics
	keeper   *policy.Reloader
	sessions *session.Server
	listener *listener.Server
	admin    *admin.Server
	live     *policy.Live

	supervisor *supervisor
	ending     atomic.Bool // a drain has begun
}

// serve runs the proxy until a signal or a successor ends it. Door is the takeover socket's path; empty: none.
func serve(ctx context.Context, cfg *config.Proxy, env environment, door string) error {
	signal.Ignore(syscall.SIGPIPE) // a reader of the log that is gone ends no session
	log, lines := openLog(cfg.Log, env.stderr)
	defer lines.Close(flushLimit)
	target, err := policy.NewTarget(cfg.Backend, socketOptions(cfg.TCP))
	if err != nil {
		return &exit{code: exitUsage, err: err}
	}
	p := build(cfg, target, log)
	p.metrics.ObserveLog(lines.Dropped)
	p.admin.LogLinesDropped = lines.Dropped
	p.supervisor = newSupervisor(env.getenv, p.statusLine, log)
	defer p.supervisor.close()

	sockets, err := openSockets(ctx, cfg, door)
	if err != nil {
		return &exit{code: exitFailure, err: err}
	}
	return p.run(ctx, sockets)
}

func build(cfg *config.Proxy, target *backend.Target, log zerolog.Logger) *proxy {
	files := openFiles()
	shares := share(files, len(cfg.Listen), cfg.Limits.Sessions, cfg.Limits.UnfinishedPerAddress)
	if shares.sessions < cfg.Limits.Sessions {
		log.Warn().Uint64("open_files", files).Int("sessions", shares.sessions).Int("limits.sessions", cfg.Limits.Sessions).
			Msg("the limit on open files allows fewer sessions than limits.sessions; those beyond are refused: raise it (LimitNOFILE, ulimit -n), or lower limits.sessions")
	}
	registry := prometheus.NewRegistry()
	m := metrics.New(registry, metrics.Process{Version: built.Version, SessionsLimit: shares.sessions})
	live := &policy.Live{}
	var p *proxy
	p = &proxy{
		live:    live,
		config:  cfg,
		shares:  shares,
		log:     log,
		metrics: m,
		keeper: &policy.Reloader{
			Dir:         cfg.PolicyDir,
			Live:        live,
			Builder:     policy.Builder{Backend: target, MinVersion: cfg.SSLMinProtocolVersion, Database: cfg.Name},
			Log:         log,
			OnUnchanged: func() { p.reloaded(metrics.ReloadUnchanged) },
			OnRefused:   func(error) { p.reloaded(metrics.ReloadRefused) },
		},
		sessions: session.New(session.Config{
			Policy:                live,
			Metrics:               m,
			Log:                   log,
			Relay:                 relay.NewEngine(),
			ProxyProtocol:         cfg.ProxyProtocol,
			StartupTimeout:        cfg.Limits.StartupTimeout,
			Handshakes:            cfg.Limits.Handshakes,
			MaxSessions:           shares.sessions,
			MaxSessionsPerAddress: cfg.Limits.SessionsPerAddress,
			HandshakesPerSecond:   cfg.Limits.HandshakesPerSecond,
			UnfinishedPerAddress:  shares.unfinishedPerAddress,
			MaxCancels:            shares.cancels,
			MaxOwnCancels:         shares.ownCancels,
			SessionLifetime:       cfg.Limits.SessionLifetime,
			IdleTimeout:           cfg.Limits.IdleTimeout,
			FirstByteTimeout:      cfg.Backend.FirstByteTimeout,
			IdentitySettings:      cfg.Backend.IdentitySettings,
			ForwardAnyCancel:      cfg.CancelRequests == config.CancelAny,
		}),
		listener: &listener.Server{
			Slots: shares.sessions + shares.unfinished,
			TCP:   target.TCP,
			OnAcceptError: func(err error, wait time.Duration) {
				m.AcceptFailed()
				log.Warn().Err(err).Dur("wait_ms", wait).Msg("could not accept a connection")
			},
			OnPanic: func(value any, stack []byte) {
				m.Panicked()
				log.Error().Str("panic", fmt.Sprint(value)).Bytes("stack", stack).Msg("panic while serving a connection; the connection was closed")
			},
		},
		admin: &admin.Server{Policy: live, Metrics: registry, Built: built, Started: time.Now(), Log: log, AnyHost: cfg.AdminPublic, PolicyDir: absolute(cfg.PolicyDir)},
	}
	p.keeper.OnApplied = func(previous, next *policy.Snapshot) {
		p.sessions.PolicyChanged(previous, next) // first: the sweep waits for nothing that tells
		m.PolicyApplied(policyInfo(next))
		p.reloaded(metrics.ReloadApplied)
	}
	p.listener.Handle = p.sessions.Serve
	p.admin.Sessions, p.admin.Try = p.sessions, p.keeper.Try
	return p
}

// absolute returns a path as another process would have to name it.
func absolute(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path // the working directory is gone
}

// reloaded is told of the end of each look at the policy.
func (p *proxy) reloaded(result metrics.ReloadResult) {
	p.metrics.PolicyReloaded(result)
	p.supervisor.reloadEnded()
}

// policyInfo is what the metrics show of a policy.
func policyInfo(s *policy.Snapshot) metrics.PolicyInfo {
	info := metrics.PolicyInfo{Generation: s.Generation, Database: s.Database, Rules: len(s.Rules.Rules()), LoadedAt: s.LoadedAt, LeftOut: len(s.LeftOut)}
	for _, c := range s.Certificates {
		info.Certificates = append(info.Certificates, metrics.CertificateInfo{Role: metrics.RoleServer, Serial: c.Serial(), NotBefore: c.NotBefore(), NotAfter: c.NotAfter()})
	}
	if s.Backend.TLS != nil {
		for _, c := range s.Backend.TLS.Certificates {
			info.Certificates = append(info.Certificates, metrics.CertificateInfo{Role: metrics.RoleBackend, Serial: tlsconf.FormatSerial(c.Leaf.SerialNumber), NotBefore: c.Leaf.NotBefore, NotAfter: c.Leaf.NotAfter})
		}
	}
	for _, ca := range s.Trust.CAs() {
		info.Certificates = append(info.Certificates, metrics.CertificateInfo{Role: metrics.RoleClientCA, Serial: ca.Serial, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter})
	}
	for _, list := range s.Trust.CRLs() {
		info.CRLs = append(info.CRLs, metrics.CRLInfo{ThisUpdate: list.ThisUpdate, NextUpdate: list.NextUpdate})
	}
	return info
}

// started logs what the process does from now on.
func (p *proxy) started(listeners []net.Listener, adminListener net.Listener) {
	addresses := make([]string, len(listeners))
	for i, l := range listeners {
		addresses[i] = l.Addr().String()
	}
	p.log.Info().Str("version", built.Version).Str("host", hostname()).
		Strs("listen", addresses).Stringer("admin", adminListener.Addr()).
		Str("backend", p.config.Backend.Network+":"+p.config.Backend.Address).
		Str("policy_dir", p.config.PolicyDir).
		Int("processors", runtime.GOMAXPROCS(0)).Uint64("open_files", openFiles()).
		Msg("serving")
}

// listenAdmin opens the admin endpoint. A socket file that a killed process has left is replaced, one that
// somebody answers on is not.
func listenAdmin(ctx context.Context, address config.Address) (net.Listener, error) {
	if address.Network == "unix" {
		if err := sockopt.RemoveStale("unix", address.Address); errors.Is(err, sockopt.ErrAnswered) {
			return nil, fmt.Errorf("listen on admin socket %s: %w; stop it, or set another admin address", address.Address, err)
		} else if err != nil {
			return nil, fmt.Errorf("listen on admin socket %s: %w; set another admin address, or move it away", address.Address, err)
		}
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, address.Network, address.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on admin address %s: %w; set another one with admin: in proxy.yaml", address.Address, err)
	}
	return l, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}
