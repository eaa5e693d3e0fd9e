package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/connlimit"
	"pgmtls-proxy/internal/control/leader"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/sdnotify"
)

// stopWithin bounds how long the daemon waits for requests when it is told to stop.
const stopWithin = 10 * time.Second

// sweepEvery is how often tokens that ended long ago are forgotten.
const sweepEvery = time.Hour

// startOptions are what the command line asks of one start.
type startOptions struct {
	newToken bool // make another token for everything
	newStore bool // begin with an empty store where there was one
}

// serve runs the daemon until a signal ends it.
func serve(ctx context.Context, cfg *config.Control, env environment, options startOptions) error {
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if !options.newStore {
		if err := checkStoreIsThere(cfg); err != nil {
			return err
		}
	}
	signal.Ignore(syscall.SIGPIPE) // a reader of the log that is gone does not end the daemon
	log, lines := openLog(cfg.Log, env.stderr)
	defer lines.Close(flushLimit)
	supervisor := newSupervisor(env.getenv, log)
	defer supervisor.Close(flushLimit)
	d, err := build(ctx, cfg, env, log, lines.Dropped)
	if err != nil {
		return err
	}
	sockets, err := listen(ctx, cfg)
	if err == nil {
		err = d.prepare(ctx, sockets, options.newToken)
	}
	if err == nil {
		err = d.run(ctx, supervisor, sockets)
	}
	for _, socket := range sockets {
		socket.Close() // what was served is closed already
	}
	return errors.Join(err, d.store.Close())
}

// listen binds all addresses, or none.
func listen(ctx context.Context, cfg *config.Control) (sockets []net.Listener, err error) {
	for _, address := range cfg.Listen {
		socket, listenErr := (&net.ListenConfig{}).Listen(ctx, "tcp", address.String())
		if listenErr != nil {
			err = errors.Join(err, fmt.Errorf("listen: %w", listenErr))
			continue
		}
		sockets = append(sockets, socket)
	}
	return sockets, err
}

// run serves on the sockets, delivers, and leads if it is elected, until ctx ends or a part fails.
func (d *daemon) run(ctx context.Context, supervisor *sdnotify.Notifier, sockets []net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return ended(d.hub.Run(ctx)) })
	group.Go(func() error { return ended(d.dispatcher.Run(ctx)) })
	group.Go(func() error { d.server.Run(ctx); return nil })
	group.Go(func() error {
		select {
		case <-d.store.Failed():
			return d.store.Err()
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		return ended(d.store.Lead(ctx, store.Election{Name: "renewals", Node: d.config.Node}, d.lead))
	})
	web := d.server.HTTP()
	web.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateActive {
			connlimit.Begun(conn)
		}
	}
	files := openFiles()
	limits := connections(files, len(sockets))
	if limits.Open < maxConns {
		d.log.Warn().Uint64("open_files", files).Int("connections", limits.Open).Int("wanted", maxConns).
			Msg("the limit on open files allows fewer connections to the API; raise it (LimitNOFILE of systemd, ulimit -n)")
	}
	for _, socket := range sockets {
		address := socket.Addr()
		socket = connlimit.NewLimited(socket, limits)
		if !d.config.PlainHTTP {
			socket = tls.NewListener(socket, d.access.Control.TLSConfig(d.ownCertificate()))
		}
		d.log.Info().Str("url", d.url(address)).Str("node", d.config.Node).Msg("serving")
		group.Go(func() error {
			if err := web.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		supervisor.Send(systemd.SdNotifyStopping)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		if err := web.Shutdown(grace); err != nil {
			return web.Close()
		}
		return nil
	})
	supervisor.Send(systemd.SdNotifyReady)
	err := group.Wait()
	d.log.Info().Msg("stopped")
	return err
}

// ended drops the error of a part that ended because it was told to.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// ownCertificate returns the operator's certificate for TLS, nil when the control CA issues one.
func (d *daemon) ownCertificate() func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if d.own == nil {
		return nil
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return d.own, nil }
}

// lead is what one daemon of all does.
func (d *daemon) lead(ctx context.Context) error {
	d.leading.Store(true)
	defer d.leading.Store(false)
	d.log.Info().Msg("elected leader; running renewals")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return leader.Loop{Registry: d.registry, Hub: d.hub, Log: d.log.With().Str("part", "leader").Logger()}.Run(ctx)
	})
	group.Go(func() error { return d.outbox.Run(ctx, d.notify) })
	group.Go(func() error { return d.outbox.WatchSpace(ctx) })
	group.Go(func() error { return d.sweep(ctx) })
	group.Go(func() error { return d.runPublic(ctx) })
	group.Go(func() error { return d.registry.FollowPublic(ctx) })
	return ended(group.Wait())
}

// sweep forgets tokens that ended long ago.
func (d *daemon) sweep(ctx context.Context) error {
	for {
		if _, err := d.access.Tokens.Sweep(ctx); err != nil && ctx.Err() == nil {
			d.log.Warn().Err(err).Msg("could not delete expired tokens")
		}
		if retry.Sleep(ctx, sweepEvery) != nil {
			return ctx.Err()
		}
	}
}

// newSupervisor tells the supervisor, if there is one, how the process is (sd_notify(3)).
func newSupervisor(getenv func(string) string, log zerolog.Logger) *sdnotify.Notifier {
	return sdnotify.New(getenv, func(err error) {
		log.Warn().Err(err).Msg("could not notify the service manager")
	})
}
