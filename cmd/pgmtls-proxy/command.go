package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/logqueue"
	"pgmtls-proxy/internal/tlsconf"
)

// Exit codes, as the documentation promises them.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // the command line or the configuration is wrong
	exitExpired = 3 // the drain's grace was over before the last session was
)

// environment is what a command gets from outside.
type environment struct {
	args           []string
	getenv         func(string) string
	stdout, stderr io.Writer
}

// print writes the result of a command. A result that can't be written is a failure: a script must not take what is
// missing for an answer.
func (env environment) print(result []byte) error {
	if _, err := env.stdout.Write(result); err != nil {
		return &exit{code: exitFailure, err: fmt.Errorf("write the result: %w", err)}
	}
	return nil
}

// exit is an error with an exit code of its own. Its text has been printed if silent.
type exit struct {
	code   int
	err    error
	silent bool
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

// run runs the command line and gives the exit code.
func run(ctx context.Context, env environment) int {
	root := newRoot(env)
	root.SetArgs(env.args)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitUsage // cobra's own errors are about the command line
	var known *exit
	if errors.As(err, &known) {
		code = known.code
	}
	text := err.Error()
	switch {
	case known == nil:
		text += "\nSee pgmtls-proxy --help."
	case known.silent:
		return code
	}
	logqueue.Say(env.stderr, flushLimit, text) // it may be nobody's any more
	return code
}

func newRoot(env environment) *cobra.Command {
	var path, door string
	root := &cobra.Command{
		Use:   "pgmtls-proxy --config proxy.yaml",
		Short: "A mutual-TLS gate in front of a PostgreSQL database",
		Long: `pgmtls-proxy stands in front of a PostgreSQL database. It terminates TLS, checks the
client's address against an allowlist, verifies its certificate against a CA of
your own, and relays bytes to the database. Rules and certificates can change while
sessions live.

Two files configure it. proxy.yaml is the operator's: where to listen, which
database, which limits. It is read once, at start. policy.yaml, in the directory
that proxy.yaml names, says which clients may connect. It is live: write it, and new
connections follow it within a second. docs/configuration.md describes both.

Signals:    SIGHUP reads the policy now. SIGTERM and SIGINT drain: no new
            connections, live sessions have drain.grace. A second one ends now.
Exit codes: 0 clean, 1 failure, 2 usage or configuration, 3 sessions were cut
            off at the end of the grace.`,
		Example: `  pgmtls-proxy check --config proxy.yaml    validate everything, bind nothing
  pgmtls-proxy --config proxy.yaml          run
  curl -s 127.0.0.1:9815/status             what is in force
  pgmtls-proxy --config proxy.yaml --takeover /run/pgmtls-proxy/takeover.sock
                                            replace the process that runs`,
		Args:          cobra.NoArgs,
		Version:       built.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			proxy, err := load(path, env)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), proxy, env, door)
		},
	}
	root.SetVersionTemplate("pgmtls-proxy {{.Version}}\n")
	root.PersistentFlags().StringVarP(&path, "config", "c", "", "the configuration file, proxy.yaml")
	root.Flags().StringVar(&door, "takeover", "", "take over the listening sockets from the process at this unix socket, and wait there for the next one")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newCheck(&path, env), newExplain(&path, env), newDryRun(&path, env), newHealth(&path, env), newVersion(env))
	return root
}

// load reads the operator's file.
func load(path string, env environment) (*config.Proxy, error) {
	if path == "" {
		return nil, &exit{code: exitUsage, err: errors.New("no configuration is given; name it: pgmtls-proxy --config proxy.yaml")}
	}
	if err := tlsconf.CheckGODEBUG(env.getenv("GODEBUG")); err != nil {
		return nil, &exit{code: exitUsage, err: err}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, &exit{code: exitFailure, err: fmt.Errorf("find %s: %w", path, err)}
	}
	proxy, err := config.LoadProxy(path)
	if err != nil {
		return nil, &exit{code: exitUsage, err: err}
	}
	return proxy, nil
}

func newVersion(env environment) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the toolchain and the modules that it is built from",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return env.print([]byte("pgmtls-proxy " + built.Version + "\n" + built.Text()))
		},
	}
}

// hostname names the process in the log of a fleet.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
