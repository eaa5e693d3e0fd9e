package notify

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func successorNotice() Notice {
	ends := time.Date(2027, 1, 5, 14, 0, 0, 0, time.UTC)
	return Notice{ID: "n-1", Kind: CertificateSuccessor, At: ends.AddDate(0, 0, -75), Database: "orders", Space: "main",
		Certificate: &Certificate{ID: "11111111-1111", Name: "billing", Serial: "1f:0a", ExpiresAt: ends,
			Successor: &Certificate{ID: "22222222-2222", Name: "billing", Serial: "1f:0b", ExpiresAt: ends.AddDate(0, 12, 17)}}}
}

func TestEveryKindSaysWhatToRun(t *testing.T) {
	alone := func(n Notice, own bool) Notice {
		n.Certificate.Successor, n.Certificate.OwnKey = nil, own
		return n
	}
	for _, c := range []struct {
		kind   Kind
		notice Notice
		want   string
	}{
		{CertificateSuccessor, successorNotice(), "pgmtls certificates download orders --id 22222222-2222 --dir ."},
		{CertificateExpiring, successorNotice(), "pgmtls certificates download orders --id 22222222-2222 --dir ."},
		{CertificateExpiring, alone(successorNotice(), false), "pgmtls certificates create orders --name billing"},
		{CertificateExpiring, alone(successorNotice(), true), "pgmtls certificates create orders --name billing --csr FILE"},
		{CertificateExpired, alone(successorNotice(), false), "pgmtls certificates create orders --name billing"},
		{CAExpiring, alone(successorNotice(), false), "pgmtls ca rotate main"},
	} {
		c.notice.Kind = c.kind
		m, err := c.notice.words()
		if err != nil {
			t.Fatal(err)
		}
		subject := "orders"
		if c.kind == CAExpiring {
			subject = "main"
		}
		if m.command != c.want || !strings.Contains(m.subject, subject) || !strings.Contains(m.subject, "2027-01-05") || !strings.Contains(m.body, "    "+c.want+"\n") {
			t.Errorf("%s: %q, %q\n%s", c.kind, m.command, m.subject, m.body)
		}
	}
}

func clockNotice(skew time.Duration) Notice {
	return Notice{ID: "n-2", Kind: ProxyClock, At: time.Date(2026, 10, 22, 14, 0, 0, 0, time.UTC), Database: "orders", Space: "main", Proxy: "edge", Skew: skew}
}

func TestNoticeOfARestoreSaysThatChangesAreUndone(t *testing.T) {
	n := clockNotice(0)
	n.Kind = PolicyOvertaken
	m, err := n.words()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.check(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(m.subject, "edge") || !strings.Contains(m.body, "undone") || !strings.Contains(m.body, "pgmtls audit --database orders") || strings.Contains(m.body, "certificate  ") {
		t.Errorf("%q\n%s", m.subject, m.body)
	}
}

func TestNoticeOfTheStoreNamesNeitherProxyNorCertificate(t *testing.T) {
	n := Notice{ID: "n-3", Kind: StoreSpace, At: time.Date(2026, 10, 22, 14, 0, 0, 0, time.UTC), Shortage: "its disk has 500 MiB left"}
	if err := n.check(); err != nil {
		t.Error(err)
	}
	m, err := n.words()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.body, "out of space: its disk has 500 MiB left. ") || !strings.Contains(m.body, "    pgmtls store compact\n") {
		t.Errorf("%q\n%s", m.subject, m.body)
	}
	for _, other := range []string{"proxy  ", "certificate  ", "space  ", "database  ", "0001", "\n\n\n"} {
		if strings.Contains(m.body, other) {
			t.Errorf("the mail has %q:\n%s", other, m.body)
		}
	}
}

// The first kind of notice that names no certificate has its own words and says nothing of one.
func TestNoticeOfAClockNamesTheProxyAndNoCertificate(t *testing.T) {
	for skew, want := range map[time.Duration]string{
		10*time.Minute + time.Millisecond: "orders: the clock of the proxy edge is 10m0s ahead of the control plane's",
		-61 * 24 * time.Hour:              "orders: the clock of the proxy edge is 1464h0m0s behind the control plane's",
	} {
		m, err := clockNotice(skew).words()
		if err != nil {
			t.Fatal(err)
		}
		if m.subject != want || m.command != "pgmtls proxies list orders" || !strings.Contains(m.body, "proxy        edge\n") || !strings.Contains(m.body, "    "+m.command+"\n") {
			t.Errorf("%v: %q, %q\n%s", skew, m.subject, m.command, m.body)
		}
		if strings.Contains(m.body, "certificate  ") || strings.Contains(m.body, "0001") {
			t.Errorf("the mail tells of a certificate:\n%s", m.body)
		}
	}
}

