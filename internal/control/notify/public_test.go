package notify

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// publicNotice is a notice of a public certificate, with all that one may have.
func publicNotice(kind Kind) Notice {
	return Notice{ID: "n-4", Kind: kind, At: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), Database: "orders", Space: "main", Ends: time.Date(2026, 12, 24, 6, 0, 0, 0, time.UTC),
		Public: &Public{Host: "db-1.pg.example.com", URL: "postgres://db-1.pg.example.com:5432/", PreviousURL: "postgres://orders.internal:5432/", CA: "letsencrypt",
			Issuer: "YE2", Reason: "caa_forbids", Detail: "the CAA records allow other.test", Until: time.Date(2026, 12, 2, 3, 4, 0, 0, time.UTC)}}
}

func TestEveryPublicKindSaysWhatHappenedAndWhatToRun(t *testing.T) {
	const status = "pgmtls enhanced-certificates status orders"
	for kind, c := range map[Kind]struct {
		command string
		says    []string
	}{
		ConnectionChanged: {"pgmtls url orders", []string{"by postgres://db-1.pg.example.com:5432/ from now on", "postgres://orders.internal:5432/, stays valid"}},
		EnhancedFailing:   {status, []string{"expires on 2026-12-24 06:00 UTC", "The last problem: the CAA records allow other.test"}},
		EnhancedEnding:    {"pgmtls enhanced-certificates upload orders --cert FILE --key FILE", []string{"expires on 2026-12-24 06:00 UTC", "nobody renews it"}},
		EnhancedExpired:   {status, []string{"expired on 2026-12-24 06:00 UTC", "private name"}},
		EnhancedChain:     {status, []string{"YE2 has issued it"}},
		ACMEAccount:       {"pgmtls acme status", []string{"letsencrypt refuses", "the CAA records allow other.test"}},
		ACMELimited:       {"pgmtls acme status", []string{"letsencrypt wants no order", "before 2026-12-02 03:04 UTC"}},
	} {
		n := publicNotice(kind)
		if err := n.check(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		m, err := n.words()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(c.says, "    "+c.command+"\n", "host         db-1.pg.example.com\n") {
			if !strings.Contains(m.body, want) {
				t.Errorf("%s lacks %q:\n%s", kind, want, m.body)
			}
		}
		for _, other := range []string{"certificate  ", "serial  ", "proxy  ", "0001"} {
			if strings.Contains(m.body, other) {
				t.Errorf("%s has %q:\n%s", kind, other, m.body)
			}
		}
		n.Public = nil
		if n.check() == nil {
			t.Errorf("%s without its certificate is sent", kind)
		}
	}
	for kind := range wordings {
		n := publicNotice(kind)
		if n.Kind.isPublic() && n.check() != nil {
			t.Errorf("%s is public and has no case here", kind)
		}
	}
}

// On disable, it is the previous URL that ends.
func TestNoticeOfADisabledCertificateSaysThatThePublicURLEnds(t *testing.T) {
	n := publicNotice(ConnectionChanged)
	n.Public.URL, n.Public.PreviousURL = n.Public.PreviousURL, n.Public.URL
	m, err := n.words()
	if err != nil || !strings.Contains(m.body, "postgres://db-1.pg.example.com:5432/, ends: its certificate is withdrawn") {
		t.Errorf("%v\n%s", err, m.body)
	}
}

// Of an account nothing else is known: the parts that are absent leave no empty lines.
func TestNoticeOfAnAuthorityNamesNoDatabase(t *testing.T) {
	n := Notice{ID: "n-5", Kind: ACMEAccount, At: time.Now(), Public: &Public{CA: "letsencrypt", Detail: "the terms have changed."}}
	m, err := n.words()
	if err != nil || !strings.Contains(m.body, "account: the terms have changed. ") && !strings.Contains(m.body, "account: the terms have changed.\n") || !strings.HasSuffix(m.body, "\n    pgmtls acme status\n\nauthority    letsencrypt\n") {
		t.Errorf("%v\n%s", err, m.body)
	}
}

func TestWebhookHasBothURLsOfAConnection(t *testing.T) {
	var got struct {
		Type string
		Data struct {
			Database string
			Public   Public
			Ends     time.Time
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(text, &got)
		}
		if err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	secrets, err := ParseSecrets([]byte("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n"))
	if err != nil {
		t.Fatal(err)
	}
	n := publicNotice(ConnectionChanged)
	if err := (Webhook{URL: server.URL, Secrets: secrets}).Send(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if got.Type != "connection.changed" || got.Data.Database != "orders" || got.Data.Public != *n.Public || !got.Data.Ends.Equal(n.Ends) {
		t.Errorf("%+v", got)
	}
}
