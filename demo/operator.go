package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// connectionID finds in a refusal the name that the connection has in the log.
var connectionID = regexp.MustCompile(`\(connection ([0-9a-z]+)\)`)

// showLogOf shows the event that the log has of a refused connection.
func (d *demo) showLogOf(ctx context.Context, o outcome) error {
	match := connectionID.FindStringSubmatch(o.text)
	if match == nil {
		return errors.New("psql did not show a connection id")
	}
	id := match[1]
	var event string
	err := until(ctx, func(context.Context) error { // the event is written when the connection has ended
		log, err := os.ReadFile(d.path("proxy.log"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, id) {
				event = line
				return nil
			}
		}
		return fmt.Errorf("the log has no connection %s", id)
	})
	if err != nil {
		return err
	}
	d.show.command("grep", id, "../proxy.log")
	d.show.output(event)
	return nil
}

func lookAsOperator(ctx context.Context, d *demo) (verdict string, err error) {
	session, err := d.openSession(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, session.close()) }()

	now, err := d.status(ctx)
	if err != nil {
		return "", err
	}
	excerpt, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return "", err
	}
	d.show.command("curl", "-s", d.adminURL("/status"))
	d.show.output(string(excerpt) + "\n")
	d.show.say("(an excerpt)")

	lines, err := d.metrics(ctx, "pgmtls_connections_total", "pgmtls_sessions{", "pgmtls_refusals_total",
		"pgmtls_cancel_requests_total", "pgmtls_policy_reloads_total", "pgmtls_policy_info", "pgmtls_policy_rules",
		"pgmtls_certificate_not_after_seconds", "pgmtls_bytes_total")
	if err != nil {
		return "", err
	}
	d.show.command("curl", "-s", d.adminURL("/metrics"))
	d.show.output(strings.Join(lines, "\n") + "\n")
	d.show.say("(an excerpt, without those that are still at zero)")
	return "every refusal of the steps above is counted under its name", d.checkPicture(now, lines)
}

// checkPicture wants status and metrics to tell what has happened.
func (d *demo) checkPicture(now status, lines []string) error {
	var problems []error
	if !now.Ready || now.Policy.Generation != fmt.Sprint(d.policy.generation) || now.Reload.Error != "" {
		problems = append(problems, errors.New("/status does not show the policy in force"))
	}
	all := strings.Join(lines, "\n")
	for _, reason := range []string{"no_client_certificate", "certificate_unknown_ca", "certificate_expired",
		"certificate_revoked", "address_not_allowed", "tls_required"} {
		if !strings.Contains(all, fmt.Sprintf("pgmtls_refusals_total{reason=%q}", reason)) {
			problems = append(problems, fmt.Errorf("the metrics don't count %s", reason))
		}
	}
	for _, series := range []string{`pgmtls_cancel_requests_total{result="forwarded"} 1`,
		`pgmtls_policy_reloads_total{result="applied"}`, `pgmtls_policy_reloads_total{result="refused"}`, "pgmtls_sessions{"} {
		if !strings.Contains(all, series) {
			problems = append(problems, fmt.Errorf("the metrics don't show %s", series))
		}
	}
	return errors.Join(problems...)
}

// invite prints what can be pasted while the demo stays up.
func (d *demo) invite() {
	p := d.show
	p.heading("It stays up. In another terminal:")
	p.line("psql:      psql %s", shellQuote(d.connectionURL("postgresql://app@", "app.key")))
	p.line("JDBC:      %s", "jdbc:"+d.connectionURL("postgresql://", "app.pk8")+"&user=app")
	p.line("status:    curl -s %s", d.adminURL("/status"))
	p.line("sessions:  curl -s %s", d.adminURL("/sessions"))
	p.line("metrics:   curl -s %s", d.adminURL("/metrics"))
	p.line("log:       tail -f %s", shellQuote(d.path("proxy.log")))
	p.line("policy:    $EDITOR %s", shellQuote(d.path("policy", "policy.yaml")))
	p.line("")
	p.line("Edit the policy and connect again. Try these:")
	p.line("  remove the rule %s, or change it to 127.0.0.2/32", thisMachine.id)
	p.line("  give it an end:           expires_at: 2020-01-01T00:00:00Z")
	p.line("  for other users only:     identities: [{subject_cn: app, users: [somebody_else]}]")
	p.line("  ask for no certificate:   client_auth: optional   (then leave out sslcert and sslkey)")
	p.line("  a mistake:                cidr: 127.0.0.1/8       (then look at /status)")
	p.line("")
	p.line("Ctrl-C here ends the proxy and PostgreSQL.")
}

// connectionURL is the address of the database with the files of the client, as psql takes it, and JDBC with its own
// encoding of the key.
func (d *demo) connectionURL(scheme, key string) string {
	file := func(name string) string {
		escaped := url.QueryEscape(d.path("client", name))
		return strings.NewReplacer("%2F", "/", "+", "%20").Replace(escaped)
	}
	return fmt.Sprintf("%slocalhost:%d/app?sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s",
		scheme, d.port, file("space-ca.pem"), file("app.crt"), file(key))
}
