package acme

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

// userAgent is how authorities know the program when they look into a problem.
const userAgent = "pgmtls"

// clientAge is how long the library's client is used. It keeps the directory for as long as it lives.
const clientAge = 6 * time.Hour

// client speaks to one authority. Every error of its methods is a *[Problem], or the context's.
type client struct {
	ca        CA
	transport *transport
	now       func() time.Time

	mu   sync.Mutex
	made time.Time
	acme *acmez.Client
}

func newClient(ca CA, base http.RoundTripper, now func() time.Time) *client {
	return &client{ca: ca, now: now, transport: &transport{base: base, host: hostOf(ca.Directory), now: now}}
}

// current returns the library's client, a new one every few hours.
func (c *client) current() *acmez.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.acme == nil || now.Sub(c.made) > clientAge || now.Before(c.made) {
		c.made = now
		c.acme = &acmez.Client{Directory: c.ca.Directory, UserAgent: userAgent, HTTPClient: &http.Client{
			Transport:     c.transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}, PollTimeout: 1} // it never polls: the order machine does
	}
	return c.acme
}

// do is one call of the library. It gives when the authority wants to be asked again, and an error as a problem.
func (c *client) do(ctx context.Context, f func(context.Context, *acmez.Client, *call) error) (waitTill time.Time, err error) {
	inner, call, end := c.transport.begin(ctx)
	defer end()
	err = f(inner, c.current(), call)
	switch {
	case err == nil:
		return call.waitTill, nil
	case ctx.Err() != nil:
		return time.Time{}, ctx.Err()
	}
	if p, ok := errors.AsType[*Problem](context.Cause(inner)); ok {
		return time.Time{}, p
	}
	return time.Time{}, c.explain(err)
}

// explain turns an error of the library into a problem.
func (c *client) explain(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	document, ok := errors.AsType[acmez.Problem](err)
	if !ok {
		p := newProblem(CAUnavailable, "the authority at %s: %s", c.transport.host, err)
		p.Everybody = true
		return p
	}
	return fromDocument(document)
}

// fromDocument returns what follows from what an authority says is wrong.
func fromDocument(document acmez.Problem) *Problem {
	kind, _ := strings.CutPrefix(document.Type, acmez.ProblemTypeNamespace)
	if kind == "compound" && len(document.Subproblems) > 0 {
		kind, _ = strings.CutPrefix(document.Subproblems[0].Type, acmez.ProblemTypeNamespace)
	}
	detail := document.Detail
	for _, sub := range document.Subproblems {
		detail += "; " + sub.Identifier.Value + ": " + sub.Detail
	}
	p := &Problem{Detail: clean(detail), URL: clean(document.Instance), Spent: true, kind: kind}
	if document.Status == http.StatusNotFound && kind != "accountDoesNotExist" {
		p.Reason = CAUnavailable // it has forgotten what it gave the URL of
		return p
	}
	switch kind {
	case "caa":
		p.Reason = CAAForbids
	case "dns", "unauthorized", "incorrectResponse", "connection", "tls":
		p.Reason = DNSFailed
	case "rejectedIdentifier", "unsupportedIdentifier", "malformed", "badCSR", "badPublicKey", "invalidProfile":
		p.Reason = Rejected
	case "accountDoesNotExist", "externalAccountRequired", "userActionRequired", "invalidContact", "unsupportedContact":
		p.Reason, p.Everybody = AccountProblem, true
	case "rateLimited":
		p.Reason, p.Spent, p.Everybody = RateLimited, false, true
	case "serverInternal", "badNonce":
		p.Reason, p.Spent, p.Everybody = CAUnavailable, false, true
	case "orderNotReady":
		p.Reason, p.Spent = CAUnavailable, false
	default:
		p.Reason = Rejected
	}
	return p
}

// directory returns what the authority says of itself.
func (c *client) directory(ctx context.Context) (meta acmez.DirectoryMeta, err error) {
	_, err = c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) error {
		directory, err := acme.GetDirectory(ctx)
		if directory.Meta != nil {
			meta = *directory.Meta
		}
		return err
	})
	return meta, err
}

