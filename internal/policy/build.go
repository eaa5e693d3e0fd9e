package policy

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"pgmtls-proxy/internal/allowlist"
	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/tlsconf"
)

// Builder turns what was read into a snapshot. Its fields are the same for every policy of a process.
type Builder struct {
	Backend    *backend.Target
	MinVersion uint16 // of TLS with clients: tls.VersionTLS12 or tls.VersionTLS13
	Database   string // name of the database, for policies that have none in their header; may be empty
}

// Build builds a snapshot, or gives all problems as [config.Problems], each with the line of the policy that it hangs
// on. Nothing is parsed per connection that can be parsed here.
//
// A server certificate only answers clients; it does not decide who comes in. So one that has expired does not keep a
// rule or a revocation from coming into force: one that is in force already stays, and one that is new is left out, and
// stands in [Snapshot.LeftOut].
func (b Builder) Build(files *Files, previous *Snapshot, now time.Time) (*Snapshot, error) {
	p := files.Policy
	build := building{files: files}
	s := &Snapshot{
		Generation: p.Generation,
		Database:   cmp.Or(files.Database, b.Database),
		Digest:     files.Digest,
		LoadedAt:   now,
		Rules:      build.rules(),
		ClientAuth: p.ClientAuth,
		Backend:    b.Backend,
		OnRemoval:  p.OnRemoval,
		EndGrace:   p.EndGrace,
		identities: p.Identities,
		inputs:     build.trustInputs(),
	}
	if previous != nil && previous.inputs == s.inputs {
		s.Trust = previous.Trust // the same verdicts: live sessions need not be judged again
	} else {
		s.Trust = build.trust()
		if previous != nil {
			build.checkClientCAs(s.Trust, previous.Trust, now)
			s.Trust.Inherit(previous.Trust)
		}
	}
	build.certificates(s, previous, now)
	if len(build.problems) > 0 {
		return nil, build.problems
	}
	s.TLS = tlsconf.Server{
		Certificates: s.Certificates,
		Default:      s.Default,
		ClientAuth:   handshakeAuth(p.ClientAuth),
		ClientCAs:    s.Trust,
		MinVersion:   b.MinVersion,
	}.Config()
	return s, nil
}

func handshakeAuth(auth config.ClientAuth) tlsconf.ClientAuth {
	switch auth {
	case config.ClientAuthOff:
		return tlsconf.Off
	case config.ClientAuthOptional:
		return tlsconf.Optional
	}
	return tlsconf.Required
}

// building collects what is wrong.
type building struct {
	files    *Files
	problems config.Problems
}

func (b *building) refuse(at config.Position, field, path string, err error) {
	b.problems = append(b.problems, config.Problem{Position: at, Field: field, Value: path, Message: "is refused: " + err.Error()})
}

func (b *building) rules() *allowlist.Set {
	rules := make([]allowlist.Rule, 0, len(b.files.Policy.IPRules))
	for _, r := range b.files.Policy.IPRules {
		rules = append(rules, allowlist.Rule{ID: r.ID, Prefix: r.CIDR, Description: r.Description, ExpiresAt: r.ExpiresAt})
	}
	set, err := allowlist.New(rules)
	if err != nil {
		b.refuse(config.Position{File: b.files.PolicyPath()}, "ip_rules", "", err)
	}
	return set
}

// trust builds what judges client certificates. With client_auth off there is nobody to judge.
func (b *building) trust() *tlsconf.ClientVerifier {
	p := b.files.Policy
	if p.ClientAuth == config.ClientAuthOff {
		return nil
	}
	inputs := tlsconf.TrustFiles{CAs: b.read(p.ClientCA), CRLs: b.read(p.ClientCRL), Revoked: serials(p.Revoked)}
	trust, err := tlsconf.NewClientVerifier(inputs)
	for _, problem := range flatten(err) {
		b.refuseFile(problem, append(p.ClientCA, p.ClientCRL...))
	}
	return trust
}

// checkClientCAs refuses new CAs that have all expired: they would let in nobody. CAs that have expired since they came into force go on,
// so that a rule or a revocation still does, and so they do at the start.
func (b *building) checkClientCAs(trust, previous *tlsconf.ClientVerifier, now time.Time) {
	expired := func(v *tlsconf.ClientVerifier) bool {
		return !slices.ContainsFunc(v.CAs(), func(ca tlsconf.CAInfo) bool { return !now.After(ca.NotAfter) })
	}
	if trust == nil || !expired(trust) || previous != nil && expired(previous) {
		return
	}
	for _, f := range b.files.Policy.ClientCA {
		b.refuse(f.Position, f.Field, f.Path, errors.New("every CA of client_ca has expired, so it could let in nobody; use the CA that issues the clients' certificates now"))
	}
}

