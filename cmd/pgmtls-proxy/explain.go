package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/safetext"
)

func newExplain(path *string, env environment) *cobra.Command {
	var q adminapi.Question
	var certificate string
	var raw bool
	cmd := &cobra.Command{
		Use:   "explain --config proxy.yaml (--conn ID | --addr ADDRESS [--cert FILE] [--user NAME] …)",
		Short: "Ask the running proxy whether it allows a client, and why",
		Long: `explain asks the running proxy, at the admin address of the configuration, how it
would answer a client: the decision, the text that the client would read, and every
step. The decision is made by the code that decides about real clients.

With --conn it explains a connection by the id that a refused client reads and the
log has: a live one, or one of the last 1,000 refusals in the log.

It exits with 0 if there is an answer, whether yes or no, and with 1 if there is none.`,
		Example: `  pgmtls-proxy explain -c proxy.yaml --conn cfv8gwanpkn5t
  pgmtls-proxy explain -c proxy.yaml --addr 203.0.113.7 --cert app.crt --user app`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (q.Connection == "") == (q.Address == "") {
				return errors.New("no client is given; name --conn, or --addr and the client's other properties")
			}
			proxy, err := load(*path, env)
			if err != nil {
				return err
			}
			if q.Certificate, err = certificateOrSerial(certificate); err != nil {
				return &exit{code: exitUsage, err: err}
			}
			body, err := json.Marshal(q)
			if err != nil {
				return err
			}
			answer, err := query(cmd.Context(), proxy.Admin, adminapi.Request{Path: "/explain", ContentType: "application/json", Body: body})
			if err != nil {
				return &exit{code: exitFailure, err: err}
			}
			var e adminapi.Explanation
			if err := json.Unmarshal(answer, &e); err != nil {
				return &exit{code: exitFailure, err: fmt.Errorf("read the answer: %w", err)}
			}
			if raw {
				return env.print(safetext.JSON(answer))
			}
			var text bytes.Buffer
			printExplanation(&text, &e)
			return env.print(text.Bytes())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Connection, "conn", "", "id of a connection, from the log or from the client's error")
	flags.StringVar(&q.Address, "addr", "", "the client's address")
	flags.StringVar(&q.ServerName, "sni", "", "the server name that it requests, usually its host=")
	flags.StringVar(&certificate, "cert", "", "PEM file of its certificate, with intermediates, or the serial of a live session's")
	flags.StringVar(&q.User, "user", "", "the PostgreSQL user; without it identities are not evaluated")
	flags.StringVar(&q.Database, "database", "", "the database")
	flags.BoolVar(&raw, "json", false, "print the answer as JSON")
	return cmd
}

// certificateOrSerial reads the file of that name. What has only hexadecimal digits and colons, and is no file, is a serial.
func certificateOrSerial(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	content, err := os.ReadFile(text)
	switch {
	case err == nil:
		return string(content), nil
	case errors.Is(err, os.ErrNotExist) && strings.Trim(text, "0123456789abcdefABCDEF:") == "":
		return text, nil
	}
	return "", fmt.Errorf("read the certificate: %w", err)
}

func printExplanation(to *bytes.Buffer, e *adminapi.Explanation) {
	if c := e.Connection; c != nil {
		switch {
		case c.Live:
			fmt.Fprintf(to, "%s is live since %s, under policy %q.\n", c.ID, moment(c.Since), c.Generation)
		default:
			fmt.Fprintf(to, "%s came at %s. Under policy %q it was refused as %s.\n", c.ID, moment(c.Since), c.Generation, c.Refusal.Name)
			printRefusal(to, c.Refusal)
		}
		if c.Note != "" {
			fmt.Fprintf(to, "Note: %s.\n", c.Note)
		}
		fmt.Fprintln(to)
	}
	fmt.Fprintf(to, "Under policy %q, which is in force, it would be ", e.Generation)
	if e.Refusal == nil {
		fmt.Fprintf(to, "ALLOWED by rule %s.\n", e.Rule)
	} else {
		fmt.Fprintf(to, "REFUSED as %s.\n", e.Refusal.Name)
		printRefusal(to, e.Refusal)
	}
	fmt.Fprintln(to)
	marks := map[string]string{"passed": "yes", "refused": "NO", "not_asked": "-"}
	for _, s := range e.Steps {
		fmt.Fprintf(to, "%-3s  %-18s  %s\n", marks[s.Result], strings.ReplaceAll(s.Step, "_", " "), s.Text)
		for _, detail := range s.Details {
			fmt.Fprintf(to, "%25s%s\n", "", detail)
		}
	}
}

// printRefusal shows what a client reads, as psql does.
func printRefusal(to *bytes.Buffer, t *adminapi.Refusal) {
	if t.Text == "" {
		fmt.Fprintln(to, "    (the connection closes without an answer)")
		return
	}
	for line := range strings.Lines(t.Text) {
		fmt.Fprintf(to, "    %s\n", strings.TrimSuffix(line, "\n"))
	}
}

func moment(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }
