package apiserver

import (
	"net/http"
	"path"
	"strings"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/registry"
)

// enableEnhanced answers as Heroku does: with nothing. Asked again, it changes nothing.
func enableEnhanced(c *call) error {
	if _, err := c.server.registry.EnableEnhanced(c.ctx(), c.actor(), c.db.ID); err != nil {
		return err
	}
	return c.empty()
}

func disableEnhanced(c *call) error {
	if _, err := c.server.registry.DisableEnhanced(c.ctx(), c.actor(), c.db.ID); err != nil {
		return err
	}
	return c.empty()
}

// empty answers 200 without a body.
func (c *call) empty() error {
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func getEnhanced(c *call) error { return c.answerEnhanced(http.StatusOK, c.db) }

func putEnhanced(c *call) error {
	db, err := c.server.registry.EnableEnhanced(c.ctx(), c.actor(), c.db.ID)
	if err != nil {
		return err
	}
	return c.answerEnhanced(http.StatusOK, db)
}

func deleteEnhanced(c *call) error {
	db, err := c.server.registry.DisableEnhanced(c.ctx(), c.actor(), c.db.ID)
	if err != nil {
		return err
	}
	return c.answerEnhanced(http.StatusAccepted, db)
}

func renewEnhanced(c *call) error {
	var body api.Renewal
	if err := c.read(&body); err != nil {
		return err
	}
	if body.Reason != "" && body.Reason != api.KeyCompromise {
		return invalid("reason must be %s, or be left out, not %s", api.KeyCompromise, problem.Quote(body.Reason))
	}
	db, err := c.server.registry.RenewEnhanced(c.ctx(), c.actor(), c.db.ID, body.Reason == api.KeyCompromise)
	if err != nil {
		return err
	}
	return c.answerEnhanced(http.StatusAccepted, db)
}

func uploadEnhanced(c *call) error {
	var body api.UploadedCertificate
	if err := c.read(&body); err != nil {
		return err
	}
	db, err := c.server.registry.UploadEnhanced(c.ctx(), c.actor(), c.db.ID,
		registry.UploadedCertificate{CertificatePEM: []byte(body.Certificate), KeyPEM: []byte(body.PrivateKey), Host: body.Host})
	if err != nil {
		return err
	}
	return c.answerEnhanced(http.StatusOK, db)
}

func (c *call) answerEnhanced(status int, db registry.Database) error {
	is, err := c.server.registry.EnhancedStatus(c.ctx(), db)
	if err != nil {
		return err
	}
	shows := api.EnhancedCertificate{Status: string(is.Status), Host: is.Host, Reason: is.Reason, Detail: is.Detail, HelpURL: is.HelpURL,
		Since: utc(is.Since), NextAttempt: utc(is.Next), Ends: utc(is.NotAfter), Issuer: is.Issuer, Serial: is.Serial, Uploaded: is.Uploaded}
	if is.Status == registry.Enabled {
		shows.URL = api.Connect(api.Place{Host: is.Host, Port: db.Port, Roots: api.RootsBundle}).URL
	}
	return c.answer(status, shows)
}

func listDNSRecords(c *call) error {
	list, err := c.server.registry.EnhancedRecords(c.ctx(), c.db)
	if err != nil {
		return err
	}
	shows := make([]api.DNSRecord, len(list))
	for i, r := range list {
		shows[i] = api.DNSRecord(r)
	}
	return c.answer(http.StatusOK, shows)
}

func getACME(c *call) error {
	is, err := c.server.registry.PublicStatus(c.ctx())
	if err != nil {
		return err
	}
	shows := api.ACME{Authorities: []api.ACMEAuthority{}, Zone: is.Zone, Waiting: is.Waiting.Count, OldestWait: utc(is.Waiting.Since)}
	for _, a := range is.Authorities {
		shows.Authorities = append(shows.Authorities, showACMEAuthority(a))
	}
	return c.answer(http.StatusOK, shows)
}

func rollOverACME(c *call) error {
	name := c.r.PathValue("authority")
	if !pathValue.MatchString(name) {
		return notFound("there is no public authority %s", problem.Quote(name))
	}
	a, err := c.server.registry.RollOver(c.ctx(), c.actor(), name)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, showACMEAuthority(a))
}

func showACMEAuthority(a registry.PublicAuthority) api.ACMEAuthority {
	shows := api.ACMEAuthority{Name: a.Name, Directory: a.Directory, Account: a.Account, Problem: a.Problem, Reason: string(a.Reason),
		Detail: a.Detail, AwaySince: utc(a.AwaySince), NextAttempt: utc(a.ClosedUntil)}
	if a.Problem != "" {
		shows.NextAttempt = utc(a.Retry)
	}
	if a.OrdersLeft >= 0 {
		shows.OrdersLeft = &a.OrdersLeft
	}
	return shows
}

// place is where clients of the database connect to, as the query asks for it.
func (c *call) place() (place api.Place, public bool, err error) {
	query := c.r.URL.Query()
	place = api.Place{Host: c.db.Hosts[0], Port: c.db.Port, User: query.Get("user"), DBName: query.Get("dbname"), SSLMode: query.Get("sslmode")}
	for name, value := range map[string]string{"user": place.User, "dbname": place.DBName} {
		// NAMEDATALEN - 1 of PostgreSQL.
		if len(value) > 63 || strings.ContainsRune(value, 0) {
			return place, false, invalid("%s is not a valid PostgreSQL name: it has more than 63 bytes, or a zero byte", name)
		}
	}
	if place.SSLMode != "" && place.SSLMode != api.SSLRequire && place.SSLMode != api.SSLVerifyFull {
		return place, false, invalid("sslmode must be %s or %s, not %s", api.SSLRequire, api.SSLVerifyFull, problem.Quote(place.SSLMode))
	}
	public = c.db.Enhanced != nil && c.db.Enhanced.Status == registry.Enabled
	if public {
		place.Host = c.db.Enhanced.Host
	}
	place.Roots, err = roots(query.Get("roots"), public)
	if place.SSLMode == api.SSLRequire {
		place.Roots = "" // with roots, libpq would verify after all
	}
	return place, public, err
}

// roots reads the query's parameter of that name. By default, the URL of a public name names the bundle of the system.
func roots(text string, public bool) (string, error) {
	switch {
	case text == "" && public:
		return api.RootsBundle, nil
	case text == "", text == "none":
		return "", nil
	case (text == "bundle" || text == "system") && !public:
		return "", &api.Error{ID: api.Conflict, Message: "the database has no public certificate that is Enabled, and the system's roots don't verify its private one; enable it (pgmtls enhanced-certificates enable DB --wait), or leave roots out"}
	case text == "bundle":
		return api.RootsBundle, nil
	case text == "system":
		return api.RootsSystem, nil
	case path.IsAbs(text) && len(text) <= 1024 && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return text, nil
	}
	return "", invalid("roots must be bundle, system, none or the absolute path of a file, not %s", problem.Quote(text))
}

func getConnection(c *call) error {
	place, public, err := c.place()
	if err != nil {
		return err
	}
	shows := api.Connect(place)
	shows.Public, shows.ClientCertificate = public, c.db.NeedsClientCertificate()
	if public {
		place.Host, place.Roots = c.db.Hosts[0], ""
		shows.PreviousURL = api.Connect(place).URL
	}
	return c.answer(http.StatusOK, shows)
}

// clientAuth reports whether clients of a database need a certificate.
func clientAuth(db registry.Database) string {
	if db.NeedsClientCertificate() {
		return string(config.ClientAuthRequired)
	}
	return string(config.ClientAuthOff)
}