// clock returns how far the authority's clock is ahead of ours. It asks, unless it was seen lately that they agree.
func (c *client) clock(ctx context.Context) (ahead time.Duration, err error) {
	if ahead, ok := c.transport.clock(); ok {
		return ahead, nil
	}
	_, err = c.do(ctx, func(ctx context.Context, _ *acmez.Client, _ *call) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.ca.Directory, nil)
		if err != nil {
			return err
		}
		request.Header.Set("User-Agent", userAgent)
		answer, err := c.transport.RoundTrip(request)
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	})
	ahead, _ = c.transport.clock()
	return ahead, err
}

// register makes the account of a key, or finds it. It needs the binding if there is one.
func (c *client) register(ctx context.Context, key crypto.Signer) (url string, err error) {
	account := acmez.Account{PrivateKey: key, TermsOfServiceAgreed: true}
	if c.ca.Contact != "" {
		account.Contact = []string{"mailto:" + c.ca.Contact}
	}
	_, err = c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) error {
		if c.ca.EAB != nil {
			if err := account.SetExternalAccountBinding(ctx, acme, acmez.EAB{KeyID: c.ca.EAB.KeyID, MACKey: c.ca.EAB.MACKey}); err != nil {
				return err
			}
		}
		account, err = acme.NewAccount(ctx, account)
		return err
	})
	if err == nil && account.Location == "" {
		err = c.nonsense("an account without a URL")
	}
	if err == nil && account.Status != "" && account.Status != acmez.StatusValid {
		err = newProblem(AccountProblem, "the account at %s is %s; roll its key over to make a new one", c.transport.host, account.Status)
	}
	if p := (*Problem)(nil); errors.As(err, &p) && p.Spent {
		p.Reason, p.Everybody = AccountProblem, true // whatever it is called, it is the account that is refused
		if p.kind == "externalAccountRequired" {
			p.Detail = clean(p.Detail + "; get a key for external account binding from the authority, and give it in the configuration")
		}
	}
	return account.Location, err
}

// find returns the URL of a key's account, without making one.
func (c *client) find(ctx context.Context, key crypto.Signer) (url string, err error) {
	_, err = c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) error {
		account, err := acme.GetAccount(ctx, acmez.Account{PrivateKey: key})
		url = account.Location
		return err
	})
	if err == nil && url == "" {
		err = c.nonsense("an account without a URL")
	}
	return url, err
}

// rollover has the authority know an account by another key.
func (c *client) rollover(ctx context.Context, account acmez.Account, next crypto.Signer) error {
	_, err := c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) error {
		_, err := acme.AccountKeyRollover(ctx, account, next)
		return err
	})
	return err
}

// newOrder asks for a certificate with the names.
func (c *client) newOrder(ctx context.Context, account acmez.Account, names []string, profile, replaces string) (acmez.Order, error) {
	want := acmez.Order{Profile: profile, Replaces: replaces}
	for _, name := range names {
		want.Identifiers = append(want.Identifiers, acmez.Identifier{Type: "dns", Value: name})
	}
	var order acmez.Order
	_, err := c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) (err error) {
		order, err = acme.NewOrder(ctx, account, want)
		return err
	})
	if err != nil {
		return order, err
	}
	return order, c.checkOrder(order, names)
}

// checkOrder refuses an order that lacks what the next steps need, or is for other names.
func (c *client) checkOrder(order acmez.Order, names []string) error {
	var got []string
	for _, identifier := range order.Identifiers {
		got = append(got, strings.ToLower(identifier.Value))
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(names))
	switch {
	case order.Location == "" || order.Finalize == "" || len(order.Authorizations) == 0:
		return c.nonsense("an order without its URLs")
	case !slices.Equal(got, want):
		return c.nonsense("an order for other names than it was asked for")
	case len(order.Authorizations) > len(names):
		return c.nonsense("an order with more authorizations than names")
	}
	return nil
}

// nonsense is the problem of an answer that says yes and lacks what it must have.
func (c *client) nonsense(what string) *Problem {
	p := newProblem(CAUnavailable, "the authority at %s answers with %s; see that the directory's URL is right", c.transport.host, what)
	p.Everybody = true
	return p
}

