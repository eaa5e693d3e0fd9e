package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// step is one thing to see. Its function shows it and gives the verdict: what was seen, or what went wrong.
type step struct {
	title string
	run   func(context.Context, *demo) (verdict string, err error)
}

// steps are the demo. The first ones, below, bring a client in, and others not; those in changes.go change that while
// sessions live; those in operator.go let programs go away and come back, and look at it all from the operator's side.
var steps = []step{
	{"A database is registered, with the proxy in front of it", registerDatabase},
	{"It gets mutual TLS", createMTLS},
	{"A client gets its certificate", downloadCertificate},
	{"There is no IP rule yet", refuseWithoutRule},
	{"An IP rule, in force when the command returns", createRule},
	{"A rule that is likely a mistake", refuseMistake},
	{"No certificate, and no TLS", refuseWithoutCertificate},
	{"The certificate of another database of the same space", refuseOtherDatabase},
	{"A certificate is revoked: only its session ends", revokeCertificate},
	{"A rule is deleted, after a dry run", deleteRule},
	{"policy.yaml is edited by hand", editPolicy},
	{"The CA is rotated", rotateCA},
	{"The control plane is killed", killControlPlane},
	{"A publicly trusted certificate, together with mutual TLS", enhance},
	{"The proxy is replaced, while a session is in a transaction", replaceProxy},
	{"What the operator sees", lookAsOperator},
	{"Who did what", readTrail},
}

func registerDatabase(ctx context.Context, d *demo) (string, error) {
	_, err := d.must(ctx, fmt.Sprintf("pgmtls databases create shop --space demo --host localhost --port %d "+
		`--proxy local --policy-dir "$PWD/control/policies/shop" --admin %s`, d.port, loopback(d.adminPort)), "proxies:    local")
	return "registered; the proxy still refuses every client", err
}

// waited finds how long --wait has waited, and for what.
var waited = regexp.MustCompile(`(?m)^((?:Operational|Authorized|ready|gone|disabled) after .+)$`)

func createMTLS(ctx context.Context, d *demo) (string, error) {
	o, err := d.must(ctx, "pgmtls mtls create shop --wait", "Operational")
	if err != nil {
		return "", err
	}
	d.show.say("This created the CA of the space, the server certificate, a first client certificate, and:")
	_, err = d.must(ctx, "cat control/policies/shop/policy.yaml", "client_auth: required")
	took, notFound := o.find(waited)
	return took + ": the proxy has confirmed that it enforces this", errors.Join(err, notFound)
}

func downloadCertificate(ctx context.Context, d *demo) (string, error) {
	if _, err := d.must(ctx, "pgmtls certificates download shop --dir client", "postgresql.key"); err != nil {
		return "", err
	}
	o, err := d.must(ctx, "pgmtls url shop --user app --dbname shop --dir client", "jdbc:postgresql:")
	if err != nil {
		return "", err
	}
	// The files come from the environment, so that later steps can come with others.
	_, address, _ := strings.Cut(o.text, "DATABASE_URL='")
	address, _, found := strings.Cut(address, "&sslcert=")
	if !found {
		return "", errors.New("pgmtls url has printed no DATABASE_URL with the files")
	}
	lines := []string{"export URL=" + shellQuote(address)}
	for line := range strings.Lines(o.text) {
		if strings.HasPrefix(line, "export ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	d.show.say("With the export lines pasted into the shell:")
	d.show.typed(lines[0])
	if len(lines) != 4 {
		err = fmt.Errorf("pgmtls url has printed %d lines to export, not 3", len(lines)-1)
	}
	return "every psql command below uses these settings", errors.Join(err, d.export(lines...))
}

// connectionID finds in a refusal the name that the connection has at the proxy.
var connectionID = regexp.MustCompile(`\(connection ([0-9a-z]+)\)`)

func refuseWithoutRule(ctx context.Context, d *demo) (string, error) {
	o, err := d.refused(ctx, "", "no allowlist entry for host", "127.0.0.1/32")
	if err != nil {
		return "", err
	}
	id, err := o.find(connectionID)
	if err != nil {
		return "", err
	}
	d.show.say("The proxy's operator asks why, using the connection id from the client's error:")
	_, err = d.must(ctx, "pgmtls-proxy explain --config proxy.yaml --conn "+id, "CN=shop-")
	return "refused, with the rule that is missing", err
}

func createRule(ctx context.Context, d *demo) (string, error) {
	o, err := d.must(ctx, "pgmtls ip-rules create shop --cidr 127.0.0.1/32 --description 'This machine' --wait", "Authorized")
	if err != nil {
		return "", err
	}
	_, err = d.must(ctx, `psql "$URL" -c "select current_user, current_setting('server_version') as postgresql" -c '\conninfo'`, "app", "TLSv1.3")
	took, notFound := o.find(waited)
	return took + ", and the next connection was accepted; both sides verified each other", errors.Join(err, notFound)
}

func refuseMistake(ctx context.Context, d *demo) (string, error) {
	_, err := d.fails(ctx, "pgmtls ip-rules create shop --cidr 192.0.2.1/24 --wait", 1, "192.0.2.0/24")
	return "refused, with the value to use instead", err
}

func refuseWithoutCertificate(ctx context.Context, d *demo) (string, error) {
	_, certificate := d.refused(ctx, "PGSSLCERT= PGSSLKEY= ", "connection requires a valid client certificate", "The client sent no certificate")
	_, plaintext := d.fails(ctx, `psql "$URL&sslmode=disable" -c 'select 1'`, noConnection, "connection requires TLS", "sslmode=require")
	return "both refused, with what is missing", errors.Join(certificate, plaintext)
}

func refuseOtherDatabase(ctx context.Context, d *demo) (string, error) {
	d.show.say("The same CA signs for all databases of a space. Each database accepts only its own clients.")
	for _, line := range []string{
		"pgmtls databases create archive --space demo --host localhost > /dev/null",
		"pgmtls mtls create archive > /dev/null",
		"pgmtls certificates download archive --dir client --prefix archive- > /dev/null",
	} {
		if _, err := d.must(ctx, line); err != nil {
			return "", err
		}
	}
	_, err := d.refused(ctx, "PGSSLCERT=client/archive-postgresql.crt PGSSLKEY=client/archive-postgresql.key ", "archive-")
	return "refused, with the database that the certificate belongs to", err
}
