package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/cli"
	"pgmtls-proxy/internal/control/store"
	"pgmtls-proxy/internal/logqueue"
)

// Exit codes, as the documentation promises them.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // the command line or the configuration is wrong
)

// environment is what a command gets from outside.
type environment struct {
	args           []string
	getenv         func(string) string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

// run runs the command line and gives the exit code.
func run(ctx context.Context, env environment) int {
	root := newRoot(env)
	root.SetArgs(env.args)
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	logqueue.Say(env.stderr, flushLimit, err.Error()) // it may be nobody's any more
	var known *exit
	if errors.As(err, &known) {
		return known.code
	}
	return cli.ExitCode(err)
}

func newRoot(env environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "pgmtls",
		Short: "The control plane of pgmtls-proxy",
		Long: `pgmtls decides which clients may reach which PostgreSQL database, and knows when that is in
force on every proxy.

pgmtls serve runs the control plane, pgmtls agent delivers to a proxy on another
machine, and the other commands call the control plane.`,
		Version:       built.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("pgmtls {{.Version}}\n")
	commands := cli.Commands(cli.Env{
		Stdin: env.stdin, Stdout: env.stdout, Stderr: env.stderr, Getenv: env.getenv, Built: built,
		StdinTerminal: terminal(env.stdin), StdoutTerminal: terminal(env.stdout), StderrTerminal: terminal(env.stderr),
		Columns: columns(env.stdout),
	})
	root.AddCommand(commands...)
	root.AddCommand(newServe(env), newAgent(env))
	for _, command := range commands {
		if command.Name() == "snapshot" {
			command.AddCommand(newRestore(env))
		}
	}
	return root
}

// terminal reports whether a person sits at the other end.
func terminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// columns is how wide a terminal is, 0 if the stream is none.
func columns(stream any) int {
	file, ok := stream.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

func newServe(env environment) *cobra.Command {
	var path, dataDir, listen string
	var start startOptions
	command := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `serve runs the control plane. With only --data-dir it needs no set-up: it keeps
its state there, in an embedded etcd, and at the first start creates a master
key (master.key), a token of scope all (admin.token) and client.yaml, with
which the other commands find it: PGMTLS_CONFIG=DIR/client.yaml.

docs/configuration.md describes pgmtls.yaml, docs/control-plane.md the rest. The
master key may be in PGMTLS_MASTER_KEY instead of a file.`,
		Example: `  pgmtls serve --data-dir /var/lib/pgmtls
  pgmtls serve --config /etc/pgmtls/pgmtls.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadControl(path, dataDir, listen)
			if err != nil {
				return &exit{code: exitUsage, err: err}
			}
			if err := serve(cmd.Context(), cfg, env, start); err != nil {
				return &exit{code: exitFailure, err: err}
			}
			return nil
		},
	}
	command.Flags().StringVarP(&path, "config", "c", "", "the configuration file, pgmtls.yaml")
	command.Flags().StringVar(&dataDir, "data-dir", "", "the directory of the state, instead of a configuration file")
	command.Flags().StringVar(&listen, "listen", "", "the address of the API, with --data-dir (127.0.0.1:9816)")
	command.Flags().BoolVar(&start.newToken, "new-admin-token", false, "create another token of scope all in admin.token, if all are lost")
	command.Flags().BoolVar(&start.newStore, "new-store", false, "create an empty store although the master key of an earlier store exists")
	command.MarkFlagsMutuallyExclusive("config", "data-dir")
	command.MarkFlagsMutuallyExclusive("config", "listen")
	command.MarkFlagsOneRequired("config", "data-dir")
	return command
}

// loadControl reads the operator's file, or makes do with a data directory.
func loadControl(path, dataDir, listen string) (*config.Control, error) {
	if path != "" {
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		return config.LoadControl(path)
	}
	if dataDir == "" { // a variable that is not set, and the keys would lie about in the working directory
		return nil, errors.New("--config or --data-dir is empty; name the file, or the directory")
	}
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("data_dir: %q\n", dataDir)
	if listen != "" {
		text += fmt.Sprintf("listen: %q\n", listen)
	}
	cfg, err := config.ParseControl("command line", []byte(text))
	if err == nil && cfg.Node == "" {
		cfg.Node, err = os.Hostname()
	}
	return cfg, err
}

func newRestore(env environment) *cobra.Command {
	var path, dataDir string
	command := &cobra.Command{
		Use:   "restore FILE --config FILE | --data-dir DIR",
		Short: "Create a new data directory from a snapshot",
		Long: `restore creates the store of a control plane from a snapshot, in a data directory
that has none yet. The daemon must not run. A snapshot does not contain the master key:
put it at DIR/master.key, or where pgmtls.yaml says. If no token from before the
snapshot is left, create one at the first start: pgmtls serve --new-admin-token.

Changes after the snapshot are undone, including revocations: look at the
audit trail of the old store, if you have it, and revoke again.

Restore an external cluster with etcdutl.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadControl(path, dataDir, "")
			if err == nil && len(cfg.Store.Endpoints) > 0 {
				err = fmt.Errorf("%s has its store in a cluster; restore that with etcdutl", path)
			}
			if err != nil {
				return &exit{code: exitUsage, err: err}
			}
			if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
				return &exit{code: exitFailure, err: err}
			}
			if err := store.RestoreSnapshot(cmd.Context(), args[0], storeDir(cfg)); err != nil {
				return &exit{code: exitFailure, err: err}
			}
			start := "--config " + path
			if path == "" {
				start = "--data-dir " + dataDir
			}
			// Unread, the hint is missed and nothing else: the data is there.
			_, _ = fmt.Fprintf(env.stdout, "Restored into %s. Put the master key to %s, then: pgmtls serve %s\n", cfg.DataDir, cfg.MasterKeyFile, start)
			return nil
		},
	}
	command.Flags().StringVarP(&path, "config", "c", "", "the operator's file, pgmtls.yaml, which names the data directory")
	command.Flags().StringVar(&dataDir, "data-dir", "", "the new data directory, for a control plane without a file")
	command.MarkFlagsMutuallyExclusive("config", "data-dir")
	command.MarkFlagsOneRequired("config", "data-dir")
	return command
}

// lossMessage is logged when lines were lost and the log can be written again.
const lossMessage = "lines of the log were lost: its reader was too slow or gone, or its disk was full"

// flushLimit is how long the last lines of the log, and the last words to the supervisor, have at the end.
const flushLimit = time.Second

// openLog makes the one logger, which is handed on as a value, and the queue beneath it, which its owner closes last. Nothing that
// logs waits for the reader of w.
func openLog(cfg config.Log, w io.Writer) (zerolog.Logger, *logqueue.Writer) {
	var log zerolog.Logger
	lines := logqueue.New(w, logqueue.Options{OnLoss: func(lines uint64) {
		log.Warn().Uint64("lines", lines).Msg(lossMessage)
	}})
	cfg.Format = cfg.FormatFor(terminal(w))
	log = newLogger(cfg, lines)
	return log, lines
}

// newLogger makes a logger that writes to w.
func newLogger(cfg config.Log, w io.Writer) zerolog.Logger {
	if cfg.Format == config.LogConsole {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05"}
	}
	level, err := zerolog.ParseLevel(strings.ToLower(string(cfg.Level)))
	if err != nil {
		level = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}
