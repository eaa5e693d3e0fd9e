package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgmtls-proxy/internal/testpki"
	"pgmtls-proxy/internal/tlsconf"
)

// step is one thing to see. Its function shows it and gives the verdict: what was seen, or what went wrong.
type step struct {
	title string
	run   func(context.Context, *demo) (verdict string, err error)
}

// steps are the demo. The first ones, below, ask who may come in; those in changes.go change that while sessions live;
// those in operator.go look at it all from the operator's side.
var steps = []step{
	{"A certificate of the space CA, and sslmode=verify-full", withCertificate},
	{"No certificate", withoutCertificate},
	{"A stranger's certificate", withStrangersCertificate},
	{"An expired certificate", withExpiredCertificate},
	{"An address that no rule allows", fromElsewhere},
	{"Plaintext", inPlaintext},
	{"A certificate is revoked", revokeCertificate},
	{"A rule is removed and put back, while a session stays connected", removeRule},
	{"A rule is removed, and with it the session that came in by it", endSession},
	{"The server's certificate is replaced, while a session stays connected", replaceServerCertificate},
	{"A mistake in policy.yaml", makeMistake},
	{"Ctrl-C cancels a query", cancelQuery},
	{"What the operator sees", lookAsOperator},
}

func withCertificate(ctx context.Context, d *demo) (string, error) {
	o, err := d.psql(ctx, asApp, "-c", "select current_user, current_setting('server_version') as postgresql", "-c", `\conninfo`)
	if err != nil {
		return "", err
	}
	return "let in: both sides have verified each other", o.accepted("app", "TLSv1.3")
}

func withoutCertificate(ctx context.Context, d *demo) (string, error) {
	return "refused, and told what is missing", d.mustBeRefused(ctx, []string{"-c", "select 1"},
		"connection requires a valid client certificate", "The client sent no certificate")
}

func withStrangersCertificate(ctx context.Context, d *demo) (string, error) {
	d.show.say("It is as good as the first, but another CA has issued it.")
	ca, err := testpki.NewCA(testpki.Authority("CA of somebody else"))
	if err != nil {
		return "", err
	}
	stranger, err := ca.Issue(testpki.Client("app"))
	if err != nil {
		return "", err
	}
	if err := stranger.Write(d.path("client", "stranger")); err != nil {
		return "", err
	}
	return "refused, and told by which CA it was issued",
		d.mustBeRefused(ctx, []string{"sslcert=stranger.crt sslkey=stranger.key", "-c", "select 1"},
			"connection requires a valid client certificate", "CA of somebody else")
}

func withExpiredCertificate(ctx context.Context, d *demo) (string, error) {
	template := testpki.Client("app")
	template.NotBefore = time.Now().Add(-48 * time.Hour)
	template.NotAfter = time.Now().Add(-24 * time.Hour)
	expired, err := d.ca.Issue(template)
	if err != nil {
		return "", err
	}
	if err := expired.Write(d.path("client", "expired")); err != nil {
		return "", err
	}
	return "refused, and told since when it is not valid",
		d.mustBeRefused(ctx, []string{"sslcert=expired.crt sslkey=expired.key", "-c", "select 1"},
			"connection requires a valid client certificate", "expired", expired.Cert.NotAfter.UTC().Format(time.DateOnly))
}

func fromElsewhere(ctx context.Context, d *demo) (string, error) {
	d.show.say("psql can't choose where it comes from. So the demo carries this connection on from %s,\n"+
		"another address of this machine, which no rule names.", elsewhere)
	port, stop, err := d.carryFromElsewhere(ctx)
	if err != nil {
		return "", err
	}
	o, err := d.psql(ctx, asApp+fmt.Sprintf(" port=%d", port), "-c", "select 1")
	if err := errors.Join(err, stop()); err != nil {
		return "", err
	}
	if err := o.refused("no allowlist entry for host", elsewhere+"/32", "HINT:"); err != nil {
		return "", err
	}
	d.show.say("The operator finds the connection in the log, by the name that the client has read:")
	return "refused, and told which rule is missing", d.showLogOf(ctx, o)
}

func inPlaintext(ctx context.Context, d *demo) (string, error) {
	return "refused, and told how to connect", d.mustBeRefused(ctx, []string{"sslmode=disable", "-c", "select 1"},
		"connection requires TLS", "sslmode=require")
}

func revokeCertificate(ctx context.Context, d *demo) (string, error) {
	laptop, err := d.ca.client("a laptop that was lost")
	if err != nil {
		return "", err
	}
	if err := laptop.Write(d.path("client", "laptop")); err != nil {
		return "", err
	}
	asLaptop := []string{"sslcert=laptop.crt sslkey=laptop.key", "-c", "select 'in' as before"}
	if err := d.mustBeAccepted(ctx, asLaptop...); err != nil {
		return "", err
	}
	serial := tlsconf.FormatSerial(laptop.Cert.SerialNumber)
	written, err := d.edit(func(p *policy) { p.revoked = []string{serial} })
	if err != nil {
		return "", err
	}
	if err := d.inForce(ctx); err != nil {
		return "", err
	}
	err = d.mustBeRefused(ctx, asLaptop, "connection requires a valid client certificate", "revoked", serial)
	return fmt.Sprintf("let in before, and refused %s after the write", since(written)), err
}