func TestOwnTextStandsInPlaceOfTheAdvice(t *testing.T) {
	n := successorNotice()
	n.Text = "Ask Ann."
	m, err := n.words()
	if err != nil || !strings.Contains(m.body, "What to do: Ask Ann.\n") || strings.Contains(m.body, "Give the successor") {
		t.Errorf("%v\n%s", err, m.body)
	}
}

func TestMalformedNoticesAreSentToNobody(t *testing.T) {
	for name, change := range map[string]func(*Notice){
		"no id":            func(n *Notice) { n.ID = "" },
		"a header as id":   func(n *Notice) { n.ID = "a\r\nBcc: x" },
		"a long id":        func(n *Notice) { n.ID = strings.Repeat("a", 129) },
		"another alphabet": func(n *Notice) { n.ID = "é" },
		"no kind":          func(n *Notice) { n.Kind = "" },
		"unknown kind":     func(n *Notice) { n.Kind = "certificate.sold" },
		"no certificate":   func(n *Notice) { n.Certificate = nil },
		"nothing short":    func(n *Notice) { n.Kind, n.Certificate = StoreSpace, nil },
		"no proxy":         func(n *Notice) { n.Kind = ProxyClock },
	} {
		n := successorNotice()
		change(&n)
		var r receiver
		s := &smtpServer{}
		for _, sender := range []Sender{r.start(t, status(200)), plainServer(t, s)} {
			if err := sender.Send(t.Context(), n); !errors.Is(err, ErrPermanent) {
				t.Errorf("%s, %v: %v", name, sender, err)
			}
		}
		if r.count+len(s.received()) > 0 {
			t.Errorf("%s was sent", name)
		}
	}
}

// FuzzQuoted holds a command's words against a real shell: whatever a name is, it stays one word and starts nothing.
func FuzzQuoted(f *testing.F) {
	for _, s := range []string{"", "plain-1", "a b", "'", "'; touch /tmp/x; '", "$(id)", "`id`", "a\\", "-rf", "é\u202e", "a\nb", strings.Repeat("€", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cleaned := clean(text)
		if !utf8.ValidString(cleaned) || utf8.RuneCountInString(cleaned) > maxShown+1 || strings.ContainsFunc(cleaned, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("clean gives %q", cleaned)
		}
		out, err := exec.Command("sh", "-c", "printf '[%s]' "+quoted(cleaned)).Output()
		if err != nil || string(out) != "["+cleaned+"]" {
			t.Fatalf("%q becomes %q, %v", cleaned, out, err)
		}
	})
}

type sender struct {
	err   error
	calls atomic.Int32
}

func (s *sender) Send(context.Context, Notice) error { s.calls.Add(1); return s.err }

func TestFanTellsEverybodyAndNamesTheRest(t *testing.T) {
	later := errors.New("later")
	good, gone, busy := &sender{}, &sender{err: ErrPermanent}, &sender{err: later}
	all := Fan{good, gone, Fan{good, busy}}
	err := all.Send(t.Context(), successorNotice())
	fan, ok := errors.AsType[*FanError](err)
	if !ok || len(fan.Rest) != 1 || fan.Rest[0] != busy {
		t.Fatalf("%T %v, rest %v", err, err, fan.Rest)
	}
	if errors.Is(err, ErrPermanent) || !errors.Is(err, later) {
		t.Errorf("%v", err)
	}
	if good.calls.Load() != 2 || gone.calls.Load() != 1 || busy.calls.Load() != 1 {
		t.Errorf("calls: %d, %d, %d", good.calls.Load(), gone.calls.Load(), busy.calls.Load())
	}
	busy.err = nil
	if err := fan.Rest.Send(t.Context(), successorNotice()); err != nil || good.calls.Load() != 2 {
		t.Errorf("%v, %d calls", err, good.calls.Load())
	}
}

func TestFanIsPermanentOnlyWhenNobodyIsWorthAnotherAttempt(t *testing.T) {
	gone := &sender{err: ErrPermanent}
	if err := (Fan{gone, &sender{}, Fan{gone}}).Send(t.Context(), successorNotice()); !errors.Is(err, ErrPermanent) {
		t.Errorf("%v", err)
	}
	if err := (Fan{}).Send(t.Context(), successorNotice()); err != nil {
		t.Errorf("nobody to tell: %v", err)
	}
}

func TestSendersAreNamedWithoutTheirSecrets(t *testing.T) {
	w := Webhook{URL: "https://receiver.example.com/hunter22", Secrets: []string{newSecret}}
	m := Mail{Address: "mail.example.com:587", Username: "user", Password: "hunter22"}
	if w.String() != "webhook to receiver.example.com" || m.String() != "mail by mail.example.com:587" {
		t.Errorf("%v, %v", w, m)
	}
}
