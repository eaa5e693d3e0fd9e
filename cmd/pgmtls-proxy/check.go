package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/tlsconf"
)

func newCheck(path *string, env environment) *cobra.Command {
	return &cobra.Command{
		Use:   "check --config proxy.yaml",
		Short: "Validate the configuration as a run would, and print what was found",
		Long: `check reads proxy.yaml, policy.yaml and every file that they name, as a run would,
and prints what it found: addresses, certificates with their names, chains and
dates, the client CA, revocation lists, and the rules. It binds and dials nothing.
It exits with 0 if a run would accept the configuration, and otherwise with 2 and every
problem on a line of its own.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			proxy, err := load(*path, env)
			if err != nil {
				return err
			}
			target, targetErr := policy.NewTarget(proxy.Backend, socketOptions(proxy.TCP))
			builder := policy.Builder{Backend: target, MinVersion: proxy.SSLMinProtocolVersion}
			snapshot, err := policy.Check(cmd.Context(), proxy.PolicyDir, builder)
			if problems := joinLines(targetErr, err); problems != "" {
				return &exit{code: exitUsage, err: fmt.Errorf("%s", problems)}
			}
			return env.print(summarize(proxy, snapshot, time.Now()))
		},
	}
}

// joinLines is the text of the errors that there are.
func joinLines(errs ...error) string {
	var lines []string
	for _, err := range errs {
		if err != nil {
			lines = append(lines, err.Error())
		}
	}
	return strings.Join(lines, "\n")
}

// summarize returns a description of what a run would do.
func summarize(proxy *config.Proxy, s *policy.Snapshot, now time.Time) []byte {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "listen\t%s\n", joined(proxy.Listen))
	if len(proxy.ProxyProtocol) > 0 {
		fmt.Fprintf(w, "PROXY header\trequired from %s\n", joined(proxy.ProxyProtocol))
	}
	fmt.Fprintf(w, "backend\t%s, tls %s\n", s.Backend, proxy.Backend.TLS)
	fmt.Fprintf(w, "admin\t%s\n", proxy.Admin.Address)
	fmt.Fprintf(w, "policy\tgeneration %q in %s\n", s.Generation, proxy.PolicyDir)
	fmt.Fprintf(w, "client certificate\t%s\n", s.ClientAuth)
	summarizeTrust(w, s, now)
	summarizeKeys(w, s, proxy.PolicyDir)
	summarizeCertificates(w, s, now)
	summarizeRules(w, s, now)
	fmt.Fprintln(w, "ok")
	_ = w.Flush() // into memory
	return text.Bytes()
}

// joined lists addresses or networks.
func joined[T fmt.Stringer](items []T) string {
	list := make([]string, len(items))
	for i, item := range items {
		list[i] = item.String()
	}
	return strings.Join(list, ", ")
}

func summarizeTrust(w *tabwriter.Writer, s *policy.Snapshot, now time.Time) {
	for _, ca := range s.Trust.CAs() {
		fmt.Fprintf(w, "client CA\t%s, %s\n", ca.Subject, validity(ca.NotBefore, ca.NotAfter, now))
	}
	if all := s.Trust.CAs(); len(all) > 0 && !slices.ContainsFunc(all, func(ca tlsconf.CAInfo) bool { return !now.After(ca.NotAfter) }) {
		fmt.Fprintln(w, "WARNING\tevery client CA has EXPIRED: no certificate lets anybody in, and a running proxy refuses a policy that brings these CAs; use the CA that issues the clients' certificates now")
	}
	for _, list := range s.Trust.CRLs() {
		below := ""
		if list.Below {
			below = ", for clients that send this CA (client_ca does not have it)"
		}
		fmt.Fprintf(w, "CRL\tof %s, %d revoked%s, %s\n", list.Issuer, list.Revoked, below, lifetime(list.NextUpdate, now))
		if now.After(list.NextUpdate) {
			fmt.Fprintf(w, "WARNING\tthis CRL has EXPIRED: every client of %s is refused; have its issuer sign another one\n", list.Issuer)
		}
		if now.Before(list.ThisUpdate) {
			fmt.Fprintf(w, "WARNING\tthis CRL is NOT IN FORCE before %s UTC: what it revokes counts already, and what it no longer revokes counts until then; compare the clocks of this host and of the issuer\n",
				list.ThisUpdate.UTC().Format(time.DateTime))
		}
	}
}

// Bounds of the search for a CA's key.
const (
	maxSearched = 2000    // files and directories
	maxKeyFile  = 1 << 20 // bytes
)

// summarizeKeys warns of private keys of client CAs in the policy directory: whoever gets hold of this host could issue
// certificates with them, and nothing here needs them.
func summarizeKeys(w *tabwriter.Writer, s *policy.Snapshot, dir string) {
	searched := 0
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real // a walk does not follow its root
	}
	// What can't be read is no reason to fail: the policy itself was read.
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if searched++; searched > maxSearched {
			return fs.SkipAll
		}
		switch {
		case err != nil:
			return nil
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".."):
			return fs.SkipDir // a Kubernetes volume's; links above it lead to its files
		case entry.IsDir():
			return nil
		}
		info, err := os.Stat(path) // which may be a link
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxKeyFile {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		if subject, found := s.Trust.HasKeyOf(text); found {
			fmt.Fprintf(w, "WARNING\t%s has the private key of the client CA %s: whoever reads it can issue certificates that let in anybody; move it to where certificates are issued, off this host\n", path, subject)
		}
		return nil
	})
}

func summarizeCertificates(w *tabwriter.Writer, s *policy.Snapshot, now time.Time) {
	for i, c := range s.Certificates {
		role := ""
		if i == s.Default {
			role = " (default)"
		}
		fmt.Fprintf(w, "certificate\t%s%s, chain of %d, issued by %s, %s\n",
			strings.Join(c.Names(), " "), role, len(c.Chain), c.Leaf.Issuer, validity(c.NotBefore(), c.NotAfter(), now))
		if now.After(c.NotAfter()) {
			fmt.Fprintln(w, "WARNING\tthis certificate has EXPIRED: a running proxy leaves it out, unless it serves it already, and one that starts serves it, to clients that refuse it; install its successor")
		}
	}
}

func summarizeRules(w *tabwriter.Writer, s *policy.Snapshot, now time.Time) {
	rules := s.Rules.Rules()
	if len(rules) == 0 {
		fmt.Fprintln(w, "IP rules\tnone: nobody can connect")
	}
	for _, r := range rules {
		end := ""
		switch {
		case r.Expired(now):
			end = ", EXPIRED"
		case !r.ExpiresAt.IsZero():
			end = ", until " + r.ExpiresAt.UTC().Format(time.DateTime) + " UTC"
		}
		fmt.Fprintf(w, "IP rule\t%s\t%s%s\n", r.Prefix, r.Description, end)
	}
}

// validity is lifetime for what may not have begun.
func validity(begin, end, now time.Time) string {
	if now.Before(begin) {
		return "NOT VALID before " + begin.UTC().Format(time.DateTime) + " UTC: compare the clocks of this host and of the issuer"
	}
	return lifetime(end, now)
}

// lifetime returns until when something is valid, and how long that is.
func lifetime(end, now time.Time) string {
	days := int(end.Sub(now).Hours() / 24)
	date := end.UTC().Format(time.DateTime) + " UTC"
	if now.After(end) {
		return "EXPIRED on " + date
	}
	return fmt.Sprintf("valid until %s (%d days)", date, days)
}
