package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/authority"
)

// The forms of a key.
const (
	formatPEM = "pem"
	formatPK8 = "pk8"
	formatP12 = "p12"
)

// passwordVariable has the password of a PKCS #12 file.
const passwordVariable = "PGMTLS_P12_PASSWORD"

// download writes a certificate's files.
type download struct {
	id           string
	prefix, dir  string
	format       string
	key          string // file, when the client keeps its own key
	passwordFile string
	force        bool
}

func (d *download) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&d.prefix, "prefix", "", "prefix of the file names")
	flags.StringVar(&d.dir, "dir", ".", "the `directory` to write to")
	flags.StringVar(&d.format, "format", formatPEM, "format of the key: pem, pk8 or p12")
	flags.StringVar(&d.key, "key", "", "`file` with your own key, for pk8 or p12 if the certificate was created with --csr")
	flags.StringVar(&d.passwordFile, "password-file", "", "`file` with the password of a p12")
	flags.BoolVar(&d.force, "force", false, "overwrite existing files that differ")
	choices(cmd, "format", formatPEM, formatPK8, formatP12)
	_ = cmd.MarkFlagDirname("dir") // it is there
}

// check finds what is wrong before anything is asked for.
func (d *download) check() error {
	if !slices.Contains([]string{formatPEM, formatPK8, formatP12}, d.format) {
		return usage(fmt.Errorf("--format %s: must be pem, pk8 or p12", d.format))
	}
	if strings.ContainsRune(d.prefix, filepath.Separator) {
		return usage(fmt.Errorf("--prefix %s contains %c: name the directory with --dir", d.prefix, filepath.Separator))
	}
	if d.passwordFile != "" && d.format != formatP12 {
		return usage(errors.New("--password-file is for --format p12"))
	}
	if d.key != "" && d.format == formatPEM {
		return usage(errors.New("--key is for --format pk8 and p12: you already have your key as PEM"))
	}
	return nil
}

// fetched is what a download came to, as --json shows it.
type fetched struct {
	Certificate string `json:"certificate,omitempty"` // files
	Key         string `json:"key,omitempty"`
	Root        string `json:"root"`
	Password    string `json:"password,omitempty"` // of a p12, when it was made here
}

// places returns the directory, and the files that there are to be.
func (d *download) places() (dir string, files fetched, err error) {
	if dir, err = filepath.Abs(d.dir); err != nil {
		return "", fetched{}, fmt.Errorf("find %s: %w", d.dir, err)
	}
	place := func(name string) string { return filepath.Join(dir, d.prefix+name) }
	files = fetched{Certificate: place("postgresql.crt"), Root: place("root.crt")}
	switch d.format {
	case formatPEM:
		files.Key = place("postgresql.key")
	case formatPK8:
		files.Key = place("postgresql.pk8")
	case formatP12:
		files.Certificate, files.Key = "", place("postgresql.p12")
	}
	return dir, files, nil
}

// free refuses when the files of a certificate that is still to be made would be in the way of others. The root
// certificate may be there: it is the same for all.
func (d *download) free() error {
	_, files, err := d.places()
	if err != nil || d.force {
		return err
	}
	for _, path := range []string{files.Certificate, files.Key} {
		if _, err := os.Lstat(path); path != "" && err == nil {
			return fmt.Errorf("%s already exists, so no certificate was created. Choose another --prefix or --dir, or overwrite it with --force", path)
		}
	}
	return nil
}

// fetch gets the files and writes them, all or none of them as far as it is known beforehand.
func (d *download) fetch(s *session) error {
	id, err := d.choose(s)
	if err != nil {
		return err
	}
	files, err := s.CertificateFiles(s, s.args[0], id)
	if err != nil {
		return err
	}
	dir, result, err := d.places()
	if err != nil {
		return err
	}
	writes := []write{{path: result.Root, content: []byte(files.Root), mode: 0o644}}
	if result.Certificate != "" {
		writes = append(writes, write{path: result.Certificate, content: []byte(files.CertificateWithChain), mode: 0o644})
	}
	key, err := d.encode(s, files, &result)
	if err != nil {
		return err
	}
	if key == nil {
		result.Key = ""
	} else {
		// A p12 is different each time that it is made, so it is in its own way the second time.
		writes = append(writes, write{path: result.Key, content: key, mode: 0o600})
	}
	if err := writeAll(dir, writes, d.force); err != nil {
		return err
	}
	return s.out.show(result, func() { s.out.fetched(result) })
}

