package notify

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// mailTimeout bounds one attempt, all recipients together.
const mailTimeout = time.Minute

// maxRecipients bounds Mail.To. Whoever has more to tell has a mailing list.
const maxRecipients = 20

// TLS specifies how the connection to a mail server is protected.
type TLS string

const (
	StartTLS    TLS = "starttls" // begins in clear text and must become TLS (port 587); never goes on without
	ImplicitTLS TLS = "tls"      // TLS from the first byte (port 465)
	NoTLS       TLS = "off"      // clear text, to a mail server on this machine only
)

// Mail sends notices through a mail server, to each recipient a mail of its own: one address that does not exist must
// not keep the others from being told. Its zero value is of no use.
type Mail struct {
	Address  string   // of the mail server, host:port
	From     string   // a mail address
	To       []string // mail addresses, 1 to 20
	Username string   // empty: no log-in
	Password string
	TLS      TLS            // empty: StartTLS
	RootCAs  *x509.CertPool // that vouch for the mail server; nil: the system's

	dial dialer // of tests; nil: the network
}

// Check returns what is wrong with the settings, nil when they can work. It sends nothing.
func (m Mail) Check() error {
	host, port, err := net.SplitHostPort(m.Address)
	number, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil, host == "", portErr != nil, number == 0:
		return errors.New("the mail server's address is not host:port; use the form mail.example.com:587")
	case m.TLS != "" && m.TLS != StartTLS && m.TLS != ImplicitTLS && m.TLS != NoTLS:
		return fmt.Errorf("tls is %q; it must be starttls, tls or off", clean(string(m.TLS)))
	case m.TLS == NoTLS && !isLoopback(host):
		return errors.New("tls is off, but the mail server is not on this machine; use starttls or tls")
	case (m.Username == "") != (m.Password == ""):
		return errors.New("only one of user name and password is set; set both or neither")
	case len(m.To) == 0 || len(m.To) > maxRecipients:
		return fmt.Errorf("there are %d recipients; use 1 to %d", len(m.To), maxRecipients)
	}
	for _, address := range append([]string{m.From}, m.To...) {
		if _, err := mail.ParseAddress(address); err != nil || clean(address) != address {
			return fmt.Errorf("%q is not a mail address; use the form ops@example.com", clean(address))
		}
	}
	return nil
}

// String names the mail without what is secret of it.
func (m Mail) String() string { return "mail by " + clean(m.Address) }

// Send hands one mail for each recipient to the server. When it took some, the error is a [*FanError] whose Rest is a
// Mail to the others. What the server says for good (5xx) of a recipient or of the text is permanent; what it says of
// us, of the connection or of the log-in is not, as it can be mended here.
func (m Mail) Send(ctx context.Context, n Notice) error {
	if err := n.check(); err != nil {
		return err
	}
	if err := m.Check(); err != nil {
		return fmt.Errorf("%s: %w", m, err)
	}
	letters := make([]*gomail.Msg, len(m.To))
	for i, to := range m.To {
		letter, err := m.letter(n, to)
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		letters[i] = letter
	}
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	results, err := m.deliver(ctx, letters)
	if err != nil {
		return m.tidy(ctx, err)
	}
	each := make(Fan, len(m.To))
	for i, to := range m.To {
		one := m
		one.To = []string{to}
		each[i] = one
		if results[i] != nil {
			results[i] = m.tidy(ctx, results[i])
		}
	}
	if len(m.To) == 1 {
		return results[0]
	}
	return m.together(fanError(each, results))
}

// together makes one Mail of the recipients that are left.
func (m Mail) together(err error) error {
	fan, ok := errors.AsType[*FanError](err)
	if !ok || len(fan.Rest) == 0 {
		return err
	}
	left := m
	left.To = nil
	for _, s := range fan.Rest {
		left.To = append(left.To, s.(Mail).To...)
	}
	fan.Rest = Fan{left}
	return fan
}

// letter is the mail. Whatever the notice's texts hold, they were cleaned, so none of them can end a header.
func (m Mail) letter(n Notice, to string) (*gomail.Msg, error) {
	w, err := n.words()
	if err != nil {
		return nil, err
	}
	letter := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := letter.From(m.From); err != nil {
		return nil, err
	}
	if err := letter.To(to); err != nil {
		return nil, err
	}
	_, domain, _ := strings.Cut(letter.GetFrom()[0].Address, "@")
	letter.SetMessageIDWithValue(n.ID + "@" + domain)
	letter.SetDateWithValue(time.Now())                     // the wall clock: far from it a mail is taken for spam
	letter.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answers from people on holiday
	letter.Subject(w.subject)
	letter.SetBodyString(gomail.TypeTextPlain, w.body)
	return letter, nil
}

// tidy makes one clean line of an error that may hold a server's text, and keeps of its chain what callers look for.
func (m Mail) tidy(ctx context.Context, err error) error {
	text := err.Error()
	if m.Password != "" { // a server may repeat what it was sent
		for _, secret := range []string{m.Password, base64.StdEncoding.EncodeToString([]byte(m.Password)),
			base64.StdEncoding.EncodeToString([]byte("\x00" + m.Username + "\x00" + m.Password))} {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", m, context.Cause(ctx))
	case isFinal(err):
		return fmt.Errorf("%s: %s: %w", m, clean(text), ErrPermanent)
	}
	return fmt.Errorf("%s: %s", m, clean(text))
}

// isFinal reports whether the server refused a recipient or the text for good. 530 is "log in first" (RFC 4954), which is
// about us.
func isFinal(err error) bool {
	refused, ok := errors.AsType[*gomail.SendError](err)
	if !ok || refused.ErrorCode()/100 != 5 || refused.ErrorCode() == 530 {
		return false
	}
	switch refused.Reason {
	case gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose:
		return true
	}
	return false
}
