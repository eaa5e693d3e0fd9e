package refusal

import (
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"pgmtls-proxy/internal/safetext"
)

func TestEveryReasonHasANameOfItsOwn(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`) // a metric label that nobody has to quote
	seen := map[string]Reason{}
	for _, r := range All() {
		name := r.String()
		if !form.MatchString(name) || name == "unknown" {
			t.Errorf("reason %d is called %q", r, name)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("reasons %d and %d are both called %s", other, r, name)
		}
		seen[name] = r
	}
	if len(seen) != int(reasons)-1 {
		t.Errorf("%d reasons have names, want %d", len(seen), reasons-1)
	}
}

// Drivers take XX000 and 58000 for bugs of the server, and pools retry them blindly.
func TestReasonsHaveCodesThatDriversUnderstand(t *testing.T) {
	allowed := map[string]bool{"08P01": true, "0A000": true, "28000": true, "53300": true, "57014": true, "57P01": true, "57P03": true, "57P05": true}
	for _, r := range All() {
		row := table[r]
		switch {
		case r.Silent() && (row.message != "" || row.hint != ""):
			t.Errorf("%s is silent and has a text", r)
		case r.Silent():
		case !allowed[r.SQLState()]:
			t.Errorf("%s has the SQLSTATE %q", r, r.SQLState())
		case row.message == "" || strings.HasSuffix(row.message, "."):
			t.Errorf("%s says %q; PostgreSQL's messages end without a period", r, row.message)
		case row.hint != "" && !strings.HasSuffix(row.hint, "."):
			t.Errorf("%s has the hint %q; PostgreSQL's are sentences", r, row.hint)
		case safetext.Escape(row.message+row.hint, 1<<20) != row.message+row.hint:
			t.Errorf("%s has a text that is not clean", r)
		}
	}
}

// libpq tries the next host on 57P03 alone, and sslmode=prefer falls back to plaintext on all others.
func TestWhatMayPassSoonIs57P03(t *testing.T) {
	for _, r := range []Reason{NoPolicy, Draining, BackendUnavailable} {
		if r.SQLState() != "57P03" {
			t.Errorf("%s has the SQLSTATE %s", r, r.SQLState())
		}
	}
}

func TestNumbersThatAreNoReasonSayNothing(t *testing.T) {
	for _, r := range []Reason{0, reasons, 255} {
		refused := &Refusal{Reason: r}
		if r.String() != "unknown" || !r.Silent() || refused.Response("id").SQLState != "" {
			t.Errorf("%d is %s, %q", r, r, refused.Response("id"))
		}
	}
}

func TestResponseNamesTheConnectionAndNotTheCause(t *testing.T) {
	cause := errors.New("dial unix /run/secret: refused")
	for _, row := range []struct {
		refused *Refusal
		want    Response
	}{
		{Because(BackendUnavailable, cause), Response{"57P03", "the database system is not available (connection 7zk)", "",
			"The gate is up, but the database behind it does not answer. Try again later."}},
		{New(CertificateExpired, "Client certificate \"%s\" has expired.", "CN=a\x1bb"), Response{"28000",
			"connection requires a valid client certificate (connection 7zk)", `Client certificate "CN=a\x1bb" has expired.`,
			"Download the current client certificate of this database."}},
		{&Refusal{Reason: AddressNotAllowed, Message: "no entry\nfor it", Hint: "ask\u202e"}, Response{"28000",
			`no entry\nfor it (connection 7zk)`, "", `ask\u202e`}},
		{&Refusal{Reason: UserNotAllowed, Message: strings.Repeat("x", 5000), Detail: strings.Repeat("y", 5000)}, Response{"28000",
			strings.Repeat("x", maxText) + "… (connection 7zk)", strings.Repeat("y", maxText) + "…", "Connect as a user that this client certificate is for."}},
	} {
		if got := row.refused.Response("7zk"); got != row.want {
			t.Errorf("got  %q\nwant %q", got, row.want)
		}
	}
	if got := New(NoClientCertificate, "").Response("").Message; got != "connection requires a valid client certificate" {
		t.Errorf("without a connection: %q", got)
	}
}

func TestErrorIsForTheLog(t *testing.T) {
	cause := &fs.PathError{Op: "open", Path: "/run/db", Err: fs.ErrNotExist}
	refused := Because(BackendUnavailable, cause)
	if !errors.Is(refused, fs.ErrNotExist) || refused.Error() != "backend_unavailable: open /run/db: file does not exist" {
		t.Errorf("%v", refused)
	}
	if text := New(CancelDenied, "a\nb").Error(); text != `cancel_denied: a\nb` {
		t.Errorf("%s", text)
	}
}