// choose returns the id of the flag, or of the only certificate that can be used.
func (d *download) choose(s *session) (string, error) {
	if d.id != "" {
		return s.wholeCertificate(d.id)
	}
	certificates, err := s.Certificates(s, s.args[0])
	if err != nil {
		return "", err
	}
	var usable []string
	for _, c := range certificates {
		if c.Status == api.Ready || c.Status == api.Pending {
			usable = append(usable, c.ID)
		}
	}
	if len(usable) != 1 {
		return "", usage(fmt.Errorf("%s has %s that can be used: choose one with --id; pgmtls certificates %[1]s lists them",
			clean(s.args[0]), count(len(usable), "certificate")))
	}
	return usable[0], nil
}

// encode returns the content of the key's file, nil when there is none to write.
func (d *download) encode(s *session, files api.CertificateFiles, result *fetched) ([]byte, error) {
	key := []byte(files.PrivateKey)
	if len(key) == 0 && d.key != "" {
		var err error
		if key, err = readFile(d.key, maxPEM); err != nil {
			return nil, usage(fmt.Errorf("read your key: %w", err))
		}
		if err := authority.MatchesKey([]byte(files.CertificateWithChain), key); err != nil {
			return nil, usage(fmt.Errorf("%s: %w", d.key, err))
		}
	}
	switch {
	case len(key) == 0 && d.format == formatPEM:
		return nil, nil
	case len(key) == 0:
		return nil, usage(fmt.Errorf("the certificate was created with --csr, so only you have its key: name its file with --key FILE, to include it in the %s", d.format))
	case d.format == formatPK8:
		return authority.EncodePK8(key)
	case d.format == formatP12:
		password, made, err := d.password(s.app.env)
		if err != nil {
			return nil, err
		}
		if made {
			result.Password = password
		}
		return authority.EncodeP12(authority.P12{
			CertificatePEM: []byte(files.CertificateWithChain), KeyPEM: key, CAPEM: []byte(files.Root), Password: password,
		})
	}
	return key, nil
}

// password is that of the PKCS #12 file, and whether it was made here.
func (d *download) password(env Env) (password string, made bool, err error) {
	if d.passwordFile != "" {
		text, err := readFile(d.passwordFile, maxToken)
		if err != nil {
			return "", false, usage(fmt.Errorf("read the password: %w", err))
		}
		if password = strings.TrimRight(string(text), "\r\n"); password == "" {
			return "", false, usage(fmt.Errorf("%s is empty: write the password to it", d.passwordFile))
		}
		return password, false, nil
	}
	if password = env.Getenv(passwordVariable); password != "" {
		return password, false, nil
	}
	return rand.Text(), true, nil
}

// fetched prints where the files are, and how libpq is told.
func (p *printer) fetched(result fetched) {
	for _, path := range []string{result.Certificate, result.Key, result.Root} {
		if path != "" {
			p.line("wrote %s", path)
		}
	}
	if result.Password != "" {
		p.line("password of the .p12, shown only once: %s", result.Password)
	}
	p.line("")
	if strings.HasSuffix(result.Key, ".pk8") || strings.HasSuffix(result.Key, ".p12") {
		parameters := jdbcFiles(result)
		if strings.HasSuffix(result.Key, ".p12") {
			parameters += "&sslpassword=PASSWORD"
		}
		p.line("For JDBC:  %s", parameters)
		return
	}
	key := result.Key
	if key == "" {
		key = "YOUR.key"
	}
	p.exports(fetched{Certificate: result.Certificate, Key: key, Root: result.Root})
	if result.Key == "" {
		p.line("")
		p.line("The certificate was created with --csr: replace YOUR.key with the file of your own key.")
	}
}
