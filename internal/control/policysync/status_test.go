package policysync

import (
	"encoding/json"
	"fmt"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/testkit/must"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// ours are the digests of generations 1 to 5: "d1" to "d5".
func ours(digest string) int64 {
	var generation int64
	if n, _ := fmt.Sscanf(digest, "d%d", &generation); n == 1 && generation > 0 && generation <= 5 {
		return generation
	}
	return 0
}

func TestInForceIsOnlyWhatTheReceiptsProve(t *testing.T) {
	const at = `"2026-11-22T04:00:00Z"`
	for name, c := range map[string]struct {
		policy           string
		receipts         []string // digest, and a ! if in force
		applied, inForce int64
	}{
		"nothing loaded":                             {"", nil, 0, 0},
		"applied":                                    {"d2", []string{"d2"}, 2, 0},
		"in force":                                   {"d2", []string{"d2!"}, 2, 2},
		"the one before is":                          {"d3", []string{"d2!", "d3"}, 3, 2},
		"some before are":                            {"d3", []string{"d1!", "d2", "d3"}, 3, 1},
		"applied, its receipt not written yet":       {"d3", []string{"d2!"}, 3, 2},
		"somebody's policy is applied":               {"x", []string{"d2!", "x!"}, 0, 0},
		"ours again, behind somebody's":              {"d2", []string{"d2!", "x!", "d2"}, 2, 0},
		"ours in force again, behind somebody's":     {"d2", []string{"x!", "d2!"}, 2, 2},
		"a generation of a future that was replaced": {"d2", []string{"d5!"}, 2, 0},
		"no receipt at all":                          {"d2", nil, 2, 0},
		"a generation that is not known any more":    {"d4", []string{"d9!", "d4"}, 4, 0},
	} {
		var receipts []string
		for _, r := range c.receipts {
			digest, inForce := strings.CutSuffix(r, "!")
			text := fmt.Sprintf(`{"digest":%q,"applied_at":%s,"in_force_at":null}`, digest, at)
			if inForce {
				text = strings.Replace(text, "null", at, 1)
			}
			receipts = append(receipts, text)
		}
		body := fmt.Sprintf(`{"policy":null,"receipts":[%s]}`, strings.Join(receipts, ","))
		if c.policy != "" {
			body = strings.Replace(body, "null", fmt.Sprintf(`{"digest":%q,"loaded_at":%s}`, c.policy, at), 1)
		}
		s, err := parseStatus([]byte(body))
		must.OK(t, err)
		if r := s.report(ours); r.Applied != c.applied || r.InForce != c.inForce || (r.InForce > 0) == r.InForceAt.IsZero() {
			t.Errorf("%s: applied %d, in force %d (%v), want %d, %d", name, r.Applied, r.InForce, r.InForceAt, c.applied, c.inForce)
		}
	}
}

func TestAReportHasWhatTheProxySays(t *testing.T) {
	s, err := parseStatus([]byte(`{"version":"1.2","policy":{"digest":"d2","loaded_at":"2026-01-02T03:04:05+01:00"},"reload":{"error":"broken"},
		"receipts":[{"digest":"d2","sessions_ended":{"certificate_revoked":3},"sessions_kept":4,"in_force_at":"2026-01-02T02:04:06Z"}],
		"client_certificates":[{"serial":"0A0b","sessions":2,"last_seen":"2026-01-01T00:00:00Z"},{"serial":"0a:0b","sessions":1},{"serial":"no serial"}]}`))
	must.OK(t, err)
	want := api.Report{
		Applied: 2, AppliedAt: time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC), InForce: 2, InForceAt: time.Date(2026, 1, 2, 2, 4, 6, 0, time.UTC),
		Ended: map[string]int{"certificate_revoked": 3}, Kept: 4, Error: "broken", ErrorKind: api.ErrorRefused, ProxyVersion: "1.2",
		Certificates: map[string]api.Usage{"0a:0b": {Sessions: 3, LastSeen: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}},
	}
	if got := s.report(ours); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// hostile are answers that no proxy gives.
var hostile = []string{
	`null`, `{}`, `[]`, `{"policy":{}}`, `{"policy":{"digest":"d1","loaded_at":"9999-12-31T23:59:59-23:59"}}`,
	`{"policy":{"digest":"d1","loaded_at":"0000-01-01T00:00:00+23:59"},"receipts":[null,{"digest":"d1","sessions_kept":-5,"sessions_ended":{"\u001b[2J":-9,"":9223372036854775807}}]}`,
	`{"version":"\u0000\ud800","reload":{"error":"\u202e` + strings.Repeat("é", 5000) + `"}}`,
	`{"client_certificates":[{"serial":"","sessions":-1},{"serial":"01","sessions":9223372036854775807},{"serial":"1","sessions":9223372036854775807}]}`,
	`{"ok":true,"sessions":[{"conn":"\n","certificate":null,"since":"9999-12-31T23:59:59-23:59"}],"ended_by_certificate":[{"serial":"x","sessions":-1}],"problems":[{"text":"\u0007"}]}`,
}

func FuzzStatus(f *testing.F) {
	for _, text := range hostile {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := parseStatus(body)
		if err != nil {
			return
		}
		r := s.report(ours)
		if r.InForce > r.Applied || r.Applied > 5 || r.Kept < 0 || len(r.Ended) > maxReasons || len(r.Certificates) > maxCertificates {
			t.Errorf("out of bounds: %+v", r)
		}
		for reason, n := range r.Ended {
			checkText(t, reason, maxShortText)
			checkCount(t, n)
		}
		for serial, u := range r.Certificates {
			checkText(t, serial, 3*20)
			checkCount(t, u.Sessions)
		}
		checkText(t, r.Error, maxErrorText)
		checkText(t, r.ProxyVersion, maxShortText)
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("can't be sent on: %v", err)
		}
	})
}

func FuzzEffect(f *testing.F) {
	for _, text := range hostile {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := parseEffect(body)
		if err != nil {
			return
		}
		checkCount(t, e.Ended)
		checkCount(t, e.Kept)
		if len(e.Problems) > maxListed || len(e.Sessions) > maxListed || len(e.ByCertificate) > maxListed || len(e.ByRule) > maxReasons {
			t.Errorf("out of bounds: %+v", e)
		}
		for _, p := range e.Problems {
			checkText(t, p, maxErrorText)
		}
		for _, s := range e.Sessions {
			checkText(t, s.User, maxShortText)
		}
		if _, err := json.Marshal(e); err != nil {
			t.Errorf("can't be sent on: %v", err)
		}
	})
}

func checkText(t *testing.T, text string, limit int) {
	t.Helper()
	if len(text) > limit || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x07\x1b\u202e\r") {
		t.Errorf("%d bytes: %q", len(text), text[:min(len(text), 200)])
	}
}

func checkCount(t *testing.T, n int) {
	t.Helper()
	if n < 0 || n > maxCount {
		t.Errorf("%d is no count", n)
	}
}
