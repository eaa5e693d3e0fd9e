package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// FormatPolicy writes a policy as text that [ParsePolicy] reads back as the same value, positions aside. Texts are
// quoted, whatever is in them; what restricts stands before what lets in; and the last line is "...", YAML's end of a
// document. Like any writer it can be given what no policy may say: who stores what it writes parses it first, and
// compares with [Policy.Equal].
func FormatPolicy(p *Policy) []byte {
	var b bytes.Buffer
	line := func(key, text string) { fmt.Fprintf(&b, "%s: %s\n", key, text) }
	line("generation", quoted(p.Generation))
	line("client_auth", string(p.ClientAuth))
	line("client_ca", flow(p.ClientCA, func(f File) string { return quoted(f.Path) }))
	line("client_crl", flow(p.ClientCRL, func(f File) string { return quoted(f.Path) }))
	line("revoked", flow(p.Revoked, func(s Serial) string { return quoted(s.String()) }))
	line("certificates", block(p.Certificates, formatCertificate))
	line("identities", block(p.Identities, formatIdentity))
	line("on_removal", string(p.OnRemoval))
	line("end_grace", brief(p.EndGrace))
	line("ip_rules", block(p.IPRules, formatRule))
	b.WriteString("...\n")
	return b.Bytes()
}

func formatCertificate(c Certificate) string {
	text := "{cert: " + quoted(c.Cert.Path) + ", key: " + quoted(c.Key.Path)
	if c.Default {
		text += ", default: true"
	}
	return text + "}"
}

func formatIdentity(i Identity) string {
	key, name := i.name()
	text := "{" + key + ": " + quoted(name)
	if i.AnyUser {
		return text + ", any_user: true}"
	}
	return text + ", users: " + flow(i.Users, quoted) + "}"
}

func formatRule(r IPRule) string {
	text := "{id: " + quoted(r.ID)
	if r.Description != "" {
		text += ", description: " + quoted(r.Description)
	}
	if !r.ExpiresAt.IsZero() {
		text += ", expires_at: " + quoted(r.ExpiresAt.UTC().Format(time.RFC3339Nano))
	}
	return text + ", cidr: " + quoted(r.CIDR.String()) + "}"
}

// flow is a list on one line.
func flow[T any](list []T, item func(T) string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = item(v)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// block is a list with a line for each item.
func block[T any](list []T, item func(T) string) string {
	if len(list) == 0 {
		return "[]"
	}
	var b strings.Builder
	for _, v := range list {
		b.WriteString("\n  - " + item(v))
	}
	return b.String()
}

// quoted is a text in double quotes on one line. What does not print is escaped, so nothing in it can be taken for
// YAML, and a person sees all of it.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Equal reports whether two policies say the same. Where it stands in a file does not matter.
func (p *Policy) Equal(q *Policy) bool {
	samePath := func(a, b File) bool { return a.Path == b.Path }
	return p.Generation == q.Generation && p.ClientAuth == q.ClientAuth &&
		slices.EqualFunc(p.ClientCA, q.ClientCA, samePath) && slices.EqualFunc(p.ClientCRL, q.ClientCRL, samePath) &&
		slices.Equal(p.Revoked, q.Revoked) &&
		slices.EqualFunc(p.Certificates, q.Certificates, func(a, b Certificate) bool {
			return samePath(a.Cert, b.Cert) && samePath(a.Key, b.Key) && a.Default == b.Default
		}) &&
		slices.EqualFunc(p.Identities, q.Identities, func(a, b Identity) bool {
			serial := a.Serial == b.Serial || a.Serial != nil && b.Serial != nil && *a.Serial == *b.Serial
			return serial && a.SubjectCN == b.SubjectCN && a.DNS == b.DNS && a.URI == b.URI && a.AnyUser == b.AnyUser && slices.Equal(a.Users, b.Users)
		}) &&
		p.OnRemoval == q.OnRemoval && p.EndGrace == q.EndGrace &&
		slices.EqualFunc(p.IPRules, q.IPRules, func(a, b IPRule) bool {
			return a.ID == b.ID && a.Description == b.Description && a.CIDR == b.CIDR && a.ExpiresAt.Equal(b.ExpiresAt)
		})
}
