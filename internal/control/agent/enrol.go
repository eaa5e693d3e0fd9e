package agent

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/secretfile"
)

// maxTokenFile bounds the file with the token, in bytes.
const maxTokenFile = 4 << 10

// admitted returns who the agent is: whom it was before, or whom a token makes it.
func admitted(ctx context.Context, o Options, kept *state) (identity, error) {
	var self identity
	enrolled, err := kept.load(identityFile, &self)
	if err == nil && enrolled {
		err = self.check(kept)
	}
	if err != nil {
		return self, err
	}
	token, err := o.token(enrolled)
	if err != nil {
		return self, err
	}
	if enrolled && (token == "" || digestOf(token) == self.Token) {
		return self, self.matches(o)
	}
	if token == "" {
		return self, fmt.Errorf("this agent is not enrolled and has no token: create one with \"pgmtls agents create %s PROXY\" and pass it with --token-file or PGMTLS_ENROLL_TOKEN", o.Database)
	}
	fresh, err := enrol(ctx, o, token)
	if err != nil {
		if enrolled && isRefusal(err) { // a token that has ended, left where it was
			o.Log.Warn().Err(err).Msg("the new token can't be used; the agent keeps its previous enrolment")
			return self, self.matches(o)
		}
		return self, err
	}
	if err := kept.save(identityFile, fresh); err != nil {
		return self, fmt.Errorf("%w; the token is used up: correct this, then create another token", err)
	}
	o.Log.Info().Str("agent", fresh.Agent).Str("database", fresh.Database).Str("proxy", fresh.Proxy).Time("certificate_until", fresh.Current.ExpiresAt).Msg("enrolled")
	return fresh, nil
}

// matches refuses to serve another database than the person thinks.
func (i identity) matches(o Options) error {
	if o.Database == i.Database || o.Database == i.Called {
		return nil
	}
	return fmt.Errorf("the agent in %s is enrolled for database %s (named %s at the time), not for %s: give each database's agent its own directory with --state", o.StateDir, i.Database, i.Called, o.Database)
}

// token returns the token to enrol with, empty if there is none.
func (o Options) token(enrolled bool) (string, error) {
	if o.Token != "" || o.TokenFile == "" {
		return strings.TrimSpace(string(safetext.WithoutMark([]byte(o.Token)))), nil
	}
	text, err := secretfile.Read(o.TokenFile, maxTokenFile)
	if errors.Is(err, fs.ErrNotExist) && enrolled {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func digestOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// enrol asks until the control plane has answered.
func enrol(ctx context.Context, o Options, token string) (identity, error) {
	ca, err := o.ca()
	if err != nil {
		return identity{}, err
	}
	client, err := apiclient.New(apiclient.Options{URL: o.Control, CA: ca, Token: token, UserAgent: o.UserAgent})
	if err != nil {
		return identity{}, err
	}
	defer client.CloseIdle()
	key, request, err := newKey()
	if err != nil {
		return identity{}, fmt.Errorf("generate the agent's key: %w", err)
	}
	answer, err := enrolAgain(ctx, o, func() (api.Certified, error) {
		return client.Enroll(ctx, api.Certify{CSR: string(request)})
	})
	if err != nil {
		return identity{}, err
	}
	shown, err := accept(answer, key)
	if err != nil {
		return identity{}, err
	}
	self := identity{
		Agent: answer.Agent, Database: answer.Database, Called: o.Database, Proxy: answer.Proxy, Token: digestOf(token),
		CA: string(ca), ControlCA: answer.ControlCA, Current: shown,
	}
	if isID(o.Database) {
		return self, self.is(o.Database)
	}
	return self, nil
}

// ca returns the CA that the person has given, empty if there is none.
func (o Options) ca() ([]byte, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("the control plane's CA: %w", err)
	}
	return text, nil
}

// isID reports whether a database is called by its id: ids are UUIDs.
func isID(database string) bool {
	return len(database) == 36 && strings.Count(database, "-") == 4 && strings.Trim(database, "0123456789abcdef-") == ""
}

func (i identity) is(database string) error {
	if i.Database != database {
		return fmt.Errorf("the token was for an agent of database %s, not of %s, and is used up: create another", i.Database, database)
	}
	return nil
}

// enrolAgain asks until there is an answer, or none that would be another at the next attempt.
func enrolAgain(ctx context.Context, o Options, ask func() (api.Certified, error)) (api.Certified, error) {
	gap := newReconnects()
	complained := ""
	for {
		answer, err := ask()
		switch {
		case err == nil:
			return answer, nil
		case isRefusal(err):
			return answer, fmt.Errorf("the control plane refused to enrol this agent: %w; a token works once, within an hour: create another with \"pgmtls agents create %s PROXY\"", err, o.Database)
		case isNameless(err):
			return answer, fmt.Errorf("the control plane's certificate is for other names: %w; reach it by one of these, or add this one to names in its pgmtls.yaml (or set public_url), and restart it", err)
		case isDistrust(err):
			return answer, fmt.Errorf("the control plane can't be trusted: %w; pass the CA of its certificate with --ca", err)
		}
		if text := err.Error(); text != complained {
			complained = text
			o.Log.Warn().Err(err).Msg("can't reach the control plane to enrol this agent; trying again")
		}
		if err := gap.wait(ctx, err); err != nil {
			return answer, err
		}
	}
}

// isRefusal reports whether the control plane has said no, for good.
func isRefusal(err error) bool {
	refused, ok := errors.AsType[*api.Error](err)
	if !ok {
		return false
	}
	switch refused.ID {
	case api.RateLimit, api.Internal, api.Unavailable:
		return false
	}
	return true
}

// isNameless reports whether the server's certificate lacks the name by which the server was reached.
func isNameless(err error) bool {
	_, ok := errors.AsType[x509.HostnameError](err)
	return ok
}

// isDistrust reports whether the server's certificate is not one to trust.
func isDistrust(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		_, ok = errors.AsType[x509.UnknownAuthorityError](err)
	}
	return ok
}
