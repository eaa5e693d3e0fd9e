package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/secretfile"
)

// ClientFile is client.yaml: which control plane to ask, and as whom. Relative paths are relative to the file.
type ClientFile struct {
	URL       string `yaml:"url"`
	CA        string `yaml:"ca,omitempty"` // PEM file; empty: the system's CAs
	TokenFile string `yaml:"token_file,omitempty"`
}

// Text is the file's content.
func (f ClientFile) Text() ([]byte, error) { return yaml.Marshal(f) }

// server is what the flags say.
type server struct{ url, ca, tokenFile string }

// settings is what they and everything else come to.
type settings struct {
	url     string
	urlFrom string // where it is written, for errors
	ca      []byte
	token   string
	tokenAt string // where it is written, for errors
}

const (
	maxToken      = 4 << 10
	maxClientFile = 64 << 10
	maxPEM        = 256 << 10
)

// find puts flags, environment and client.yaml together, in this order. What client.yaml says of the CA and the token
// counts only with its own URL: a token must not get to a server that it was not made for.
func (a *app) find() (settings, error) {
	s := settings{url: a.server.url, urlFrom: "--url"}
	if s.url == "" {
		s.url, s.urlFrom = a.env.Getenv("PGMTLS_URL"), "PGMTLS_URL"
	}
	file := ClientFile{}
	if s.url == "" {
		var err error
		if file, s.urlFrom, err = a.clientFile(); err != nil {
			return settings{}, err
		}
		s.url = file.URL
	}
	if path := first(a.server.ca, a.env.Getenv("PGMTLS_CA"), file.CA); path != "" {
		var err error
		if s.ca, err = readFile(path, maxPEM); err != nil {
			return settings{}, fmt.Errorf("read the control plane's CA: %w", err)
		}
	}
	if err := a.findToken(&s, file); err != nil {
		return settings{}, err
	}
	return s, nil
}

func (a *app) findToken(s *settings, file ClientFile) error {
	path := a.server.tokenFile
	if path == "" {
		if s.token = strings.TrimSpace(string(safetext.WithoutMark([]byte(a.env.Getenv("PGMTLS_TOKEN"))))); s.token != "" {
			s.tokenAt = "PGMTLS_TOKEN"
			return goodToken(s.token, s.tokenAt)
		}
		path = first(a.env.Getenv("PGMTLS_TOKEN_FILE"), file.TokenFile)
	}
	if path == "" {
		return nil // some commands need none, and the server says so to the others
	}
	text, err := readToken(path)
	if err != nil {
		return err
	}
	s.token, s.tokenAt = text, path
	return goodToken(text, path)
}

// clientFile reads the first client.yaml that there is.
func (a *app) clientFile() (file ClientFile, path string, err error) {
	candidates := a.clientFiles()
	looked := []string{"  --url and PGMTLS_URL: not set"}
	for _, path := range candidates {
		text, err := readFile(path, maxClientFile)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			looked = append(looked, "  "+path+": does not exist")
			continue
		case errors.Is(err, fs.ErrPermission):
			looked = append(looked, "  "+path+": permission denied")
			continue
		case err != nil:
			return ClientFile{}, "", fmt.Errorf("read the client's settings: %w", err)
		}
		if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
			return ClientFile{}, "", fmt.Errorf("the client's settings in %s: %s", path, yaml.FormatError(err, false, true))
		}
		if file.URL == "" {
			return ClientFile{}, "", fmt.Errorf("the client's settings in %s have no url: write one, such as https://127.0.0.1:9816", path)
		}
		file.CA, file.TokenFile = beside(path, file.CA), beside(path, file.TokenFile)
		return file, path, nil
	}
	return ClientFile{}, "", fmt.Errorf("no control plane is configured. Looked at:\n%s\nSet --url, or start one with pgmtls serve", strings.Join(looked, "\n"))
}

// clientFiles lists where to look: one place when it is named, else the person's own and then the machine's.
func (a *app) clientFiles() []string {
	if path := a.env.Getenv("PGMTLS_CONFIG"); path != "" {
		return []string{path}
	}
	var paths []string
	if dir := a.env.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		paths = append(paths, filepath.Join(dir, "pgmtls", "client.yaml"))
	} else if home := a.env.Getenv("HOME"); home != "" {
		paths = append(paths, filepath.Join(home, ".config", "pgmtls", "client.yaml"))
	}
	return append(paths, a.env.ClientFiles...)
}

func beside(file, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// goodToken finds what is certainly no token, and does not show it: it may be another secret.
func goodToken(text, from string) error {
	if !strings.HasPrefix(text, "pgmtls_") || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s does not contain a token: a token begins with pgmtls_ and has no spaces", from)
	}
	return nil
}

// readToken reads a token file. It must be its owner's alone, or handed out by root as private keys may be; the check is made on the
// file that is open.
func readToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && secretfile.Check(info, os.Geteuid()) != nil {
		return "", fmt.Errorf("others can read the token in %s (mode %04o): chmod 600 %s, or in a Kubernetes volume set defaultMode: 0440 and the pod's fsGroup", path, mode, path)
	}
	text, err := readBounded(file, maxToken)
	if err != nil {
		return "", fmt.Errorf("read the token in %s: %w", path, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// readFile reads a file that should be small.
func readFile(path string, bound int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := readBounded(file, bound)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

func readBounded(from io.Reader, bound int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, bound+1))
	if err == nil && int64(len(text)) > bound {
		err = fmt.Errorf("it is longer than %d bytes: check that it is the right file", bound)
	}
	return safetext.WithoutMark(text), err
}
