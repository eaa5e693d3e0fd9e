package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/agent"
	"pgmtls-proxy/internal/sdnotify"
)

// enrolTokenVariable has the one-time token itself, for who does not want a file.
const enrolTokenVariable = "PGMTLS_ENROLL_TOKEN"

func newAgent(env environment) *cobra.Command {
	var o agent.Options
	var admin, level, format string
	command := &cobra.Command{
		Use:   "agent --database DB --control URL --policy-dir DIR --admin ADDRESS",
		Short: "Deliver the policy to a proxy on this machine, from a remote control plane",
		Long: `agent runs beside one proxy. It receives the policy of the proxy's database from the
control plane, writes it to the proxy's policy_dir, and reports when it is in force.
While the control plane is down, the proxy keeps its policy.

It enrols once, with a token from "pgmtls agents create" that is valid for
an hour: in a file, or in PGMTLS_ENROLL_TOKEN. Its key never leaves this machine.

Exit codes: 0 the agent was stopped, 1 the control plane rejected it, or it could
not start, 2 usage.`,
		Example: `  pgmtls agent --database orders --control https://control.example.com:9816 \
      --ca control-ca.pem --token-file enroll.token \
      --policy-dir /etc/pgmtls-proxy/policy --admin 127.0.0.1:9815`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := config.ParseAddress(admin)
			if err == nil {
				err = address.CheckLocal()
			}
			if err != nil {
				return &exit{code: exitUsage, err: fmt.Errorf("--admin: %w", err)}
			}
			o.Admin, o.Token, o.UserAgent = address, env.getenv(enrolTokenVariable), "pgmtls-agent/"+built.Version
			signal.Ignore(syscall.SIGPIPE) // a reader of the log that is gone does not end the agent
			log, lines := openLog(config.Log{Level: config.LogLevel(level), Format: config.LogFormat(format)}, env.stderr)
			defer lines.Close(flushLimit)
			supervisor := newSupervisor(env.getenv, log)
			defer supervisor.Close(flushLimit)
			o.Log, o.LogLinesDropped = log, lines.Dropped
			if err := deliver(cmd.Context(), o, supervisor); err != nil {
				return &exit{code: exitFailure, err: err}
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.Database, "database", "", "name or id of the database")
	flags.StringVar(&o.Control, "control", "", "URL of the control plane, such as https://control.example.com:9816")
	flags.StringVar(&o.PolicyDir, "policy-dir", "", "the proxy's policy_dir")
	flags.StringVar(&admin, "admin", "127.0.0.1:9815", "the proxy's admin address, or unix: and the path of its socket")
	flags.StringVar(&o.CAFile, "ca", "", "PEM file with the CA that verifies the control plane's certificate")
	flags.StringVar(&o.TokenFile, "token-file", "", "file with the one-time token")
	flags.StringVar(&o.StateDir, "state", "", "directory for the agent's state ("+agent.DefaultState+"/DB)")
	flags.BoolVar(&o.TakeOver, "take-over", false, "replace a policy.yaml that the control plane did not write")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&format, "log-format", "", "json, or console for people (default: console on a terminal)")
	for _, name := range []string{"database", "control", "policy-dir"} {
		if err := command.MarkFlagRequired(name); err != nil {
			panic(err) // a flag of this very list is missing above
		}
	}
	return command
}

// deliver runs the agent until a signal ends it, and keeps the supervisor informed.
func deliver(ctx context.Context, o agent.Options, supervisor *sdnotify.Notifier) error {
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	o.Ready = func() { supervisor.Send(systemd.SdNotifyReady) }
	err := agent.Run(ctx, o)
	supervisor.Send(systemd.SdNotifyStopping)
	return err
}
