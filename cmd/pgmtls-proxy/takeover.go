package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/listener"
	"pgmtls-proxy/internal/takeover"
)

// sockets are what the process listens on.
type sockets struct {
	listeners   []net.Listener
	admin       net.Listener
	predecessor *takeover.Predecessor // had them before, and serves them until this process does; nil: nobody
	door        string                // where the process waits for its successor; empty: nowhere
}

// openSockets opens them, or takes them from systemd, or from the process behind the door. Addresses that the configuration
// has and the predecessor had not are opened; those that it had and the configuration has not are its own to close.
func openSockets(ctx context.Context, cfg *config.Proxy, door string) (*sockets, error) {
	inherited, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("use the sockets that systemd opened: %w", err)
	}
	s := &sockets{door: door}
	var taken takeover.Sockets
	if door != "" {
		s.predecessor, err = takeover.Take(door)
		switch {
		case err == nil:
			taken = s.predecessor.Sockets
		case !errors.Is(err, takeover.ErrNobody):
			return nil, err
		}
	}
	if s.listeners, err = listener.Listen(ctx, cfg.Listen, inherited, taken.Listeners...); err != nil {
		s.giveUp()
		return nil, err
	}
	if taken.Admin != nil && isAt(taken.Admin, cfg.Admin) {
		s.admin = taken.Admin
		return s, nil
	}
	if s.admin, err = listenAdmin(ctx, cfg.Admin); err != nil {
		closeAll(s.listeners)
		s.giveUp()
		return nil, err
	}
	return s, nil
}

// isAt reports whether an admin listener is where the configuration wants it.
func isAt(l net.Listener, want config.Address) bool {
	at := l.Addr()
	if want.Network == "unix" {
		return at.Network() == "unix" && at.String() == want.Address
	}
	has, err := netip.ParseAddrPort(at.String())
	wanted, wantedErr := netip.ParseAddrPort(want.Address)
	if err != nil || wantedErr != nil || wanted.Port() != 0 && wanted.Port() != has.Port() {
		return false
	}
	// Package net opens 0.0.0.0 as [::], which takes both families.
	return has.Addr() == wanted.Addr() || has.Addr().IsUnspecified() && wanted.Addr().IsUnspecified()
}

// giveUp leaves the predecessor to serve on.
func (s *sockets) giveUp() {
	if s.predecessor != nil {
		s.predecessor.GiveUp()
	}
}

// mayReplace refuses to replace a process that has a policy by one that has none.
func (p *proxy) mayReplace(s *sockets) error {
	if s.predecessor == nil || p.live.Current() != nil {
		return nil
	}
	s.giveUp()
	return fmt.Errorf("no policy can be put in force, so process %d is not replaced and keeps serving: %s", s.predecessor.PID, p.live.Status().Error)
}

// replace ends the predecessor's service, now that this process serves.
func (p *proxy) replace(predecessor *takeover.Predecessor) {
	if predecessor == nil {
		return
	}
	if err := predecessor.Ready(); err != nil {
		p.log.Warn().Err(err).Msg("the replaced process may still be serving; make sure that it ends")
		return
	}
	p.log.Info().Int("predecessor", predecessor.PID).Msg("sockets taken over")
}

// openDoor waits for a successor behind the path, until the door is closed. Without a path there is nothing to wait for.
func (p *proxy) openDoor(parts *parts, s *sockets) (door *takeover.Server, successors <-chan *takeover.Successor, _ error) {
	if s.door == "" {
		return nil, nil, nil
	}
	door, err := takeover.Listen(s.door)
	if err != nil {
		return nil, nil, err
	}
	found := make(chan *takeover.Successor, 1)
	parts.start("takeover", func(context.Context) error {
		successor := door.Serve(takeover.Sockets{Listeners: s.listeners, Admin: s.admin}, func(err error) {
			p.log.Warn().Err(err).Msg("a takeover failed; this process keeps serving")
		})
		if successor != nil {
			found <- successor
		}
		return nil
	})
	return door, found, nil
}

// lastAnswers is how long requests to the admin address have to end behind a takeover.
const lastAnswers = time.Second

// handOver leaves the sockets to the successor. New connections and the admin address are its own from now on.
func (p *proxy) handOver(parts *parts, successor *takeover.Successor, adminHTTP *http.Server) {
	p.log.Info().Int("successor", successor.PID).Msg("a successor took over the sockets and is serving")
	p.listener.CloseListeners()
	parts.start("admin", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, lastAnswers)
		defer cancel()
		return adminHTTP.Shutdown(ctx)
	})
	if err := successor.Release(); err != nil {
		p.log.Warn().Err(err).Msg("could not confirm the takeover to the successor")
	}
}