// trustInputs is a digest of all that trust is built from.
func (b *building) trustInputs() [sha256.Size]byte {
	p := b.files.Policy
	hash := sha256.New()
	fmt.Fprintf(hash, "%t %d %d %v\n", p.ClientAuth == config.ClientAuthOff, len(p.ClientCA), len(p.ClientCRL), p.Revoked)
	for _, f := range append(slices.Clone(p.ClientCA), p.ClientCRL...) {
		text := b.files.Contents[f.Path]
		fmt.Fprintf(hash, "%d\n", len(text))
		hash.Write(text)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

func (b *building) read(list []config.File) []tlsconf.File {
	files := make([]tlsconf.File, 0, len(list))
	for _, f := range list {
		files = append(files, tlsconf.File{Name: f.Path, Text: b.files.Contents[f.Path]})
	}
	return files
}

func serials(list []config.Serial) []*big.Int {
	numbers := make([]*big.Int, 0, len(list))
	for _, s := range list {
		numbers = append(numbers, s.Int())
	}
	return numbers
}

// refuseFile finds the line that names the file that an error is about.
func (b *building) refuseFile(err error, candidates []config.File) {
	var about *tlsconf.FileError
	if errors.As(err, &about) {
		for _, f := range candidates {
			if f.Path == about.File {
				b.refuse(f.Position, f.Field, f.Path, about.Err)
				return
			}
		}
	}
	b.refuse(config.Position{File: b.files.PolicyPath()}, "client_ca", "", err)
}

// certificates gives a snapshot its server certificates. In the place of one that is left out goes on what the same
// file gave before; if nothing is left, all of those before go on.
func (b *building) certificates(s, previous *Snapshot, now time.Time) {
	for _, c := range b.files.Policy.Certificates {
		certificate, err := tlsconf.ParseServerCertificate(b.files.Contents[c.Cert.Path], b.files.Contents[c.Key.Path])
		for _, problem := range flatten(err) {
			b.refusePair(problem, c)
		}
		if err != nil {
			continue
		}
		if now.After(certificate.NotAfter()) && !previous.serves(certificate.Leaf) {
			s.LeftOut = append(s.LeftOut, config.Problem{Position: c.Cert.Position, Field: c.Cert.Field, Value: c.Cert.Path,
				Message: "is left out: it has expired on " + certificate.NotAfter().UTC().Format(time.DateTime), Fix: "install its successor"})
			if certificate = previous.certificateOf(c.Cert.Path); certificate == nil {
				continue
			}
		}
		if c.Default {
			s.Default = len(s.Certificates)
		}
		s.Certificates = append(s.Certificates, certificate)
		s.certificateFiles = append(s.certificateFiles, c.Cert.Path)
	}
	if len(s.Certificates) == 0 && len(s.LeftOut) > 0 { // there is a snapshot before: without one nothing is left out
		s.Certificates, s.certificateFiles, s.Default = previous.Certificates, previous.certificateFiles, previous.Default
	}
}

func (b *building) refusePair(err error, c config.Certificate) {
	file := c.Cert
	var about *tlsconf.FileError
	if errors.As(err, &about) {
		err = about.Err
		if about.File == tlsconf.KeyFile {
			file = c.Key
		}
	}
	b.refuse(file.Position, file.Field, file.Path, err)
}

// serves reports whether a certificate is one of the snapshot's. At the start, when there is none before, every one
// counts as served: a restart must not fail where the running process would go on.
func (s *Snapshot) serves(leaf *x509.Certificate) bool {
	if s == nil {
		return true
	}
	for _, c := range s.Certificates {
		if bytes.Equal(c.Leaf.Raw, leaf.Raw) {
			return true
		}
	}
	return false
}

// certificateOf is the certificate that a file gave, or nil.
func (s *Snapshot) certificateOf(path string) *tlsconf.Certificate {
	if i := slices.Index(s.certificateFiles, path); i >= 0 {
		return s.Certificates[i]
	}
	return nil
}

// flatten lists the errors that were joined into one.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
