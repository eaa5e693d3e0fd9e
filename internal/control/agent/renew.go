package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
	"pgmtls-proxy/internal/retry"
)

const (
	// checkEvery bounds the sleep until a renewal: a clock that is set, or a machine that slept, moves the moment.
	checkEvery     = 10 * time.Minute
	firstRenewGap  = time.Second
	longestRenewal = 10 * time.Minute
)

// renew gets a new certificate whenever that in use says so, until ctx ends. Without a control plane it goes on trying;
// nothing depends on it until the certificate ends.
func (a *agent) renew(ctx context.Context) error {
	gap := retry.Backoff{First: firstRenewGap, Last: longestRenewal, Jitter: true}
	for {
		a.mu.Lock()
		left := time.Until(a.self.inUse().RenewAt)
		a.mu.Unlock()
		pause := min(left, checkEvery)
		if left <= 0 {
			err := a.renewNow(ctx)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			pause = gap.Next()
			if err == nil {
				// Also when the new certificate is not taken: one that makes such certificates is left alone.
				pause = checkEvery
				gap.Reset()
			} else {
				a.log.Warn().Err(err).Msg("can't renew the agent's certificate; trying again")
			}
		}
		if err := retry.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// renewNow makes a key, gets a certificate for it, and has the next connection show it. The one before stays until the
// new one has worked.
func (a *agent) renewNow(ctx context.Context) error {
	a.mu.Lock()
	client, self := a.client, a.self
	a.mu.Unlock()
	key, request, err := newKey()
	if err != nil {
		return fmt.Errorf("generate the agent's key: %w", err)
	}
	answer, err := client.Renew(ctx, api.Certify{CSR: string(request)})
	if err != nil {
		return err
	}
	a.confirm(client)
	next, err := accept(answer, key)
	switch {
	case err != nil:
		return err
	case answer.Agent != self.Agent || answer.Database != self.Database || answer.Proxy != self.Proxy:
		return errors.New("the control plane issued a certificate for another agent")
	case !next.RenewAt.After(time.Now()):
		return errors.New("the control plane issued a certificate that has already expired; check the clocks of both machines")
	}
	if err := a.become(next, answer.ControlCA); err != nil {
		return err
	}
	a.log.Info().Time("certificate_until", next.ExpiresAt).Msg("the agent's certificate was renewed")
	a.mu.Lock()
	reconnect := a.cut
	a.mu.Unlock()
	if reconnect != nil {
		reconnect()
	}
	return nil
}

// confirm drops the certificate before the one in use, if it is that one which has worked, and not the one before.
func (a *agent) confirm(worked *apiclient.Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != worked || a.self.Next == nil {
		return
	}
	a.self.Current, a.self.Next = *a.self.Next, nil
	if err := a.state.save(identityFile, a.self); err != nil {
		a.log.Error().Err(err).Msg("the new certificate works, but the agent's state can't be saved")
	}
}

// withdraw goes back to the certificate before the one in use, if that one was not taken. It reports whether there is
// another to try than the one that was not taken.
func (a *agent) withdraw(refused *apiclient.Client) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != refused {
		return true
	}
	if a.self.Next == nil {
		return false
	}
	a.log.Warn().Msg("the control plane rejected the new certificate; the agent uses the previous one")
	a.self.Next = nil
	client, err := a.self.client(a.options)
	if err == nil {
		a.client.CloseIdle()
		a.client = client
		err = a.state.save(identityFile, a.self)
	}
	if err != nil {
		a.log.Error().Err(err).Msg("can't return to the previous certificate")
	}
	return true
}

// become keeps a renewed certificate, and makes a client that shows it. It is kept before it is shown: once it was used,
// the one before is good for nothing.
func (a *agent) become(next certificate, controlCA string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	self := a.self
	self.Next, self.ControlCA = &next, controlCA
	client, err := self.client(a.options)
	if err != nil {
		return err
	}
	if err := a.state.save(identityFile, self); err != nil {
		return err
	}
	a.client.CloseIdle()
	a.self, a.client = self, client
	return nil
}
