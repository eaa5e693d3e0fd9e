package acme

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"pgmtls-proxy/internal/control/store"
)

const (
	// seenWithin is how long the public name servers may take to have a record. After that the authority looks anyway:
	// it decides, and sees other servers than we do.
	seenWithin = 2 * time.Minute
	seenEvery  = time.Second
	// pollEvery is how often an authority is asked that does not say how often it wants to be.
	pollEvery = 500 * time.Millisecond
)

// advanceOrder does the next step of an order.
func (m *Manager) advanceOrder(ctx context.Context, j *job, cert *Certificate, o *order, now time.Time) (outcome, error) {
	if o.Phase == phaseCleaning {
		return m.clean(ctx, j, cert, o, now)
	}
	a := m.authority(o.CA)
	switch {
	case a == nil:
		return m.abandon(ctx, cert, o, "its certificate authority is not configured any more")
	case !cert.RemovedAt.IsZero():
		return m.abandon(ctx, cert, o, "nobody wants the certificate any more")
	case !slices.Equal(o.Names, cert.Names):
		return m.abandon(ctx, cert, o, "the certificate is wanted for other names")
	case now.Sub(o.StartedAt) > orderLife && o.Phase != phaseMade || now.Before(o.StartedAt.Add(-maxSkew)):
		return m.abandon(ctx, cert, o, "it took too long")
	case now.Before(cert.NotBefore):
		return at(cert.NotBefore), nil
	}
	switch o.Phase {
	case phasePresenting:
		return m.present(ctx, a, cert, o)
	case phasePresented:
		return m.seen(ctx, a, cert, o, now)
	}
	until, ok := a.budget.enter()
	if !ok {
		return at(until), nil
	}
	next, err := m.queryAuthority(ctx, a, j, cert, o)
	if err := a.budget.leave(ctx, err); err != nil {
		return outcome{}, err
	}
	if err != nil {
		return m.failOrder(ctx, a, cert, o, err)
	}
	return next, nil
}

// queryAuthority does a step that asks the authority something.
func (m *Manager) queryAuthority(ctx context.Context, a *authority, j *job, cert *Certificate, o *order) (outcome, error) {
	account, err := m.ours(ctx, a, o)
	if err != nil {
		return outcome{}, err
	}
	switch o.Phase {
	case phaseNew:
		return m.newOrder(ctx, a, account, cert, o)
	case phaseOrdered:
		return m.readChallenges(ctx, a, account, cert, o)
	case phaseSeen:
		return m.validate(ctx, a, account, j, cert, o)
	case phaseAuthorized:
		return m.finalize(ctx, a, account, cert, o)
	case phaseMade:
		return m.download(ctx, a, account, cert, o)
	}
	return outcome{}, fmt.Errorf("order of certificate %s is in the phase %q, which this version does not know", cert.ID, o.Phase)
}

// failOrder returns what follows from a problem of an order.
func (m *Manager) failOrder(ctx context.Context, a *authority, cert *Certificate, o *order, err error) (outcome, error) {
	p, ok := errors.AsType[*Problem](err)
	switch {
	case ok && p.kind == "alreadyReplaced" && o.Replaces != "":
		// Another order has replaced the leaf, perhaps in a past that was restored over.
		o.Replaces, cert.NoReplace, cert.UpdatedAt = "", true, m.now()
		return m.commit(ctx, new(store.Tx), cert, o, nil)
	case ok && p.kind == "accountDoesNotExist":
		if err := m.forgetAccount(ctx, a, o.Account); err != nil {
			return outcome{}, err
		}
	}
	return m.fail(ctx, a, cert, o, err)
}

// commit writes a step, and has the next one done.
func (m *Manager) commit(ctx context.Context, tx *store.Tx, cert *Certificate, o *order, event *Event) (outcome, error) {
	if err := m.addOrder(tx, cert, o, event); err != nil {
		return outcome{}, err
	}
	_, err := m.docs.Commit(ctx, tx)
	if err == nil && event != nil {
		m.count(*event)
	}
	return goOn, err
}

// count has an event counted that was committed.
func (m *Manager) count(e Event) {
	if m.options.Count != nil {
		m.options.Count(e)
	}
}

func (m *Manager) newOrder(ctx context.Context, a *authority, account acmez.Account, cert *Certificate, o *order) (outcome, error) {
	made, err := a.client.newOrder(ctx, account, o.Names, o.Profile, o.Replaces)
	if p := (*Problem)(nil); errors.As(err, &p) && p.kind == "unauthorized" {
		p.Reason = AccountProblem // nothing has been proved yet that could be wrong
	}
	if err != nil {
		return outcome{}, err
	}
	o.Phase, o.URL, o.Finalize, o.Authorizations = phaseOrdered, made.Location, made.Finalize, made.Authorizations
	return m.commit(ctx, new(store.Tx), cert, o, nil)
}

