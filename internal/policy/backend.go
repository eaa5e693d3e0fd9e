package policy

import (
	"errors"

	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/sockopt"
	"pgmtls-proxy/internal/tlsconf"
)

// NewTarget makes the way to PostgreSQL that proxy.yaml describes. Its certificates are read now, and once: the backend is
// the operator's, and changes with a restart. The error is [config.Problems].
func NewTarget(b config.Backend, tcp sockopt.TCP) (*backend.Target, error) {
	target := &backend.Target{Network: b.Network, Address: b.Address, ConnectTimeout: b.ConnectTimeout, TCP: tcp}
	if b.TLS == config.BackendTLSOff {
		return target, nil
	}
	var problems config.Problems
	read := func(f config.File, what kind) []byte {
		if f.Path == "" {
			return nil
		}
		text, err := readFile(f.Path, what)
		if err != nil {
			problems = append(problems, config.Problem{Position: f.Position, Field: f.Field, Value: f.Path, Message: "is refused: " + err.Error()})
		}
		return text
	}
	settings := tlsconf.BackendTLS{
		Mode:       tlsconf.Mode(b.TLS),
		CA:         read(b.CA, publicFile),
		Cert:       read(b.Cert, publicFile),
		Key:        read(b.Key, keyFile),
		ServerName: b.ServerName,
	}
	if len(problems) > 0 {
		return nil, problems
	}
	tls, err := tlsconf.Backend(settings)
	files := map[string]config.File{tlsconf.BackendCA: b.CA, tlsconf.CertificateFile: b.Cert, tlsconf.KeyFile: b.Key}
	for _, problem := range flatten(err) {
		problems = append(problems, backendProblem(problem, files))
	}
	if len(problems) > 0 {
		return nil, problems
	}
	target.TLS = tls
	return target, nil
}

// backendProblem finds the line of proxy.yaml that names the file that an error is about.
func backendProblem(err error, files map[string]config.File) config.Problem {
	var about *tlsconf.FileError
	if errors.As(err, &about) {
		f := files[about.File]
		return config.Problem{Position: f.Position, Field: f.Field, Value: f.Path, Message: "is refused: " + about.Err.Error()}
	}
	return config.Problem{Field: "backend", Message: err.Error()}
}
