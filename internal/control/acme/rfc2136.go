package acme

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// TSIGKey is the shared key of dynamic updates (RFC 8945).
type TSIGKey struct {
	Name      string // absolute
	Algorithm string // as in dns.HmacSHA256
	secret    string // in base64
}

// String leaves the secret out.
func (k TSIGKey) String() string { return k.Name + " (" + k.Algorithm + ")" }

// A key file as tsig-keygen writes it, comments taken out.
var (
	tsigComment   = regexp.MustCompile(`(?s)//[^\n]*|#[^\n]*|/\*.*?\*/`)
	tsigKey       = regexp.MustCompile(`^\s*key\s+"?([A-Za-z0-9._-]+)"?\s*\{\s*([^{}]*)\}\s*;?\s*$`)
	tsigStatement = regexp.MustCompile(`^\s*(algorithm|secret)\s+"?([A-Za-z0-9+/=._-]+)"?\s*$`)
)

var tsigAlgorithms = map[string]string{
	"hmac-sha1": dns.HmacSHA1, "hmac-sha224": dns.HmacSHA224, "hmac-sha256": dns.HmacSHA256, "hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512,
}

var errTSIGFile = errors.New(`it is no key as tsig-keygen writes it: key "NAME" { algorithm hmac-sha256; secret "BASE64"; };`)

// ParseTSIGKey reads a key file as tsig-keygen of BIND writes it. Errors never show what is in it.
func ParseTSIGKey(text []byte) (TSIGKey, error) {
	text = tsigComment.ReplaceAll(text, nil)
	match := tsigKey.FindSubmatch(bytes.TrimSpace(text))
	if match == nil {
		return TSIGKey{}, errTSIGFile
	}
	key := TSIGKey{Name: canonical(string(match[1]))}
	for statement := range strings.SplitSeq(string(match[2]), ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		parts := tsigStatement.FindStringSubmatch(statement)
		if parts == nil {
			return TSIGKey{}, errTSIGFile
		}
		if parts[1] == "secret" {
			key.secret = parts[2]
			continue
		}
		if key.Algorithm = tsigAlgorithms[strings.ToLower(parts[2])]; key.Algorithm == "" {
			return TSIGKey{}, errors.New("its algorithm is none of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384 and hmac-sha512; make another key: tsig-keygen -a hmac-sha256 acme")
		}
	}
	if key.Algorithm == "" {
		return TSIGKey{}, errTSIGFile
	}
	if secret, err := base64.StdEncoding.DecodeString(key.secret); err != nil || len(secret) == 0 {
		return TSIGKey{}, errors.New("its secret is not base64; copy the file again")
	}
	return key, nil
}

// RFC2136 makes records by dynamic updates of a zone's primary server.
type RFC2136 struct {
	Server string // host and port
	Zone   string // that is updated
	Key    TSIGKey
}

// Present implements [Solver].
func (s *RFC2136) Present(ctx context.Context, record TXT) error {
	return s.update(ctx, record, (*dns.Msg).Insert)
}

// Remove implements [Solver].
func (s *RFC2136) Remove(ctx context.Context, record TXT) error {
	return s.update(ctx, record, (*dns.Msg).Remove)
}

func (s *RFC2136) update(ctx context.Context, record TXT, change func(*dns.Msg, []dns.RR)) error {
	if !isBelow(record.Name, s.Zone) {
		return fmt.Errorf("%s is not in the zone %s that may be changed; make a record: %s CNAME %s", record.Name, s.Zone, record.Name, "a name below "+s.Zone)
	}
	message := new(dns.Msg).SetUpdate(canonical(s.Zone))
	change(message, []dns.RR{&dns.TXT{
		Hdr: dns.RR_Header{Name: record.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: recordTTL},
		Txt: []string{record.Value},
	}})
	answer, err := s.exchange(ctx, message)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case answer != nil && answer.Rcode == dns.RcodeNotAuth:
		return fmt.Errorf("the name server %s does not accept the key %s for zone %s; see that both have the same key, algorithm and time, and that it is the primary of the zone", s.Server, s.Key, s.Zone)
	case answer != nil && answer.Rcode == dns.RcodeRefused:
		return fmt.Errorf("the name server %s refuses to change TXT records of %s by the key %s; grant it, as in update-policy { grant %s zonesub TXT; }", s.Server, s.Zone, s.Key, s.Key.Name)
	case err != nil:
		return fmt.Errorf("change %s at the name server %s: %w", record.Name, s.Server, err)
	case answer.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("the name server %s answers %s to a change of %s", s.Server, dns.RcodeToString[answer.Rcode], record.Name)
	}
	return nil
}

// exchange sends a signed message by TCP. With an error there may be an answer as well: one that is not signed, as a
// server gives it that does not know the key.
func (s *RFC2136) exchange(ctx context.Context, message *dns.Msg) (*dns.Msg, error) {
	message.SetTsig(s.Key.Name, s.Key.Algorithm, 300, time.Now().Unix())
	client := &dns.Client{Net: "tcp", Timeout: queryTimeout * 3, TsigSecret: map[string]string{s.Key.Name: s.Key.secret}}
	answer, _, err := client.ExchangeContext(ctx, message, s.Server)
	return answer, err
}

// Check asks whether the server has the zone.
func (s *RFC2136) Check(ctx context.Context) error {
	resolver := Resolver{Servers: []string{s.Server}}
	records, at, err := resolver.query(ctx, s.Zone, dns.TypeSOA)
	if err == nil && (len(records) == 0 || at != canonical(s.Zone)) {
		err = newProblem(DNSFailed, "the name server %s has no zone %s; create it there, or name the zone that it has", s.Server, s.Zone)
	}
	return err
}
