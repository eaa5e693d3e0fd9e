package notify

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// smtpServer is a mail server that keeps what it gets. Its fields are set before start.
type smtpServer struct {
	tls     *tls.Config       // nil: it knows no TLS
	first   bool              // TLS from the first byte
	answers map[string]string // by the beginning of a command, instead of the usual answer; "" hangs up
	greet   string            // instead of the usual greeting

	address string
	mu      sync.Mutex
	mails   []received
	open    sync.WaitGroup
}

type received struct {
	from, to  string
	text      string
	encrypted bool
	login     string // what came behind AUTH
}

func (s *smtpServer) start(t *testing.T) *smtpServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.open.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.open.Wait()
	})
	return s
}

// secureServer has a certificate of a CA that the returned Mail trusts.
func secureServer(t *testing.T, s *smtpServer) Mail {
	t.Helper()
	ca := testpki.MustCA(t, "mail CA")
	s.tls = &tls.Config{Certificates: []tls.Certificate{ca.MustIssue(t, testpki.Server("127.0.0.1")).TLS()}}
	s.start(t)
	return Mail{Address: s.address, From: "pgmtls@example.com", To: []string{"ops@example.com"}, RootCAs: ca.Pool()}
}

func plainServer(t *testing.T, s *smtpServer) Mail {
	t.Helper()
	s.start(t)
	return Mail{Address: s.address, From: "pgmtls@example.com", To: []string{"ops@example.com"}, TLS: NoTLS}
}

func (s *smtpServer) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mails...)
}

func (s *smtpServer) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	now := received{}
	if s.first {
		conn = tls.Server(conn, s.tls)
		now.encrypted = true
	}
	in := textproto.NewReader(bufio.NewReader(conn))
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	if s.greet != "" {
		say("%s", s.greet)
	} else {
		say("220 mail.test ESMTP")
	}
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		if answer, ok := s.answer(line); ok {
			if answer == "" {
				return
			}
			say("%s", answer)
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-mail.test")
			if s.tls != nil && !now.encrypted {
				say("250-STARTTLS")
			}
			say("250 AUTH PLAIN LOGIN")
		case "STARTTLS":
			say("220 go on")
			conn = tls.Server(conn, s.tls)
			in = textproto.NewReader(bufio.NewReader(conn))
			now.encrypted = true
		case "AUTH":
			now.login = rest
			say("235 welcome")
		case "MAIL":
			now.from = rest
			say("250 ok")
		case "RCPT":
			now.to = rest
			say("250 ok")
		case "DATA":
			say("354 go on")
			text, err := in.ReadDotBytes()
			if err != nil {
				return
			}
			if answer, ok := s.answer("."); ok {
				say("%s", answer)
				continue
			}
			now.text = string(text)
			s.mu.Lock()
			s.mails = append(s.mails, now)
			s.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default: // NOOP, RSET
			say("250 ok")
		}
	}
}

func (s *smtpServer) answer(line string) (string, bool) {
	for beginning, answer := range s.answers {
		if strings.HasPrefix(line, beginning) {
			return answer, true
		}
	}
	return "", false
}
