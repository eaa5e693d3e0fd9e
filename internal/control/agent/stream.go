package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
	"pgmtls-proxy/internal/control/policyformat"
)

// lineWithin bounds how long a line of the stream may take: a control plane that sends a byte now and then is none.
// Heartbeats come every [api.HeartbeatEvery]; the rest is for a large policy on a slow way.
const lineWithin = 2 * time.Minute

var errSlow = errors.New("timed out waiting for a complete line")

// follow holds a stream open, until ctx ends or the agent is let in no more.
func (a *agent) follow(ctx context.Context) error {
	gap := newReconnects()
	complained := ""
	fresh := true // this process has not got the policy yet
	for {
		s := session{agent: a, complete: fresh, connected: func() {
			if complained != "" {
				a.log.Info().Msg("reconnected to the control plane")
				complained = ""
			}
			gap.Reset()
		}}
		err := a.explained(s.run(ctx))
		fresh = fresh && !s.policy
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errRenewed):
			continue
		case isEnd(err) || a.hasEnded(err):
			if a.withdraw(s.client) {
				continue
			}
			a.log.Error().Err(err).Msg("the control plane rejected this agent; the proxy keeps its current policy")
			return fmt.Errorf("%w: %w; enrol it again: create a token with \"pgmtls agents create %s %s\", and start the agent with it (--token-file, or PGMTLS_ENROLL_TOKEN)",
				ErrRefused, err, a.self.Called, a.self.Proxy)
		}
		if text := err.Error(); text != complained {
			complained = text
			a.log.Warn().Err(err).Msg("not connected to the control plane; the proxy keeps its current policy")
		}
		if err := gap.wait(ctx, err); err != nil {
			return err
		}
	}
}

// isEnd reports whether the control plane knows this agent, or its proxy, no more.
func isEnd(err error) bool {
	refused, ok := errors.AsType[*api.Error](err)
	return ok && (refused.ID == api.Unauthorized || refused.ID == api.NotFound)
}

// hasEnded reports whether an error is about the agent's certificate having ended, or a renewed one not being taken. TLS
// says so before the control plane can.
func (a *agent) hasEnded(err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return isAlert(err) && (a.self.Next != nil || time.Now().After(a.self.inUse().ExpiresAt))
}

// isAlert reports whether the control plane has broken off the handshake.
func isAlert(err error) bool {
	alert, ok := errors.AsType[*net.OpError](err)
	return ok && alert.Op == "remote error"
}

// certificateExpired is the alert about a certificate that has ended or is not valid yet: RFC 8446 section 6.2.
const certificateExpired = tls.AlertError(45)

// explained adds to an error of the handshake what the agent knows of its own certificate.
func (a *agent) explained(err error) error {
	if !isAlert(err) {
		return err
	}
	a.mu.Lock()
	end := a.self.inUse().ExpiresAt
	a.mu.Unlock()
	switch shown := end.UTC().Format(time.RFC3339); {
	case time.Now().After(end):
		return fmt.Errorf("the agent's certificate ended at %s: %w", shown, err)
	case strings.Contains(err.Error(), certificateExpired.Error()):
		return fmt.Errorf("by the control plane's clock the agent's certificate is not valid, and by this machine's it is until %s; set the clock that is wrong: %w", shown, err)
	}
	return err
}

// errRenewed ends a stream because there is another certificate to show.
var errRenewed = errors.New("the certificate was renewed")

// session is one stream.
type session struct {
	agent     *agent
	complete  bool   // the policy is wanted, whichever the agent has had
	connected func() // the stream is there
	policy    bool   // received a policy

	client *apiclient.Client // shows one certificate, which another may have replaced meanwhile
}

// run reads the stream to its end, which is an error.
func (s *session) run(ctx context.Context) error {
	a := s.agent
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slow := time.AfterFunc(a.options.lineWithin, func() { cancel(errSlow) })
	defer slow.Stop()
	var has apiclient.Has
	s.client, has = a.connection(func() { cancel(errRenewed) })
	if s.complete {
		has = apiclient.Has{} // its bytes are needed, to put right what somebody edits
	}
	began := false
	for line, err := range s.client.Stream(ctx, has) {
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return err
		}
		slow.Reset(a.options.lineWithin)
		if !began {
			began = true
			s.begin()
		}
		switch {
		case line.Policy != nil:
			s.policy = a.deliver(*line.Policy) || s.policy
		case line.Question != nil:
			a.startAnswer(ctx, *line.Question)
		}
	}
	return errors.New("the stream ended")
}

// begin is called with the first line: the certificate that was shown works.
func (s *session) begin() {
	a := s.agent
	a.confirm(s.client)
	s.connected()
	a.ready()
	a.route.Repeat() // the control plane may be one that was restored, and not know
}

// connection returns the client that shows the certificate in use, and what the agent has. It keeps what ends the stream.
func (a *agent) connection(cut context.CancelFunc) (*apiclient.Client, apiclient.Has) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut = cut
	return a.client, apiclient.Has{Generation: a.newest.Generation, Digest: a.newest.Digest}
}

// deliver gives a policy to the route, if it is one to deliver.
func (a *agent) deliver(p api.Policy) (taken bool) {
	err := policyformat.Check(p)
	if err == nil && p.Database != a.self.Database {
		err = fmt.Errorf("it belongs to database %s, but this agent serves %s", p.Database, a.self.Database)
	}
	a.mu.Lock()
	had := a.newest
	a.behind = err == nil && p.Generation < had.Generation
	a.rejected = ""
	switch {
	case err != nil:
		a.rejected = "the agent refused a policy from the control plane: " + err.Error()
	case !a.behind:
		a.newest = newest{p.Database, p.Generation, api.Digest(p)}
	}
	now, behind := a.newest, a.behind
	a.mu.Unlock()
	switch {
	case err != nil:
		a.log.Error().Err(err).Msg("the control plane sent an invalid policy; not delivered")
		a.route.Repeat() // the report says so
		return false
	case behind:
		a.log.Error().Int64("generation", p.Generation).Int64("had", had.Generation).Msg("the control plane sent an older policy than before; not delivered")
		a.route.Repeat() // the report says which, and the control plane goes beyond it
		return false
	}
	if now != had {
		if err := a.state.save(newestFile, now); err != nil {
			// A revocation that does not arrive is worse than one that could come back after the next start.
			a.log.Error().Err(err).Msg("the policy is delivered, but its generation can't be saved")
		}
		a.log.Info().Int64("generation", p.Generation).Msg("received a policy")
	}
	a.route.Offer(p)
	return true
}
