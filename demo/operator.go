package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

func killControlPlane(ctx context.Context, d *demo) (string, error) {
	_, err := d.must(ctx, "pgmtls ip-rules create shop --cidr 192.0.2.0/24 --description Office --expires 30d", "192.0.2.0/24")
	if err != nil {
		return "", err
	}
	process := d.control.command.Process
	d.show.typed(fmt.Sprintf("kill -9 %d   # pgmtls serve", process.Pid))
	if err := process.Kill(); err != nil {
		return "", err
	}
	<-d.control.exited
	_, err = d.fails(ctx, "pgmtls ip-rules shop", 1, "pgmtls serve")
	err = errors.Join(err, d.letIn(ctx, ""))
	if startErr := d.startControlPlane(ctx); startErr != nil {
		return "", errors.Join(err, startErr)
	}
	// Whether the proxy had said before the kill that it follows the rule, nobody knows.
	err = errors.Join(err, d.comes(ctx, "pgmtls ip-rules get shop --cidr 192.0.2.0/24", "Authorized"))
	_, listErr := d.must(ctx, "pgmtls ip-rules shop", "This machine", "Office")
	return "clients were not affected, and the rule that it had accepted is there", errors.Join(err, listErr)
}

func replaceProxy(ctx context.Context, d *demo) (verdict string, err error) {
	app, err := d.openSession(ctx, "")
	if err != nil {
		return "", err
	}
	if _, err := app.ask("begin; create table sold as select 42 as price; select price from sold"); err != nil {
		return "", errors.Join(err, app.close())
	}
	d.show.say("For example, by a new version. It takes over the sockets of the old process, which then drains.")
	old := d.proxy
	fresh, err := d.startProxy(ctx)
	if fresh != nil {
		d.proxy = fresh
	}
	if err != nil {
		return "", errors.Join(err, app.close())
	}
	err = d.letIn(ctx, "")
	_, askErr := app.ask("select price from sold")
	d.show.say("The old proxy lets the transaction finish, then ends the session:")
	app.tell("commit")
	err = errors.Join(err, askErr, d.gone(old), app.wasEnded("terminating connection", "The proxy in front of the database is shutting down"))
	_, sold := d.must(ctx, `psql "$URL" -Atc 'select price from sold'`, "42")
	return "nobody was refused, and the transaction is committed", errors.Join(err, sold)
}

func lookAsOperator(ctx context.Context, d *demo) (verdict string, err error) {
	app, err := d.openSession(ctx, "")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, app.close()) }()

	_, err = d.must(ctx, "pgmtls databases", "archive", "Operational")
	now, statusErr := d.alone(ctx)
	if err := errors.Join(err, statusErr); err != nil {
		return "", err
	}
	excerpt, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return "", err
	}
	d.show.typed("curl -s " + d.adminURL("/status"))
	d.show.output(string(excerpt) + "\n")
	d.show.say("(an excerpt)")

	lines, err := d.metrics(ctx, "pgmtls_connections_total", "pgmtls_sessions{", "pgmtls_policy_info", "pgmtls_policy_rules", "pgmtls_bytes_total")
	if err != nil {
		return "", err
	}
	d.show.typed("curl -s " + d.adminURL("/metrics"))
	d.show.output(strings.Join(lines, "\n") + "\n")
	d.show.say("(an excerpt)")
	return "both programs report the same", d.checkPicture(now, lines)
}

// checkPicture wants status and metrics to tell what is so.
func (d *demo) checkPicture(now status, lines []string) error {
	var problems []error
	if now.Phase != "serving" || len(now.Policy.Rules) != 2 || now.Reload.Error != "" {
		problems = append(problems, errors.New("/status does not show the policy in force"))
	}
	all := strings.Join(lines, "\n")
	for _, series := range []string{`pgmtls_sessions{state="outside_transaction"} 1`, "pgmtls_policy_rules 2",
		fmt.Sprintf("pgmtls_policy_info{database=\"shop\",generation=%q} 1", now.Policy.Generation)} {
		if !strings.Contains(all, series) {
			problems = append(problems, fmt.Errorf("the metrics don't show %s", series))
		}
	}
	return errors.Join(problems...)
}

func readTrail(ctx context.Context, d *demo) (string, error) {
	_, err := d.must(ctx, "pgmtls audit --database shop --limit 0", "database.create", "mtls.operational", "ip_rule.authorized",
		"ip_rule.delete", "certificate.create", "certificate.delete", "certificate.disabled", "policy.drift")
	return "it lists everything that the steps above did", err
}

// invite prints what can be pasted while the demo stays up.
func (d *demo) invite() {
	p := d.show
	p.heading("It stays up. In another terminal:")
	p.line("cd %s && . ./%s", shellQuote(d.state()), environmentFile)
	p.line("")
	p.line("which sets:")
	p.output(strings.Join(d.exports, "\n") + "\n")
	p.line("")
	p.line("Then try these:")
	for _, line := range []string{
		`psql "$URL"`,
		"pgmtls databases",
		"pgmtls proxies shop",
		"pgmtls ip-rules create shop --cidr 127.0.0.2/32 --expires 1m --wait",
		"pgmtls ip-rules delete shop --cidr 127.0.0.1/32 --dry-run",
		"pgmtls certificates create shop --name me --download --dir client --prefix me-",
		"pgmtls certificates download shop --dir client --prefix jdbc- --format pk8 --id ID",
		"pgmtls events",
		"pgmtls --help",
		"pgmtls-proxy explain --config proxy.yaml --addr 127.0.0.1 --cert client/postgresql.crt --user app",
		"curl -s " + d.adminURL("/sessions"),
		fmt.Sprintf(`curl -s --cacert control/control-ca.pem -u ":$(cat control/admin.token)" https://%s/postgres/v0/databases/shop/tls-endpoint/ip-rules`,
			loopback(d.controlPort)),
		"tail -f proxy.log control.log",
	} {
		p.line("  %s", line)
	}
	p.line("")
	p.line("Ctrl-C here stops the control plane, the proxy and PostgreSQL.")
}
