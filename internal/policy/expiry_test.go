package policy

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/testkit/testpki"
)

// heard are the warnings of one check, each as its level and message.
func (w *warnings) heard(t *testing.T, s *Snapshot, now time.Time) []string {
	t.Helper()
	var log bytes.Buffer
	w.check(s, now, zerolog.New(&log))
	var lines []string
	for line := range strings.Lines(log.String()) {
		var event struct{ Level, Message string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, event.Level+": "+event.Message)
	}
	return lines
}

// dated is a policy whose certificate, CA and list end at other times.
func dated(t *testing.T, certificate, ca, list time.Time) *Snapshot {
	t.Helper()
	begin := time.Now().Add(-time.Hour)
	authority := testpki.Authority("Space CA")
	authority.NotBefore, authority.NotAfter = begin, ca
	p := &pkiFiles{space: testpki.MustNewCA(t, authority)}
	server := testpki.Server("db.example.com")
	server.NotBefore, server.NotAfter = begin, certificate
	p.server = p.space.MustIssue(t, server)
	p.contents = map[string][]byte{"ca.pem": p.space.PEM(), "server.crt": p.server.CertPEM, "server.key": p.server.KeyPEM,
		"list.pem": p.space.MustCRL(t, testpki.CRL{ThisUpdate: begin, NextUpdate: list})}
	return p.build(t, required+"client_crl: [list.pem]\n")
}

const day = 24 * time.Hour

func TestWhatRunsOutIsSaidOnceADayAndOnceMoreAtItsEnd(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	end := now.Add(60 * day)
	s := dated(t, end, now.Add(400*day), now.Add(200*day))
	var w warnings
	for _, row := range []struct {
		at   time.Time
		want string // level and begin of the message; empty: nothing
	}{
		{now, ""},
		{end.Add(-certificateAhead - time.Second), ""},
		{end.Add(-certificateAhead), "warn: the server certificate CN=db.example.com expires soon; then clients that verify it refuse to connect"},
		{end.Add(-certificateAhead + time.Minute), ""},
		{end.Add(-certificateAhead + day - time.Second), ""},
		{end.Add(-certificateAhead + day), "warn: the server certificate CN=db.example.com expires soon"},
		{end.Add(-time.Second), "warn: "},
		{end, ""},
		{end.Add(time.Second), "error: the server certificate CN=db.example.com has expired: clients that verify it refuse to connect"},
		{end.Add(time.Hour), ""},
		{end.Add(25 * time.Hour), "error: "},
	} {
		got := w.heard(t, s, row.at)
		if row.want == "" && len(got) > 0 || row.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], row.want)) {
			t.Errorf("%v from the end: %q, want %q", row.at.Sub(end), got, row.want)
		}
	}
}

func TestCAsAndListsRunOutToo(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	s := dated(t, now.Add(400*day), now.Add(40*day), now.Add(20*day))
	var w warnings
	for _, row := range []struct {
		at   time.Time
		want string
	}{
		{now, ""},
		{now.Add(17*day - time.Second), ""},
		{now.Add(17 * day), "warn: the CRL of CN=Space CA expires soon; then the client certificates of its issuer are refused"},
		{now.Add(20*day + time.Second), "error: the CRL of CN=Space CA has expired: the client certificates of its issuer are refused"},
		{now.Add(27 * day), "warn: the client CA CN=Space CA expires soon; then its client certificates are refused"}, // the last third
		{now.Add(40*day + time.Second), "error: the client CA CN=Space CA has expired"},
	} {
		got := w.heard(t, s, row.at)
		if row.want == "" && len(got) > 0 || row.want != "" && !containsPrefix(got, row.want) {
			t.Errorf("after %v: %q, want %q", row.at.Sub(now), got, row.want)
		}
	}
}

