// Package cli is the commands of pgmtls that people type: databases, IP rules, certificates and the rest. Each is a
// client of the API and asks nothing else; what it knows, any other client can know.
//
// It does not serve, deliver or touch the store: `pgmtls serve`, `pgmtls agent` and `pgmtls snapshot restore` are
// cmd/pgmtls's own, which also makes the root command and turns errors into exit codes with [ExitCode].
//
// What a command found goes to standard output, as blocks and tables for people or, with --json, as the API's own
// JSON. Progress, questions and advice go to standard error.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/control/apiclient"
)

// Env is what the commands get from outside. Zero values of the last four have the meaning that is said there.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string

	StdinTerminal, StdoutTerminal, StderrTerminal bool

	Columns int // of the terminal that Stdout is; 0: not known

	Built buildinfo.Info // what this program was built from

	ClientFiles []string                                           // client.yaml of the whole machine, the first that exists counts; nil: [ClientFiles]
	Now         func() time.Time                                   // nil: time.Now
	After       func(time.Duration) <-chan time.Time               // nil: time.After
	Connect     func(apiclient.Options) (*apiclient.Client, error) // nil: apiclient.New
}

// remark prints something beside the result, to a person who may not be there to read it.
func (e Env) remark(format string, args ...any) { _, _ = fmt.Fprintf(e.Stderr, format, args...) }

// ClientFiles are where a whole machine's client.yaml may be. The daemon writes the last one when it first starts.
var ClientFiles = []string{"/etc/pgmtls/client.yaml", "/var/lib/pgmtls/client.yaml"}

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2 // the command line, or the client's settings, are wrong
)

// failure is an error with its exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usage marks an error as one of the command line or the settings.
func usage(err error) error { return &failure{exitUsage, err} }

// ExitCode returns the exit code that goes with what a command returned: 0 without an error, 1 when it could not be done,
// 2 when the command line or the settings are wrong, to which cobra's own errors belong.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var known *failure
	if errors.As(err, &known) {
		return known.code
	}
	return exitUsage
}

// Commands makes the commands. The caller's root silences cobra's errors and usage, and prints the error that Execute
// returns.
func Commands(env Env) []*cobra.Command {
	if env.ClientFiles == nil {
		env.ClientFiles = ClientFiles
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.After == nil {
		env.After = time.After
	}
	if env.Connect == nil {
		env.Connect = apiclient.New
	}
	a := &app{env: env}
	return []*cobra.Command{
		a.databases(), a.proxies(), a.mtls(), a.rules(), a.certificates(), a.authorities(), a.enhanced(), a.acme(), a.url(),
		a.tokens(), a.agents(), a.audit(), a.events(), a.snapshot(), a.store(), a.version(),
	}
}

// app is what all commands share.
type app struct {
	env Env
	server
	json bool
	wide bool
}

// client gives a command, and those below it, the flags that say whom to ask and how to answer.
func (a *app) client(cmd *cobra.Command) *cobra.Command {
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.server.url, "url", "", "URL of the control plane, such as https://127.0.0.1:9816 (PGMTLS_URL)")
	flags.StringVar(&a.server.ca, "ca", "", "PEM `file` with the CA that verifies its certificate (PGMTLS_CA)")
	flags.StringVar(&a.server.tokenFile, "token-file", "", "`file` with the token (PGMTLS_TOKEN_FILE, or the token itself in PGMTLS_TOKEN)")
	flags.BoolVar(&a.json, "json", false, "print the API's own JSON")
	flags.BoolVar(&a.wide, "wide", false, "print tables in full on a terminal: all columns, whole ids, times in UTC")
	return cmd
}

// session is one run of one command.
type session struct {
	context.Context
	*apiclient.Client
	app  *app
	args []string
	out  *printer
	from settings
}

// run makes a command's RunE of its work.
func (a *app) run(work func(*session) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := a.open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.CloseIdle()
		s.args = args
		err = work(s)
		if err == nil {
			err = s.out.err
		}
		return s.explain(err)
	}
}

// open finds the server.
func (a *app) open(ctx context.Context) (*session, error) {
	from, err := a.find()
	if err != nil {
		return nil, usage(err)
	}
	client, err := a.env.Connect(apiclient.Options{
		URL: from.url, CA: from.ca, Token: from.token, UserAgent: "pgmtls/" + a.env.Built.Version,
	})
	if err != nil {
		return nil, usage(err)
	}
	return &session{Context: ctx, Client: client, app: a, out: a.printer(), from: from}, nil
}

// group is a command that has others below it. Without one it does what its list does.
func group(cmd *cobra.Command, list *cobra.Command, others ...*cobra.Command) *cobra.Command {
	cmd.Args = list.Args
	cmd.SuggestionsMinimumDistance = 2 // cobra's own default is set on its own way only
	cmd.RunE = list.RunE
	cmd.ValidArgsFunction = list.ValidArgsFunction
	cmd.AddCommand(list)
	cmd.AddCommand(others...)
	return cmd
}
