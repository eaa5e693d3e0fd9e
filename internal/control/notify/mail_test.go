package notify

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMailSaysDatabaseCertificateDateAndCommand(t *testing.T) {
	s := &smtpServer{}
	if err := plainServer(t, s).Send(t.Context(), successorNotice()); err != nil {
		t.Fatal(err)
	}
	got := only(t, s)
	header, body := parsed(t, got.text)
	if subject := decoded(t, header.Get("Subject")); subject != "orders: certificate billing expires on 2027-01-05, its successor is ready" {
		t.Errorf("subject %q", subject)
	}
	for _, want := range []string{"database orders", "billing", "2027-01-05 14:00 UTC", "    pgmtls certificates download orders --id 22222222-2222 --dir .\n", "serial 1f:0b"} {
		if !strings.Contains(body, want) {
			t.Errorf("the body lacks %q:\n%s", want, body)
		}
	}
	if got.from != "FROM:<pgmtls@example.com>" || got.to != "TO:<ops@example.com>" {
		t.Errorf("envelope %q, %q", got.from, got.to)
	}
	for name, want := range map[string]string{"Message-Id": "<n-1@example.com>", "Auto-Submitted": "auto-generated", "From": "<pgmtls@example.com>", "To": "<ops@example.com>"} {
		if header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, header.Get(name), want)
		}
	}
}

func TestStartTLSIsInForceBeforeTheLogin(t *testing.T) {
	s := &smtpServer{}
	m := secureServer(t, s)
	m.Username, m.Password = "user", "pass word"
	if err := m.Send(t.Context(), successorNotice()); err != nil {
		t.Fatal(err)
	}
	got := only(t, s)
	if want := "PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00user\x00pass word")); !got.encrypted || got.login != want {
		t.Errorf("%+v", got)
	}
}

func TestTLSFromTheFirstByte(t *testing.T) {
	s := &smtpServer{first: true}
	m := secureServer(t, s)
	m.TLS, m.Username, m.Password = ImplicitTLS, "user", "pass"
	if err := m.Send(t.Context(), successorNotice()); err != nil {
		t.Fatal(err)
	}
	if got := only(t, s); !got.encrypted || got.login == "" {
		t.Errorf("%+v", got)
	}
}