func containsPrefix(list []string, prefix string) bool {
	for _, text := range list {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// Certificates of six days, or of hours, are renewed all the time, and must not be about to end all their lives.
func TestWarningsFollowTheLifetime(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	for life, ahead := range map[time.Duration]time.Duration{
		3 * time.Hour: time.Hour, 6 * day: 2 * day, 42 * day: 14 * day, 90 * day: 14 * day, 3650 * day: 14 * day,
	} {
		s := dated(t, now.Add(life-time.Hour), now.Add(36500*day), now.Add(36500*day)) // it has begun an hour ago
		end := s.Certificates[0].NotAfter()
		var w warnings
		if got := w.heard(t, s, end.Add(-ahead-2*time.Second)); len(got) > 0 {
			t.Errorf("a certificate of %v, %v before its end: %q", life, ahead, got)
		}
		if got := w.heard(t, s, end.Add(-ahead+2*time.Second)); len(got) != 1 || !strings.Contains(got[0], "server certificate CN=db.example.com expires soon") {
			t.Errorf("a certificate of %v, %v before its end: %q", life, ahead, got)
		}
	}
}

// A list that is made anew every hour would otherwise be about to end all the time.
func TestShortLivedListIsWarnedOfInItsLastQuarter(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	s := dated(t, now.Add(400*day), now.Add(400*day), now.Add(3*time.Hour)) // of 4 hours
	var w warnings
	if got := w.heard(t, s, now.Add(time.Hour+59*time.Minute)); len(got) > 0 {
		t.Errorf("an hour and a minute before the end: %q", got)
	}
	if got := w.heard(t, s, now.Add(2*time.Hour+time.Minute)); len(got) != 1 {
		t.Errorf("59 minutes before the end: %q", got)
	}
}

func TestNewPolicyIsWarnedOfAnew(t *testing.T) {
	now := time.Now()
	s := dated(t, now.Add(day), now.Add(400*day), now.Add(200*day))
	again := *s
	var w warnings
	at := now.Add(20 * time.Hour)
	if first, second, third := w.heard(t, s, at), w.heard(t, s, at), w.heard(t, &again, at); len(first) != 1 || len(second) != 0 || len(third) != 1 {
		t.Errorf("%q, %q, %q", first, second, third)
	}
}

func TestNothingIsSaidOfClientCAsThatAreNotUsed(t *testing.T) {
	p := newPKI(t)
	var w warnings
	if got := w.heard(t, p.build(t, off), time.Now()); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

func TestWhatIsNotValidYetIsSaidOnceADay(t *testing.T) {
	p := newPKI(t)
	now := time.Now().UTC().Truncate(time.Second)
	begin := now.Add(30 * time.Hour)
	server := testpki.Server("db.example.com")
	server.NotBefore, server.NotAfter = begin, begin.Add(400*day)
	pair := p.space.MustIssue(t, server)
	p.contents["server.crt"], p.contents["server.key"] = pair.CertPEM, pair.KeyPEM
	p.contents["list.pem"] = p.space.MustCRL(t, testpki.CRL{ThisUpdate: begin, NextUpdate: begin.Add(400 * day)})
	s := p.build(t, required+"client_crl: [list.pem]\n")
	want := []string{
		"warn: the server certificate CN=db.example.com is not valid yet: clients that verify it refuse to connect until then. Compare the clocks",
		"warn: the CRL of CN=Space CA is not valid yet: it counts already",
	}
	var w warnings
	for _, row := range []struct {
		at   time.Time
		said bool
	}{{now, true}, {now.Add(time.Hour), false}, {now.Add(25 * time.Hour), true}, {begin.Add(-time.Second), false}, {begin, false}, {begin.Add(48 * time.Hour), false}} {
		got := w.heard(t, s, row.at)
		if !row.said && len(got) > 0 {
			t.Errorf("%v before the begin: %q", begin.Sub(row.at), got)
		}
		for _, line := range want {
			if row.said && !containsPrefix(got, line) {
				t.Errorf("%v before the begin: %q lacks %q", begin.Sub(row.at), got, line)
			}
		}
	}
}
