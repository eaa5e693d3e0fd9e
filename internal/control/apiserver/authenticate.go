package apiserver

import (
	"net/http"
	"strings"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
)

// authenticate finds out who asks: whoever shows a token, as Bearer or as the password of Basic, is
// its holder, also where there is a client certificate; else the agent whose certificate it is.
func (c *call) authenticate() (access.Caller, error) {
	shows := c.r.Header.Values("Authorization")
	switch {
	case len(shows) > 1:
		return access.Caller{}, unauthorized("there is more than one Authorization header")
	case len(shows) == 1:
		token, err := credential(c.r)
		if err != nil {
			return access.Caller{}, err
		}
		return c.server.access.Tokens.Check(c.ctx(), token)
	case c.r.TLS != nil && len(c.r.TLS.VerifiedChains) > 0:
		return c.server.access.Agents.Check(c.ctx(), c.r.TLS.VerifiedChains[0][0])
	}
	return access.Caller{}, unauthorized("a token is required: send it as Authorization: Bearer, or as the password of HTTP Basic")
}

// credential reads the one Authorization header.
func credential(r *http.Request) (token string, err error) {
	if user, password, ok := r.BasicAuth(); ok {
		// The token says who asks. A user comes with it where a program insists on one, as .netrc does.
		if password == "" && user != "" {
			return "", unauthorized("HTTP Basic has no password; send the token as the password, with any user")
		}
		return password, nil
	}
	scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return "", unauthorized("the Authorization header is neither Bearer nor Basic")
	}
	return strings.TrimSpace(token), nil
}

func unauthorized(message string) error {
	return &api.Error{ID: api.Unauthorized, Message: message}
}
