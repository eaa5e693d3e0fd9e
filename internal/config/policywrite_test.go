package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// trickyTexts are texts that YAML, JSON or a reader of lines could take for something else.
var trickyTexts = []string{
	"? ask Bob what this is", "? a", "?", "- a", "-", ": a", ":", "a: b", "a:", "# a", "a # b", "%YAML 1.2", "@a", "`a`", "!tag", "!!str a", "&anchor", "*alias",
	"|", ">", "|-", ">+", "...", "---", "--- a", "<<", "<<: *a", "{a: b}", "[a]", "}", "]", ",", "'", "''", `"`, `""`, `\`, `\n`, `\u0041`, `\x`, "a\nb", "\na", "a\n", "a\r\nb", "\r",
	"a\tb", "\t", " ", "   ", " a", "a ", "a  b", "\u0085", "a\u0085b", "\u2028", "\u2029", "a\u2028b", "\ufeff", "\ufeffa", "a\ufeff", "\u00a0", "\u202e", "\u200b",
	"0", "42", "0x1f", "1e3", "010", "1_000", ".5", "+1", "-1", ".inf", ".nan", "null", "Null", "~", "yes", "no", "on", "off", "true", "False", "y", "2027-01-01", "12:34:56",
	"\U0001f3e2", "\U0001f468\u200d\U0001f469", "\U000e0001", "\U0010ffff", "\uffff", "\ufffd", "\ue000", "é", "e\u0301", "\x01", "\x1b[31m", "\x7f", "ip_rules: []", "=", "<&>", "a,b", "${HOME}", strings.Repeat("é", 128), strings.Repeat("? ", 128),
}

// full has every field that a policy can have. Its texts are those given.
func full(text, printable string) *Policy {
	serial, _ := ParseSerial("1f0a")
	other, _ := ParseSerial("00ff")
	return &Policy{
		Generation: printable, ClientAuth: ClientAuthRequired, ClientCA: []File{{Path: "a.pem"}, {Path: "b/c.pem"}}, ClientCRL: []File{{Path: "a.crl"}},
		Revoked: []Serial{serial, other}, OnRemoval: OnRemovalKeep, EndGrace: 90 * time.Second,
		Certificates: []Certificate{{Cert: File{Path: "a.crt"}, Key: File{Path: "a.key"}}, {Cert: File{Path: "b.crt"}, Key: File{Path: "b.key"}, Default: true}},
		Identities: []Identity{{SubjectCN: "cn " + printable, Users: []string{"u", "u" + cutText(text, 62)}}, {DNS: "a.example", AnyUser: true}, {URI: "urn:a:1", AnyUser: true},
			{Serial: &serial, Users: []string{"app"}}},
		IPRules: []IPRule{{ID: "r" + printable, CIDR: netip.MustParsePrefix("10.0.0.0/8"), Description: text, ExpiresAt: time.Date(2027, 1, 2, 3, 4, 5, 678, time.UTC)},
			{ID: "2", CIDR: netip.MustParsePrefix("::/0")}},
	}
}

func cutText(text string, size int) string {
	for len(text) > size {
		_, last := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-last]
	}
	return text
}

func checkRoundTrip(t *testing.T, p *Policy) {
	t.Helper()
	text := FormatPolicy(p)
	got, err := ParsePolicy("policy.yaml", text)
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, text)
	}
	if !got.Equal(p) || !p.Equal(got) {
		t.Fatalf("\n got %+v\nwant %+v\nof\n%s", got, p, text)
	}
}

func TestWrittenPolicyIsReadAsTheSame(t *testing.T) {
	for _, text := range trickyTexts {
		t.Run(fmt.Sprintf("%.20q", text), func(t *testing.T) { checkRoundTrip(t, full(text, "42")) })
	}
	checkRoundTrip(t, &Policy{ClientAuth: ClientAuthOff, OnRemoval: OnRemovalEnd, Certificates: []Certificate{{Cert: File{Path: "a"}, Key: File{Path: "b"}, Default: true}}})
}

// A field that the writer forgets, or that Equal does not look at, would be lost in silence.
func TestEveryFieldOfAPolicyIsWrittenAndCompared(t *testing.T) {
	want := full("text", "42")
	for i := range reflect.TypeFor[Policy]().NumField() {
		name := reflect.TypeFor[Policy]().Field(i).Name
		if reflect.ValueOf(*want).Field(i).IsZero() {
			t.Errorf("the test's policy has no %s", name)
		}
		less := *want
		reflect.ValueOf(&less).Elem().Field(i).SetZero()
		if want.Equal(&less) || string(FormatPolicy(want)) == string(FormatPolicy(&less)) {
			t.Errorf("%s does not count", name)
		}
	}
	for name, change := range map[string]func(*Policy){
		"cert": func(p *Policy) { p.Certificates[0].Cert.Path = "x" }, "key": func(p *Policy) { p.Certificates[0].Key.Path = "x" },
		"default": func(p *Policy) { p.Certificates[0].Default = true }, "subject_cn": func(p *Policy) { p.Identities[0].SubjectCN = "x" },
		"users": func(p *Policy) { p.Identities[0].Users[0] = "x" }, "dns": func(p *Policy) { p.Identities[1].DNS = "x" },
		"uri": func(p *Policy) { p.Identities[2].URI = "x:y" }, "any_user": func(p *Policy) { p.Identities[1].AnyUser = false },
		"serial": func(p *Policy) { p.Identities[3].Serial = &p.Revoked[1] }, "id": func(p *Policy) { p.IPRules[0].ID = "x" },
		"cidr": func(p *Policy) { p.IPRules[0].CIDR = p.IPRules[1].CIDR }, "description": func(p *Policy) { p.IPRules[0].Description = "x" },
		"expires_at": func(p *Policy) { p.IPRules[0].ExpiresAt = time.Time{} }, "client_ca": func(p *Policy) { p.ClientCA[1].Path = "x" },
	} {
		changed := full("text", "42")
		change(changed)
		if want.Equal(changed) || string(FormatPolicy(want)) == string(FormatPolicy(changed)) {
			t.Errorf("%s does not count", name)
		}
	}
}

// What can't be told apart by its text is told apart by Equal.
func TestTextThatIsNoUTF8DoesNotComeBack(t *testing.T) {
	p := full("a\xffb", "42")
	if got, err := ParsePolicy("policy.yaml", FormatPolicy(p)); err == nil && got.Equal(p) {
		t.Error("invalid UTF-8 came back the same")
	}
}

// FuzzFormatPolicy: whatever texts a policy has, what is written is read as the same, or refused.
func FuzzFormatPolicy(f *testing.F) {
	for _, text := range trickyTexts {
		f.Add(text, "42")
		f.Add("", text)
	}
	f.Fuzz(func(t *testing.T, text, printable string) {
		p := full(text, printable)
		written := FormatPolicy(p)
		got, err := ParsePolicy("p", written)
		if err == nil && utf8.ValidString(text) && utf8.ValidString(printable) && !got.Equal(p) {
			t.Fatalf("\n got %+v\nwant %+v\nof\n%s", got, p, written)
		}
		if _, known := (value{d: &decoder{}, node: node{kind: scalar, text: text}}).asText(textRule{0, 256, false}); known && err != nil {
			if _, good := (value{d: &decoder{}, node: node{kind: scalar, text: printable}}).asText(textRule{0, 100, true}); good {
				t.Fatalf("%v\nof\n%s", err, written)
			}
		}
	})
}