// readChallenges writes down which records are to be made.
func (m *Manager) readChallenges(ctx context.Context, a *authority, account acmez.Account, cert *Certificate, o *order) (outcome, error) {
	o.Records = nil
	for _, url := range o.Authorizations {
		authz, _, err := a.client.authorization(ctx, account, url)
		if err != nil {
			return outcome{}, err
		}
		challenge, err := m.challenge(a, authz, o)
		if err != nil {
			return outcome{}, err
		}
		if authz.Status == acmez.StatusValid || m.method != methodDNS {
			continue
		}
		record := TXT{Name: challengeName(authz.Identifier.Value), Value: challenge.DNS01KeyAuthorization()}
		// The record may be delegated to another zone, which is the one that can be changed.
		if _, record.Name, err = m.options.Resolver.texts(ctx, record.Name); err != nil {
			return outcome{}, err
		}
		o.Records = append(o.Records, record)
	}
	o.Phase = phasePresenting
	cert.progress(Validating, m.now())
	return m.commit(ctx, new(store.Tx), cert, o, nil)
}

// challenge finds the challenge of an authorization that we answer.
func (m *Manager) challenge(a *authority, authz acmez.Authorization, o *order) (acmez.Challenge, error) {
	if !slices.ContainsFunc(o.Names, func(name string) bool {
		return strings.TrimPrefix(name, "*.") == strings.ToLower(strings.TrimPrefix(authz.Identifier.Value, "*."))
	}) {
		return acmez.Challenge{}, a.client.nonsense("an authorization for a name that was not ordered")
	}
	switch authz.Status {
	case acmez.StatusValid:
		return acmez.Challenge{}, nil
	case acmez.StatusPending:
	default:
		p := newProblem(DNSFailed, "the authorization of %s is %s", authz.Identifier.Value, authz.Status)
		for _, challenge := range authz.Challenges {
			if challenge.Error != nil {
				p = fromDocument(*challenge.Error)
			}
		}
		p.Spent = true
		return acmez.Challenge{}, p
	}
	i := slices.IndexFunc(authz.Challenges, func(c acmez.Challenge) bool { return c.Type == m.method })
	if i < 0 {
		p := newProblem(Rejected, "the authority %s offers no challenge %s for %s; choose another way to prove names", a.Name, m.method, authz.Identifier.Value)
		p.Spent = true
		return acmez.Challenge{}, p
	}
	challenge := authz.Challenges[i]
	if challenge.URL == "" || m.method == methodDNS && challenge.KeyAuthorization == "" {
		return acmez.Challenge{}, a.client.nonsense("a challenge without a URL or a token")
	}
	return challenge, nil
}

// present makes the records.
func (m *Manager) present(ctx context.Context, a *authority, cert *Certificate, o *order) (outcome, error) {
	for _, record := range o.Records {
		if err := m.solve(ctx, m.options.Solver.Present, record); err != nil {
			return m.failOrder(ctx, a, cert, o, err)
		}
	}
	o.Phase, o.PresentedAt = phasePresented, m.now()
	return m.commit(ctx, new(store.Tx), cert, o, nil)
}

// solve calls the solver, within its time. What fails is a problem that another try may get over.
func (m *Manager) solve(ctx context.Context, f func(context.Context, TXT) error, record TXT) error {
	bound, cancel := context.WithTimeout(ctx, solveTimeout)
	defer cancel()
	err := f(bound, record)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case bound.Err() != nil:
		return newProblem(DNSFailed, "the change of %s did not end within %s", record.Name, solveTimeout)
	}
	return newProblem(DNSFailed, "%s", err)
}

// seen waits until the public servers have the records.
func (m *Manager) seen(ctx context.Context, a *authority, cert *Certificate, o *order, now time.Time) (outcome, error) {
	for _, record := range o.Records {
		if now.Sub(o.PresentedAt) > seenWithin {
			break
		}
		there, err := m.isSeen(ctx, record)
		if ctx.Err() != nil {
			return outcome{}, ctx.Err()
		}
		if err != nil {
			m.log.Debug().Err(err).Str("certificate", cert.ID).Msg("the challenge's record can't be looked up")
		}
		if !there {
			return at(now.Add(seenEvery)), nil
		}
	}
	o.Phase = phaseSeen
	return m.commit(ctx, new(store.Tx), cert, o, nil)
}