func TestNoMailAndNoPasswordToAServerThatIsNotTrusted(t *testing.T) {
	for name, change := range map[string]func(*smtpServer, *Mail){
		"unknown authority, STARTTLS": func(_ *smtpServer, m *Mail) { m.RootCAs = nil },
		"unknown authority, TLS":      func(s *smtpServer, m *Mail) { s.first = true; m.TLS, m.RootCAs = ImplicitTLS, nil },
		"STARTTLS stripped":           func(s *smtpServer, _ *Mail) { s.answers = map[string]string{"EHLO": "250 mail.test"} },
	} {
		t.Run(name, func(t *testing.T) {
			s := &smtpServer{}
			change(s, &Mail{})
			m := secureServer(t, s)
			change(&smtpServer{}, &m)
			m.Username, m.Password = "user", "pass"
			err := m.Send(t.Context(), successorNotice())
			if err == nil || errors.Is(err, ErrPermanent) {
				t.Errorf("%v", err)
			}
			if got := s.received(); len(got) > 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestMailTextsCanNotAddHeadersOrRecipients(t *testing.T) {
	n := successorNotice()
	evil := "x\r\nBcc: evil@example.net\r\n\r\nhello\x1b[31m\u202e"
	n.Database, n.Space, n.Certificate.Name, n.Certificate.Serial, n.Certificate.ID, n.Certificate.Successor.Name, n.Text = evil, evil, evil, evil, evil, evil, "first\n.\r\nQUIT\r\n"+evil
	s := &smtpServer{}
	if err := plainServer(t, s).Send(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	header, body := parsed(t, only(t, s).text)
	names := []string{}
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}; !slices.Equal(names, want) {
		t.Errorf("headers %q", names)
	}
	if strings.ContainsAny(body+decoded(t, header.Get("Subject")), "\x1b\u202e") || strings.Contains(body, "\nBcc:  ") {
		t.Errorf("%q", body)
	}
	if !strings.Contains(body, "\n.\nQUIT\n") {
		t.Errorf("the text is not as written: %q", body)
	}
}

func TestOneRefusedRecipientKeepsNobodyElseFromBeingTold(t *testing.T) {
	s := &smtpServer{answers: map[string]string{"RCPT TO:<gone@": "550 5.1.1 no such user", "RCPT TO:<later@": "451 4.7.1 greylisted"}}
	m := plainServer(t, s)
	m.To = []string{"gone@example.com", "later@example.com", "ops@example.com"}
	err := m.Send(t.Context(), successorNotice())
	fan, ok := errors.AsType[*FanError](err)
	if !ok || errors.Is(err, ErrPermanent) || len(fan.Rest) != 1 {
		t.Fatalf("%T %v", err, err)
	}
	if rest, ok := fan.Rest[0].(Mail); !ok || !slices.Equal(rest.To, []string{"later@example.com"}) {
		t.Errorf("rest %v", fan.Rest)
	}
	if !strings.Contains(err.Error(), "no such user") || !strings.Contains(err.Error(), "greylisted") {
		t.Error(err)
	}
	if got := only(t, s); got.to != "TO:<ops@example.com>" {
		t.Errorf("%+v", got)
	}
}

func TestWhatAMailServerSaysForGoodIsPermanent(t *testing.T) {
	for name, c := range map[string]struct {
		command, answer string
		permanent       bool
	}{
		"no such recipient":        {"RCPT", "550 5.1.1 no such user", true},
		"mailbox busy":             {"RCPT", "450 4.2.1 busy", false},
		"text refused":             {".", "554 5.7.1 spam", true},
		"text deferred":            {".", "451 4.3.0 later", false},
		"log in first":             {"RCPT", "530 5.7.0 authentication required", false},
		"sender refused":           {"MAIL", "550 5.7.1 who are you", false},
		"password refused":         {"AUTH", "535 5.7.8 bad password", false},
		"hangs up":                 {"RCPT", "", false},
		"hangs up before the mail": {"NOOP", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			m := plainServer(t, &smtpServer{answers: map[string]string{c.command: c.answer}})
			m.Username, m.Password = "user", "pass"
			if err := m.Send(t.Context(), successorNotice()); err == nil || errors.Is(err, ErrPermanent) != c.permanent {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAMailThatWasTakenIsNotSentAgain(t *testing.T) {
	for _, command := range []string{"RSET", "QUIT"} {
		s := &smtpServer{answers: map[string]string{command: ""}}
		if err := plainServer(t, s).Send(t.Context(), successorNotice()); err != nil {
			t.Errorf("%s hangs up: %v", command, err)
		}
		only(t, s)
	}
}

func TestMailServersWordsAreCleanedAndWithoutThePassword(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("\x00user\x00hunter22"))
	s := &smtpServer{answers: map[string]string{"AUTH": "535 \x1b[31m" + encoded + " hunter22 " + strings.Repeat("x", 2000)}}
	m := plainServer(t, s)
	m.Username, m.Password = "user", "hunter22"
	err := m.Send(t.Context(), successorNotice())
	if err == nil || strings.Contains(err.Error(), "hunter22") || strings.Contains(err.Error(), encoded) || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 500 {
		t.Errorf("%v", err)
	}
}

func TestMailServerThatNeverStopsTalking(t *testing.T) {
	m := plainServer(t, &smtpServer{greet: "220-" + strings.Repeat("x", 2*maxReplies)})
	if err := m.Send(t.Context(), successorNotice()); err == nil || !strings.Contains(err.Error(), errTalkative.Error()) {
		t.Errorf("%v", err)
	}
}

func TestMailGivesUpOnASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer server.Close()
		m := Mail{Address: "mail.example.com:587", From: "a@example.com", To: []string{"b@example.com"},
			dial: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
		began := time.Now()
		err := m.Send(t.Context(), successorNotice())
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != mailTimeout {
			t.Errorf("%v after %v", err, took)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection is still open: %v", err)
		}
	})
}

func TestMailStopsWhenItIsToldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer server.Close()
		ctx, cancel := context.WithCancel(t.Context())
		m := Mail{Address: "mail.example.com:587", From: "a@example.com", To: []string{"b@example.com"},
			dial: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
		result := make(chan error)
		go func() { result <- m.Send(ctx, successorNotice()) }()
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestMailSettingsThatCanNotWork(t *testing.T) {
	good := Mail{Address: "mail.example.com:587", From: "a@example.com", To: []string{"Ops <b@example.com>"}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Mail){
		"no port":               func(m *Mail) { m.Address = "mail.example.com" },
		"a port by name":        func(m *Mail) { m.Address = "mail.example.com:smtp" },
		"clear text elsewhere":  func(m *Mail) { m.TLS = NoTLS },
		"an unknown TLS":        func(m *Mail) { m.TLS = "ssl" },
		"a name, no password":   func(m *Mail) { m.Username = "user" },
		"a password, no name":   func(m *Mail) { m.Password = "pass" },
		"nobody":                func(m *Mail) { m.To = nil },
		"a crowd":               func(m *Mail) { m.To = slices.Repeat(m.To, maxRecipients+1) },
		"no sender":             func(m *Mail) { m.From = "" },
		"a header as recipient": func(m *Mail) { m.To = []string{"b@example.com\r\nBcc: c@example.com"} },
		"two in one":            func(m *Mail) { m.To = []string{"b@example.com, c@example.com"} },
	} {
		m := good
		change(&m)
		if err := m.Check(); err == nil {
			t.Errorf("%s is accepted", name)
		}
		if err := m.Send(t.Context(), successorNotice()); err == nil || errors.Is(err, ErrPermanent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func only(t *testing.T, s *smtpServer) received {
	t.Helper()
	mails := s.received()
	if len(mails) != 1 {
		t.Fatalf("%d mails: %+v", len(mails), mails)
	}
	return mails[0]
}

func parsed(t *testing.T, text string) (mail.Header, string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if encoding := m.Header.Get("Content-Transfer-Encoding"); encoding != "quoted-printable" {
		t.Fatalf("encoding %q", encoding)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return m.Header, strings.ReplaceAll(string(body), "\r\n", "\n")
}

func decoded(t *testing.T, header string) string {
	t.Helper()
	text, err := new(mime.WordDecoder).DecodeHeader(header)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
