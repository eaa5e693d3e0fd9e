package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"
)

// asLaptop shows psql the certificate of the laptop.
const asLaptop = "PGSSLCERT=client/laptop-postgresql.crt PGSSLKEY=client/laptop-postgresql.key "

// objectID finds the id in what a create prints.
var objectID = regexp.MustCompile(`(?m)^id: +(\S+)$`)

func revokeCertificate(ctx context.Context, d *demo) (verdict string, err error) {
	o, err := d.must(ctx, "pgmtls certificates create shop --name laptop --wait --download --dir client --prefix laptop-", "ready")
	if err != nil {
		return "", err
	}
	id, err := o.find(objectID)
	if err != nil {
		return "", err
	}
	app, err := d.openSession(ctx, "")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, app.close()) }()
	laptop, err := d.openSession(ctx, asLaptop)
	if err != nil {
		return "", err
	}
	d.show.say("The laptop is lost:")
	deleted, err := d.must(ctx, "pgmtls certificates delete shop --id "+id+" --wait", "disabled")
	if err != nil {
		return "", errors.Join(err, laptop.close())
	}
	err = errors.Join(laptop.wasEnded("terminating connection", "has been revoked"), app.lives())
	_, refused := d.refused(ctx, asLaptop, "connection requires a valid client certificate", "has been revoked")
	took, notFound := deleted.find(waited)
	return took + ": no session of it is left, and no other session was affected", errors.Join(err, refused, notFound)
}

func deleteRule(ctx context.Context, d *demo) (verdict string, err error) {
	app, err := d.openSession(ctx, "")
	if err != nil {
		return "", err
	}
	_, err = d.alone(ctx)
	_, dryErr := d.must(ctx, "pgmtls ip-rules delete shop --cidr 127.0.0.1/32 --dry-run", "would end 1 session")
	if err := errors.Join(err, dryErr, app.lives()); err != nil {
		return "", errors.Join(err, app.close())
	}
	deleted, err := d.must(ctx, "pgmtls ip-rules delete shop --cidr 127.0.0.1/32 --wait")
	if err != nil {
		return "", errors.Join(err, app.close())
	}
	err = app.wasEnded("terminating connection", "No IP rule allows the address 127.0.0.1 any more")
	d.show.say("And the rule is restored:")
	// Also after a failure: the steps behind this one need the rule.
	_, createErr := d.must(ctx, "pgmtls ip-rules create shop --cidr 127.0.0.1/32 --description 'This machine' --wait", "Authorized")
	took, notFound := deleted.find(waited)
	return took + ", together with the session that it had allowed", errors.Join(err, createErr, notFound, d.letIn(ctx, ""))
}

func editPolicy(ctx context.Context, d *demo) (string, error) {
	good, err := os.ReadFile(d.path("control", "policies", "shop", "policy.yaml"))
	if err != nil {
		return "", err
	}
	const edit = "sed -i s,127.0.0.1/32,127.0.0.1/8, control/policies/shop/policy.yaml"
	if _, err := d.must(ctx, edit); err != nil {
		return "", err
	}
	edited := time.Now()
	var now status
	err = until(ctx, func(ctx context.Context) (err error) {
		if now, err = d.status(ctx); err != nil || now.Reload.Error != "" {
			return err
		}
		if text, _ := os.ReadFile(d.path("control", "policies", "shop", "policy.yaml")); string(text) == string(good) {
			// The control plane looks every ten seconds, and this was one of those moments. So it is edited again.
			_, err = d.must(ctx, edit)
		}
		return errors.Join(err, errors.New("the proxy did not notice the mistake"))
	})
	if err != nil {
		return "", err
	}
	d.show.say("The proxy's /status says what is wrong, and what to write instead:")
	d.show.output(now.Reload.Error + "\n")
	d.show.say("The last valid policy stays in force, and the control plane restores the file within ten seconds:")
	err = d.letIn(ctx, "")
	restored := until(ctx, func(ctx context.Context) error {
		now, err := d.status(ctx)
		if err == nil && now.Reload.Error != "" {
			err = errors.New(now.Reload.Error)
		}
		return err
	})
	took := time.Since(edited).Round(100 * time.Millisecond)
	// The record may come a moment after the file.
	restored = errors.Join(restored, d.comes(ctx, "pgmtls audit --database shop --action policy.drift", "policy.yaml"))
	_, drift := d.must(ctx, "pgmtls audit --database shop --action policy.drift --limit 1", "policy.yaml")
	return fmt.Sprintf("restored after %s; only the audit trail shows it", took), errors.Join(err, restored, drift)
}

// successorID finds in the list of certificates what the first one was replaced by.
var successorID = regexp.MustCompile(`(?m)^\S+ +shop-\S+ +ready .* replaced by (\S+)`)

func rotateCA(ctx context.Context, d *demo) (verdict string, err error) {
	app, err := d.openSession(ctx, "")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, app.close()) }()
	if _, err := d.must(ctx, "pgmtls ca rotate demo", "active"); err != nil {
		return "", err
	}
	d.show.say("The old CA stays trusted until it is retired. Each of its certificates has a successor:")
	o, err := d.must(ctx, "pgmtls certificates shop")
	if err != nil {
		return "", err
	}
	id, err := o.find(successorID)
	if err != nil {
		return "", err
	}
	// The command has not waited: the proxy may not trust the new CA yet.
	err = errors.Join(d.letIn(ctx, ""), d.comes(ctx, "pgmtls certificates get shop --id "+id, "ready"))
	_, downloadErr := d.must(ctx, "pgmtls certificates download shop --id "+id+" --dir client --force", "root.crt")
	_, showErr := d.must(ctx, "pgmtls ca show demo", "retiring")
	return "the old and the new certificate are both accepted, and the session continues",
		errors.Join(err, downloadErr, d.letIn(ctx, ""), app.lives(), showErr)
}