// isSeen reports whether each server has the record.
func (m *Manager) isSeen(ctx context.Context, record TXT) (bool, error) {
	servers := m.options.Check
	if len(servers) == 0 {
		var err error
		if servers, err = m.options.Resolver.authoritative(ctx, record.Name); err != nil {
			return false, err
		}
	}
	for _, server := range servers {
		values, _, err := Resolver{Servers: []string{server}}.texts(ctx, record.Name)
		if err != nil || !slices.Contains(values, record.Value) {
			return false, err
		}
	}
	return true, nil
}

// validate has the authority look at every record, and waits until it has.
func (m *Manager) validate(ctx context.Context, a *authority, account acmez.Account, j *job, cert *Certificate, o *order) (outcome, error) {
	var wait time.Time
	for _, url := range o.Authorizations {
		authz, waitTill, err := a.client.authorization(ctx, account, url)
		if err != nil {
			return outcome{}, err
		}
		challenge, err := m.challenge(a, authz, o)
		if err != nil {
			return outcome{}, err
		}
		if authz.Status == acmez.StatusValid {
			continue
		}
		if challenge.Status == acmez.StatusPending && !j.accepted[challenge.URL] {
			err := a.client.accept(ctx, account, challenge)
			if p, ok := errors.AsType[*Problem](err); ok && p.kind == "malformed" {
				// It was told before, and the answer was lost, or another leader told it. What has become of it stands in
				// the authorization.
				m.log.Debug().Err(err).Str("certificate", cert.ID).Msg("the challenge was answered before")
			} else if err != nil {
				return outcome{}, err
			}
			if j.accepted == nil {
				j.accepted = map[string]bool{}
			}
			j.accepted[challenge.URL] = true
		}
		wait = later(later(wait, waitTill), m.now().Add(pollEvery))
	}
	if !wait.IsZero() {
		return at(wait), nil
	}
	o.Phase = phaseAuthorized
	cert.progress(Issuing, m.now())
	return m.commit(ctx, new(store.Tx), cert, o, nil)
}

// finalize has the certificate made, and waits until it is.
func (m *Manager) finalize(ctx context.Context, a *authority, account acmez.Account, cert *Certificate, o *order) (outcome, error) {
	is, waitTill, err := a.client.order(ctx, account, o.URL)
	if err != nil {
		return outcome{}, err
	}
	switch is.Status {
	case acmez.StatusReady:
		request, err := m.request(ctx, cert, o)
		if err != nil {
			return outcome{}, err
		}
		waitTill, err = a.client.finalize(ctx, account, acmez.Order{Location: o.URL, Finalize: o.Finalize}, request)
		if err != nil {
			return outcome{}, err
		}
	case acmez.StatusValid:
		if is.Certificate == "" {
			return outcome{}, a.client.nonsense("a certificate without a URL")
		}
		o.Phase, o.Certificate = phaseMade, is.Certificate
		return m.commit(ctx, new(store.Tx), cert, o, nil)
	case acmez.StatusInvalid:
		p := newProblem(Rejected, "the authority %s has given the order up", a.Name)
		if is.Error != nil {
			p = fromDocument(*is.Error)
		}
		p.Spent = true
		return outcome{}, p
	}
	return at(later(waitTill, m.now().Add(pollEvery))), nil
}

// request is the certificate request of an order, by its key.
func (m *Manager) request(ctx context.Context, cert *Certificate, o *order) ([]byte, error) {
	key, _, err := m.sealedKey(ctx, keyOrderKeys+cert.ID)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: o.Names}, key)
}

// clean removes the records of an order that is over, and then the order.
func (m *Manager) clean(ctx context.Context, j *job, cert *Certificate, o *order, now time.Time) (outcome, error) {
	for _, record := range o.Records {
		if m.options.Solver == nil {
			break // there is none any more that could
		}
		if err := m.solve(ctx, m.options.Solver.Remove, record); err != nil {
			if ctx.Err() != nil {
				return outcome{}, ctx.Err()
			}
			j.uncleaned++
			wait := min(backoff(j.uncleaned), time.Hour)
			m.log.Warn().Err(err).Str("certificate", cert.ID).Str("record", record.Name).Time("next_attempt", now.Add(wait)).Msg("the challenge's record could not be removed")
			return at(now.Add(wait)), nil
		}
	}
	j.uncleaned, j.accepted = 0, nil
	tx := new(store.Tx).If(keyOrders+cert.ID, o.revision).Delete(keyOrders + cert.ID).Delete(keyOrderKeys + cert.ID)
	_, err := m.docs.Commit(ctx, tx)
	return goOn, err
}
