package apiserver

import (
	"net/http"
	"slices"
	"time"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/registry"
)

func listCertificates(c *call) error {
	certificates := make([]api.Certificate, len(c.db.Certificates))
	for i, certificate := range c.db.Certificates {
		certificates[i] = showCertificate(certificate)
	}
	return c.answer(http.StatusOK, certificates)
}

func createCertificate(c *call) error {
	var body api.NewCertificate
	if err := c.read(&body); err != nil {
		return err
	}
	certificate, err := c.server.registry.CreateCertificate(c.ctx(), c.actor(), c.db.ID, registry.NewCertificate{Name: body.Name, Request: []byte(body.CSR)})
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, showCertificate(certificate))
}

// getCertificate answers with a certificate, with its key to those who may have the key, and without it to others.
func getCertificate(c *call) error {
	certificate, err := c.certificate()
	if err != nil {
		return err
	}
	files, err := c.server.registry.CertificateFiles(c.ctx(), c.db.ID, certificate.ID)
	if err != nil {
		return err
	}
	shows := showCertificate(certificate)
	shows.CertificateWithChain = files.CertificatePEM
	if c.caller.May(access.ReadKeys, c.db.ID) == nil {
		if err := c.keyRead(certificate, files); err != nil {
			return err
		}
		shows.PrivateKey = files.KeyPEM
	}
	return c.answer(http.StatusOK, shows)
}

// keyRead records that the private key of a certificate is given to the caller, if there is one.
func (c *call) keyRead(certificate registry.Certificate, files registry.CertificateFiles) error {
	if files.KeyPEM == "" {
		return nil
	}
	return c.auditFirst(audit.Record{Action: "certificate.key_read", Database: c.db.ID, Space: c.db.Space, Object: certificate.ID,
		Detail: map[string]string{"name": certificate.Name, "serial": certificate.Serial}})
}

func getCertificateFiles(c *call) error {
	certificate, err := c.certificate()
	if err != nil {
		return err
	}
	files, err := c.server.registry.CertificateFiles(c.ctx(), c.db.ID, certificate.ID)
	if err != nil {
		return err
	}
	if err := c.keyRead(certificate, files); err != nil {
		return err
	}
	return c.answer(http.StatusOK, api.CertificateFiles{CertificateWithChain: files.CertificatePEM, PrivateKey: files.KeyPEM, Root: files.RootsPEM})
}

// deleteCertificate answers 202 when the proxies are at it, and 200 when it is only planned.
func deleteCertificate(c *call) error {
	var after time.Duration
	if text := c.r.URL.Query().Get("after"); text != "" || c.r.URL.Query().Has("after") {
		var err error
		if after, err = time.ParseDuration(text); err != nil || after < 0 {
			return invalid("after must be a duration such as 90m or 24h, not %s", problem.Quote(text))
		}
	}
	certificate, err := c.server.registry.DeleteCertificate(c.ctx(), c.actor(), c.db.ID, c.r.PathValue("certificate"), after)
	if err != nil {
		return err
	}
	if certificate.Usable() {
		return c.answer(http.StatusOK, showCertificate(certificate))
	}
	return c.answer(http.StatusAccepted, showCertificate(certificate))
}

func keepCertificate(c *call) error {
	certificate, err := c.server.registry.KeepCertificate(c.ctx(), c.actor(), c.db.ID, c.r.PathValue("certificate"))
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, showCertificate(certificate))
}

// certificate is the certificate of the path, unless it is disabled: then it is only in the list.
func (c *call) certificate() (registry.Certificate, error) {
	id := c.r.PathValue("certificate")
	i := slices.IndexFunc(c.db.Certificates, func(other registry.Certificate) bool { return other.ID == id })
	if i < 0 || c.db.Certificates[i].Status == registry.Disabled {
		return registry.Certificate{}, notFound("database %s has no client certificate %s", c.db.Name, problem.Quote(id))
	}
	return c.db.Certificates[i], nil
}

func showCertificate(s registry.Certificate) api.Certificate {
	return api.Certificate{ID: s.ID, Name: s.Name, Status: string(s.Status), Serial: s.Serial,
		CreatedAt: utc(s.CreatedAt), UpdatedAt: utc(s.UpdatedAt), ExpiresAt: utc(s.ExpiresAt), DisableAt: utc(s.DisableAt),
		Predecessor: s.Predecessor, Successor: s.Successor}
}