// order reads an order, and says when it may be read again.
func (c *client) order(ctx context.Context, account acmez.Account, url string) (order acmez.Order, waitTill time.Time, err error) {
	waitTill, err = c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) (err error) {
		order, err = acme.GetOrder(ctx, account, acmez.Order{Location: url})
		return err
	})
	if err == nil && order.Status == "" {
		err = c.nonsense("an order without a status")
	}
	return order, waitTill, err
}

// authorization reads the authorization of one name.
func (c *client) authorization(ctx context.Context, account acmez.Account, url string) (authz acmez.Authorization, waitTill time.Time, err error) {
	waitTill, err = c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) (err error) {
		authz, err = acme.GetAuthorization(ctx, account, url)
		return err
	})
	if err == nil && (authz.Status == "" || authz.Identifier.Value == "") {
		err = c.nonsense("an authorization without a name or a status")
	}
	return authz, waitTill, err
}

// accept has the authority look at a challenge.
func (c *client) accept(ctx context.Context, account acmez.Account, challenge acmez.Challenge) error {
	_, err := c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) error {
		_, err := acme.InitiateChallenge(ctx, account, challenge)
		return err
	})
	return err
}

// finalize has the authority make the certificate of a request. Whether it has is not told: that it was asked before, and
// that the certificate is not made yet, are no errors. The order tells.
func (c *client) finalize(ctx context.Context, account acmez.Account, order acmez.Order, request []byte) (waitTill time.Time, err error) {
	order.Status = acmez.StatusProcessing // where the answer has none
	return c.do(ctx, func(ctx context.Context, acme *acmez.Client, call *call) error {
		got, err := acme.FinalizeOrder(ctx, account, order, request)
		if got.Status == acmez.StatusProcessing || got.Status == acmez.StatusReady {
			if _, refused := errors.AsType[acmez.Problem](err); !refused && context.Cause(ctx) == nil {
				return nil
			}
		}
		return err
	})
}

// chains downloads a certificate with its chain, and the alternatives to it.
func (c *client) chains(ctx context.Context, account acmez.Account, url string) (chains [][]byte, err error) {
	_, err = c.do(ctx, func(ctx context.Context, acme *acmez.Client, call *call) error {
		directory, err := acme.GetDirectory(ctx)
		if err != nil {
			return err
		}
		call.noARI = directory.RenewalInfo
		found, err := acme.GetCertificateChain(ctx, account, url)
		for _, chain := range found {
			chains = append(chains, chain.ChainPEM)
		}
		return err
	})
	if err == nil && len(chains) == 0 {
		err = c.nonsense("no chain")
	}
	return chains, err
}

// revoke has the authority revoke a certificate whose key is compromised (RFC 5280, section 5.3.1).
func (c *client) revoke(ctx context.Context, account acmez.Account, leaf *x509.Certificate) error {
	_, err := c.do(ctx, func(ctx context.Context, acme *acmez.Client, _ *call) error {
		return acme.RevokeCertificate(ctx, account, leaf, nil, acmez.ReasonKeyCompromise)
	})
	if p, ok := errors.AsType[*Problem](err); ok && p.kind == "alreadyRevoked" {
		return nil
	}
	return err
}

// window asks when a certificate should be renewed (RFC 9773), and when to ask again. The library would repeat the
// question for seconds where the answer is none.
func (c *client) window(ctx context.Context, ari string) (w Window, waitTill time.Time, err error) {
	waitTill, err = c.do(ctx, func(ctx context.Context, acme *acmez.Client, call *call) error {
		directory, err := acme.GetDirectory(ctx)
		if err != nil {
			return err
		}
		if directory.RenewalInfo == "" {
			return errNoRenewalInfo
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(directory.RenewalInfo, "/")+"/"+ari, nil)
		if err != nil {
			return err
		}
		request.Header.Set("User-Agent", userAgent)
		answer, err := c.transport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		w, err = readWindow(answer)
		return err
	})
	return w, waitTill, err
}
