package cli

import (
	"context"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
	"pgmtls-proxy/internal/control/authority"
)

func (a *app) certificates() *cobra.Command {
	list := &cobra.Command{
		Use:               "list DB",
		Short:             "List the client certificates of a database",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			certificates, err := s.Certificates(s, s.args[0])
			if err != nil {
				return err
			}
			return s.out.show(certificates, func() { s.out.certificates(s.args[0], certificates) })
		}),
	}
	return a.client(group(&cobra.Command{
		Use:   "certificates DB",
		Short: "Manage the client certificates of a database",
	}, list, a.createCertificate(), a.getCertificate(), a.deleteCertificate(), a.keepCertificate(), a.downloadCertificate()))
}

func (p *printer) certificates(database string, certificates []api.Certificate) {
	if len(certificates) == 0 {
		p.line("There are no certificates. Create one: pgmtls certificates create %s --name NAME", clean(database))
		return
	}
	var all []string
	for _, c := range certificates {
		all = append(all, c.ID)
	}
	id := p.ids(all)
	rows := [][]string{{"ID", "NAME", "STATUS", onlyWide + "CREATED", "EXPIRES", "NOTE"}}
	for _, c := range certificates {
		rows = append(rows, []string{id(c.ID), c.Name, c.Status, moment(c.CreatedAt), p.moment(c.ExpiresAt), p.noteOf(c, id)})
	}
	p.table(rows...)
}

// noteOf returns what will become of a certificate.
func (p *printer) noteOf(c api.Certificate, id func(string) string) string {
	switch {
	case c.Status == api.Disabled || c.Status == api.Disabling:
		return ""
	case !c.DisableAt.IsZero():
		return "will be revoked " + p.moment(c.DisableAt)
	case c.Successor != "":
		return "replaced by " + id(c.Successor)
	}
	return ""
}

func (p *printer) certificate(c api.Certificate) {
	p.block(
		row{"id", c.ID}, row{"name", c.Name}, row{"status", c.Status}, row{"serial", c.Serial},
		row{"created", moment(c.CreatedAt)}, row{"updated", moment(c.UpdatedAt)}, row{"expires", moment(c.ExpiresAt)},
		row{"will be revoked", moment(c.DisableAt)}, row{"replaces", c.Predecessor}, row{"replaced by", c.Successor},
	)
}

// certificateFlag is --id of a certificate.
func (a *app) certificateFlag(cmd *cobra.Command, id *string) {
	cmd.Flags().StringVar(id, "id", "", "the certificate's `id`")
	_ = cmd.MarkFlagRequired("id") // it is there
	a.ids(cmd, certificateIDs)
}

func (a *app) createCertificate() *cobra.Command {
	var (
		name, request string
		wait          waiting
		fetch         bool
		files         download
	)
	cmd := &cobra.Command{
		Use:   "create DB",
		Short: "Issue a client certificate",
		Example: `  pgmtls certificates create shop --name reporting --download --dir ~/.postgresql
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=reporting -keyout my.key -out my.csr
  pgmtls certificates create shop --name reporting --csr my.csr --wait`,
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			asked := api.NewCertificate{Name: name}
			if request != "" {
				var err error
				if asked.CSR, err = readRequest(request); err != nil {
					return err
				}
			}
			if fetch {
				if err := after(files.check(), files.free()); err != nil {
					return err
				}
			}
			since := s.app.env.Now()
			created, err := s.CreateCertificate(s, s.args[0], asked)
			if err != nil {
				return err
			}
			waited := s.reach(wait, certificateTarget(s, certificateWait{certificate: &created, want: api.Ready, since: since}))
			if !fetch {
				return after(waited, s.out.show(created, func() {
					s.out.certificate(created)
					s.out.line("")
					s.out.line("To download it: pgmtls certificates download %s --id %s", clean(s.args[0]), created.ID)
				}))
			}
			if !s.app.json {
				s.out.certificate(created)
				s.out.line("")
			}
			files.id = created.ID
			return after(waited, files.fetch(s))
		}),
	}
	cmd.Flags().StringVar(&name, "name", "", "name of its holder")
	cmd.Flags().StringVar(&request, "csr", "", "`file` with a certificate request, if the client keeps its own key")
	_ = cmd.MarkFlagFilename("csr", "csr", "pem") // it is there
	wait.flags(cmd, api.Ready)
	cmd.Flags().BoolVar(&fetch, "download", false, "also write its files, as certificates download does")
	files.flags(cmd)
	return cmd
}

// maxRequest bounds a certificate request, in bytes. The largest key makes about 2 KiB.
const maxRequest = 16 << 10

