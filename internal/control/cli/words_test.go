package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 500, time.UTC)

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]string{
		"2026-11-22":                "2026-11-23T00:00:00Z",
		"2027-01-31":                "2027-02-01T00:00:00Z",
		"2027-01-31T18:00:00+02:00": "2027-01-31T16:00:00Z",
		"8h":                        "2026-11-22T20:00:00Z",
		"1h30m":                     "2026-11-22T13:30:00Z",
		"30d":                       "2026-12-22T12:00:00Z",
		"36500d":                    "2126-10-29T12:00:00Z",
	} {
		got, err := parseUntil(text, noon)
		if err != nil || got.Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %v, %v, not %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "d", "1.5d", "-1d", "0d", "36501d", "99999999999999999999d", "-1h", "0s", "2026-11-21",
		"2026-13-01", "2020-01-01T00:00:00Z", "10", "1 d"} {
		if got, err := parseUntil(text, noon); err == nil || ExitCode(err) != 2 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestElapsedTimesAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 143 * time.Millisecond: "143 ms", 2400 * time.Millisecond: "2.4 s", 59 * time.Second: "59.0 s",
		3*time.Minute + 59*time.Second: "3 min", 5 * time.Hour: "5 h", 47 * time.Hour: "47 h", 49 * time.Hour: "2 days",
	} {
		if got := elapsed(d); got != want {
			t.Errorf("%v is %q, not %q", d, got, want)
		}
	}
}

func TestQuotedWordsAreOneWordOfAShell(t *testing.T) {
	for text, want := range map[string]string{
		"/home/me/postgresql.crt": "/home/me/postgresql.crt", "": "''", "my files": "'my files'", "it's": `'it'\''s'`,
		"$(reboot)": "'$(reboot)'", "a;b": "'a;b'", "~x": "'~x'", "é": "'é'", "a\nb": "'a\nb'",
	} {
		if got := quote(text); got != want {
			t.Errorf("%q is %s, not %s", text, got, want)
		}
	}
}

func TestTextOfOthersDoesNotCommandTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain é 漢": "plain é 漢", "\x1b[31mred": "\ufffd[31mred", "a\nb\tc\r": "a\ufffdb\ufffdc\ufffd", "\u202eevil": "\ufffdevil", "\xff": "\ufffd",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q is %q, not %q", text, got, want)
		}
	}
}

// An agent that lies chooses texts that come back in the answers: encoding/json leaves C1, DEL and bidi in them.
func TestJSONForPeopleCommandsNoTerminal(t *testing.T) {
	said := api.ProxyAcknowledgement{Proxy: "edge", Error: "\u009b2J\u007f\u202eevil\u2066 \x1b[2J <é>"}
	var out strings.Builder
	if err := (&printer{to: &out, json: true}).show(said, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"error": "\u009b2J\u007f\u202eevil\u2066 \u001b[2J <é>"`) {
		t.Errorf("show prints %q", out.String())
	}
	var read api.ProxyAcknowledgement
	if err := json.Unmarshal([]byte(out.String()), &read); err != nil || read.Error != said.Error {
		t.Errorf("it is read as %q, %v", read.Error, err)
	}
	out.Reset()
	if err := (&printer{to: &out, json: true}).event(api.Record{Actor: "agent:\u009b\u2028"}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"agent:\u009b\u2028"`) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("an event is %q", out.String())
	}
}

func TestTablesAreAlignedByCharacters(t *testing.T) {
	var out strings.Builder
	(&printer{to: &out}).table([]string{"A", "B"}, []string{"é", "1"}, []string{"long", ""})
	if want := "A     B\né     1\nlong\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

func TestClockOfAProxyIsShownAsFarAsItMatters(t *testing.T) {
	for seconds, want := range map[int64]string{0: "ok", 29: "ok", -29: "ok", 30: "+30.0 s", 600: "+10 min", -600: "-10 min", 61 * 86400: "+61 days"} {
		if got := clock(api.ProxyAcknowledgement{ClockSkew: &seconds}); got != want {
			t.Errorf("%d s: %q, want %q", seconds, got, want)
		}
	}
	if got := clock(api.ProxyAcknowledgement{}); got != "-" {
		t.Errorf("not known: %q", got)
	}
}
