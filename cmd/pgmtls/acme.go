package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/acme"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/retry"
	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/secretfile"
)

// newPublic puts together how databases get certificates of public authorities; without an acme block they get none. It
// asks nobody anything. Record and count are told of what happens to the certificates.
func newPublic(cfg *config.ACME, docs *docstore.Docs, record func(*store.Tx, acme.Event) error, count func(acme.Event), log zerolog.Logger) (registry.Public, error) {
	if len(cfg.CAs) == 0 {
		return registry.Public{}, nil
	}
	options := acme.Options{Docs: docs, PreferredRoot: cfg.PreferredRoot, Check: cfg.DNS.Check, Record: record, Count: count, Log: log}
	var err error
	if options.Resolver, err = resolver(cfg.DNS.Resolvers); err != nil {
		return registry.Public{}, err
	}
	if options.Solver, err = solver(cfg.DNS); err != nil {
		return registry.Public{}, fmt.Errorf("acme.dns: %w", err)
	}
	var trusted []byte
	for _, ca := range cfg.CAs {
		authority, roots, err := publicAuthority(ca)
		if err != nil {
			return registry.Public{}, fmt.Errorf("acme: authority %s: %w", ca.Name, err)
		}
		options.CAs = append(options.CAs, authority)
		trusted = append(trusted, roots...)
	}
	if len(trusted) > 0 {
		if options.Roots, err = rootsWith(trusted); err != nil {
			return registry.Public{}, err
		}
	}
	manager, err := acme.New(options)
	return registry.Public{Manager: manager, Zone: cfg.Hosts.Zone, Names: cfg.Hosts.Names}, err
}

// publicAuthority is one authority, and the PEM text of the roots that verify its directory, if it has some of its own.
func publicAuthority(ca config.ACMECA) (acme.CA, []byte, error) {
	authority := acme.CA{Name: ca.Name, Directory: ca.Directory, Profile: ca.Profile, Contact: ca.Contact, AfterFailures: ca.AfterFailures,
		NewOrders: acme.Limit(ca.NewOrders), Certificates: acme.Limit(ca.Certificates)}
	if ca.EAB.KeyID != "" {
		key, err := line(ca.EAB.KeyFile)
		if err != nil {
			return acme.CA{}, nil, err
		}
		authority.EAB = &acme.EAB{KeyID: ca.EAB.KeyID, MACKey: key}
	}
	if ca.TrustFile.Path == "" {
		authority.Transport = publicTransport(nil)
		return authority, nil, nil
	}
	text, err := os.ReadFile(ca.TrustFile.Path)
	if err != nil {
		return acme.CA{}, nil, err
	}
	text = safetext.WithoutMark(text)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return acme.CA{}, nil, fmt.Errorf("%s has no certificate in PEM", ca.TrustFile.Path)
	}
	authority.Transport = publicTransport(roots)
	return authority, text, nil
}

// rootsWith are the system's roots and some more.
func rootsWith(text []byte) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's authorities: %w", err)
	}
	roots.AppendCertsFromPEM(text)
	return roots, nil
}

// publicTransport is for requests to an authority that is verified by the roots; nil: the system's.
func publicTransport(roots *x509.CertPool) http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  time.Minute,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
		ForceAttemptHTTP2:      true,
	}
}

// resolver asks the configured name servers, or those of the system.
func resolver(servers []string) (acme.Resolver, error) {
	if len(servers) > 0 {
		return acme.Resolver{Servers: servers}, nil
	}
	found, err := acme.SystemResolver()
	if err != nil {
		return acme.Resolver{}, fmt.Errorf("acme.dns.resolvers is not set: %w; name some that see the public DNS", err)
	}
	return found, nil
}

// solver makes the records of challenges; nil: people do, once.
func solver(cfg config.ACMEDNS) (acme.Solver, error) {
	switch {
	case cfg.RFC2136.Server != "":
		text, err := secretfile.Read(cfg.RFC2136.KeyFile, maxSecret)
		if err != nil {
			return nil, err
		}
		key, err := acme.ParseTSIGKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.RFC2136.KeyFile, err)
		}
		return &acme.RFC2136{Server: cfg.RFC2136.Server, Zone: cfg.RFC2136.Zone, Key: key}, nil
	case cfg.Webhook.URL != "":
		where, err := url.Parse(cfg.Webhook.URL)
		if err != nil {
			return nil, err
		}
		password, err := line(cfg.Webhook.PasswordFile)
		return &acme.Webhook{URL: where, Username: cfg.Webhook.Username, Password: password}, err
	case cfg.Exec != "":
		return &acme.Exec{Program: cfg.Exec, Environ: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}}, nil
	}
	return nil, nil
}

// restartPublic is the pause after the work on public certificates has ended with an error.
const restartPublic = 5 * time.Second

// runPublic has public certificates issued and renewed as long as this daemon leads. Trouble with them never ends the
// leadership: the other renewals go on.
func (d *daemon) runPublic(ctx context.Context) error {
	if d.public == nil {
		return nil
	}
	for {
		if err := d.public.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error().Err(err).Msg("work on public certificates was interrupted; starting it again")
		}
		if retry.Sleep(ctx, restartPublic) != nil {
			return ctx.Err()
		}
	}
}