// readRequest reads a request in PEM or DER, and gives it in PEM. It is checked here so that nothing else, such as the
// key beside it, is ever sent.
func readRequest(path string) (string, error) {
	text, err := readFile(path, maxRequest)
	if err != nil {
		return "", usage(fmt.Errorf("read the certificate request: %w", err))
	}
	if _, err := authority.ParseRequest(text); err != nil {
		return "", usage(fmt.Errorf("%s: %w", path, err))
	}
	der := text
	if block, _ := pem.Decode(text); block != nil {
		der = block.Bytes
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// certificateWait is what is waited for; the certificate is kept up to date meanwhile.
type certificateWait struct {
	certificate *api.Certificate
	want        string
	since       time.Time
}

func certificateTarget(s *session, w certificateWait) target {
	return target{
		database: s.args[0], kind: api.WaitingCertificate, id: w.certificate.ID, name: or(w.certificate.Name, w.certificate.ID),
		want: w.want, since: w.since,
		// The list has no keys, which should not travel once more with each question.
		state: func(ctx context.Context) (string, error) {
			certificates, err := s.Certificates(ctx, s.args[0])
			if err != nil {
				return "", err
			}
			for _, now := range certificates {
				if now.ID == w.certificate.ID {
					*w.certificate = now
					return now.Status, nil
				}
			}
			return "", fmt.Errorf("certificate %s does not exist any more", w.certificate.ID)
		},
	}
}

func (a *app) getCertificate() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:               "get DB --id ID",
		Short:             "Show a client certificate; with --json including its key",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			whole, err := s.wholeCertificate(id)
			if err != nil {
				return err
			}
			certificate, err := s.Certificate(s, s.args[0], whole)
			if err != nil {
				return err
			}
			return s.out.show(certificate, func() { s.out.certificate(certificate) })
		}),
	}
	a.certificateFlag(cmd, &id)
	return cmd
}

func (a *app) deleteCertificate() *cobra.Command {
	var (
		id, later string
		wait      waiting
	)
	cmd := &cobra.Command{
		Use:               "delete DB --id ID",
		Short:             "Revoke a client certificate and end its sessions",
		Example:           "  pgmtls certificates delete shop --id 0b2e… --after 24h   # until then, pgmtls certificates keep undoes it",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			whole, err := s.wholeCertificate(id)
			if err != nil {
				return err
			}
			deletion := apiclient.Deletion{Database: s.args[0], ID: whole}
			if later != "" {
				var err error
				if deletion.After, err = parseDuration(later); err != nil {
					return err
				}
			}
			since := s.app.env.Now()
			certificate, err := s.DeleteCertificate(s, deletion)
			if err != nil {
				return err
			}
			waited := s.reach(wait, certificateTarget(s, certificateWait{certificate: &certificate, want: api.Disabled, since: since}))
			if wait.wanted && waited == nil && !s.app.json {
				return nil // it is said already that it is disabled
			}
			return after(waited, s.out.show(certificate, func() {
				s.out.certificate(certificate)
				if !certificate.DisableAt.IsZero() && certificate.Status != api.Disabling {
					s.out.line("")
					s.out.line("To keep it: pgmtls certificates keep %s --id %s", clean(s.args[0]), certificate.ID)
				}
				if certificate.Successor != "" {
					s.out.line("")
					s.out.line("Its successor stays valid, and has the same key if the client made that itself. To revoke it, too: pgmtls certificates delete %s --id %s",
						clean(s.args[0]), clean(certificate.Successor))
				}
			}))
		}),
	}
	a.certificateFlag(cmd, &id)
	cmd.Flags().StringVar(&later, "after", "", "revoke it after this `duration`, such as 24h or 7d")
	wait.flags(cmd, "disabled on every proxy")
	cmd.MarkFlagsMutuallyExclusive("after", "wait")
	return cmd
}

func (a *app) keepCertificate() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:               "keep DB --id ID",
		Short:             "Cancel a scheduled revocation (delete --after)",
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			whole, err := s.wholeCertificate(id)
			if err != nil {
				return err
			}
			certificate, err := s.KeepCertificate(s, s.args[0], whole)
			if err != nil {
				return err
			}
			return s.out.show(certificate, func() { s.out.certificate(certificate) })
		}),
	}
	a.certificateFlag(cmd, &id)
	return cmd
}

func (a *app) downloadCertificate() *cobra.Command {
	var files download
	cmd := &cobra.Command{
		Use:   "download DB --id ID",
		Short: "Write a client certificate, its key and the root certificate to files",
		Long: `Writes the files that a client needs to a directory:

  PREFIXpostgresql.crt   the certificate
  PREFIXpostgresql.key   its key, PKCS #8 in PEM, readable only by you
  PREFIXroot.crt         the CA certificates that verify the server

With --format pk8 the key is PREFIXpostgresql.pk8, in DER as the JDBC driver requires. With --format p12 certificate
and key are PREFIXpostgresql.p12, under the password of --password-file or PGMTLS_P12_PASSWORD, or one that is generated and
shown once.`,
		Example: `  pgmtls certificates download shop --id 0b2e… --dir ~/.postgresql
  pgmtls certificates download shop --id 0b2e… --prefix shop- --format pk8`,
		Args:              exactly(1),
		ValidArgsFunction: a.databaseNames(),
		RunE: a.run(func(s *session) error {
			if err := files.check(); err != nil {
				return err
			}
			return files.fetch(s)
		}),
	}
	cmd.Flags().StringVar(&files.id, "id", "", "the certificate's `id`; optional if only one is usable")
	a.ids(cmd, certificateIDs)
	files.flags(cmd)
	return cmd
}
