package apiserver

import (
	"net/http"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/registry"
)

func listSpaces(c *call) error {
	names, err := c.server.registry.Spaces(c.ctx())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, append([]string{}, names...))
}

func listAuthorities(c *call) error {
	name, err := c.space()
	if err != nil {
		return err
	}
	asking, err := c.flag("ask")
	if err != nil {
		return err
	}
	list, err := c.server.registry.Authorities(c.ctx(), name)
	if err != nil {
		return err
	}
	var seen registry.Observation
	if asking {
		if seen, err = c.server.registry.Observe(c.ctx(), name); err != nil {
			return err
		}
	}
	shows := make([]api.Authority, len(list))
	for i, authority := range list {
		if shows[i], err = c.showAuthority(authority, seen); err != nil {
			return err
		}
	}
	return c.answer(http.StatusOK, shows)
}

func rotateCA(c *call) error {
	name, err := c.space()
	if err != nil {
		return err
	}
	authority, err := c.server.registry.RotateCA(c.ctx(), c.actor(), name)
	if err != nil {
		return err
	}
	return c.answerAuthority(http.StatusCreated, authority)
}

func importCA(c *call) error {
	name, err := c.space()
	if err != nil {
		return err
	}
	var body api.ImportCA
	if err := c.read(&body); err != nil {
		return err
	}
	authority, err := c.server.registry.ImportCA(c.ctx(), c.actor(), name, registry.ImportedCA{CertificatePEM: []byte(body.Certificate), KeyPEM: []byte(body.PrivateKey)})
	if err != nil {
		return err
	}
	return c.answerAuthority(http.StatusCreated, authority)
}

func retireCA(c *call) error {
	name, err := c.space()
	if err != nil {
		return err
	}
	force, err := c.flag("force")
	if err != nil {
		return err
	}
	id, err := c.authorityID(name)
	if err != nil {
		return err
	}
	authority, err := c.server.registry.RetireCA(c.ctx(), c.actor(), name, id, force)
	if err != nil {
		return err
	}
	return c.answerAuthority(http.StatusOK, authority)
}

// authorityID is the authority of the path.
func (c *call) authorityID(space string) (string, error) {
	id := c.r.PathValue("authority")
	if !pathValue.MatchString(id) {
		return "", notFound("space %s has no certificate authority %s", space, problem.Quote(id))
	}
	return id, nil
}

func getCRL(c *call) error {
	name, err := c.space()
	if err != nil {
		return err
	}
	id, err := c.authorityID(name)
	if err != nil {
		return err
	}
	list, err := c.server.registry.RevocationList(c.ctx(), name, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, api.CRL{CRL: list.PEM, Number: list.Number, Revoked: list.Revoked, NextUpdate: utc(list.NextUpdate)})
}

// space is the space of the path.
func (c *call) space() (string, error) {
	name := c.r.PathValue("space")
	if !pathValue.MatchString(name) {
		return "", notFound("there is no space %s", problem.Quote(name))
	}
	return name, nil
}

func (c *call) answerAuthority(status int, authority registry.Authority) error {
	shows, err := c.showAuthority(authority, registry.Observation{})
	if err != nil {
		return err
	}
	return c.answer(status, shows)
}

// showAuthority shows an authority with its users, as the proxies were observed to see them.
func (c *call) showAuthority(a registry.Authority, seen registry.Observation) (api.Authority, error) {
	shows := api.Authority{ID: a.ID, Space: a.Space, Subject: a.Subject, State: string(a.State), External: a.External,
		Certificate: a.CertificatePEM, Chain: a.ChainPEM, NotBefore: utc(a.NotBefore), NotAfter: utc(a.NotAfter),
		Users: []api.CAUser{}, CreatedAt: utc(a.CreatedAt), UpdatedAt: utc(a.UpdatedAt)}
	if a.State == registry.RetiredCA {
		return shows, nil
	}
	var err error
	if shows.Revoked, err = c.server.registry.CountRevoked(c.ctx(), a); err != nil {
		return api.Authority{}, err
	}
	users, err := c.server.registry.CAUsers(c.ctx(), a.Space, a.ID, seen)
	if err != nil {
		return shows, err
	}
	for _, user := range users {
		shows.Users = append(shows.Users, api.CAUser{Database: user.Database, Server: user.Server, Certificate: user.Certificate.ID,
			Name: user.Certificate.Name, ExpiresAt: utc(user.Certificate.ExpiresAt), LastSeen: utc(user.LastSeen), Sessions: user.Sessions})
	}
	if seen.At.IsZero() {
		return shows, nil
	}
	shows.AsOf = utc(seen.At)
	silent, err := c.server.registry.Silent(c.ctx(), a.Space, seen)
	for _, s := range silent {
		shows.Unanswered = append(shows.Unanswered, api.SilentProxy{Database: s.Database, Proxy: s.Proxy, Error: failure(s.Err).Message})
	}
	return shows, err
}
