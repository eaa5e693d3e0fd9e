package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgmtls-proxy/internal/testkit/eventually"
)

// The checks of every log are worth what they find.
func TestLogCheckFindsWhatItIsFor(t *testing.T) {
	t.Parallel()
	key := strings.Split(string(pki.private.KeyPEM), "\n")[2]
	for name, line := range map[string]string{
		"password":          `{"level":"debug","error":"` + canaryPassword + `"}`,
		"query":             `{"sql":"select /* ` + canarySQL + ` */"}`,
		"options":           `{"options":"-c x=` + canaryOptions + `"}`,
		"key":               `{"key":"` + key + `"}`,
		"key's PEM":         `{"key":"-----BEGIN PRIVATE KEY-----"}`,
		"cancel key":        `{"key":3393277214}`,
		"cancel key in hex": `{"key":"ca414d1e"}`,
		"data race":         "WARNING: DATA RACE",
		"panic":             `{"level":"error","panic":"runtime error"}`,
	} {
		l := newEventLog()
		l.keepCancelKey([]byte{0xca, 0x41, 0x4d, 0x1e})
		fmt.Fprintln(l, `{"level":"info","message":"serving"}`)
		fmt.Fprintln(l, line)
		complaints := &complaints{TB: t}
		if l.check(complaints); complaints.n == 0 {
			t.Errorf("%s: the check finds nothing in %s", name, line)
		}
	}
	l := newEventLog()
	fmt.Fprintln(l, `{"level":"info","message":"serving"}`)
	l.check(t)
}

// complaints counts errors in place of failing.
type complaints struct {
	testing.TB
	n int
}

func (c *complaints) Errorf(string, ...any) { c.n++ }

// What a client chose can't end a line of the log, steer a terminal or fill a disk, and neither can it in the answer.
func TestTextOfClientsIsTamedInLogAndAnswer(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address, Policy: func(p *policy) {
		p.Identities = []identity{{SubjectCN: "app", Users: []string{"app"}}}
	}})
	for name, hostile := range map[string]string{
		"a line of its own": "x\n{\"level\":\"info\",\"conn\":\"forged\"}",
		"a terminal":        "\x1b[2J\x1b]0;title\a\r\b\x7f",
		"right to left":     "user\u202egnp.exe\u2066",
		"no UTF-8":          "\xff\xfe\x80",
		"long":              strings.Repeat("ü", 4500),
		"C1 and separators": "a\u0085b\u2028c\u009bd",
	} {
		w := dial(t, p).negotiate(t, clientTLS("app"))
		w.send(t, startup(protocol30, "user", hostile, "database", hostile[:min(len(hostile), 400)], "application_name", hostile[:min(len(hostile), 400)]))
		e := w.fatal(t)
		logged := p.connection(t, idOf(t, e.Message))
		for _, text := range []string{e.Message, e.Detail, e.Hint, logged.text("user"), logged.text("database"), logged.text("application"), logged.text("detail")} {
			if len(text) > 1100 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%s: untamed: %.200q (%d bytes)", name, text, len(text))
			}
		}
	}
	config := clientTLS("")
	config.ServerName, config.InsecureSkipVerify = strings.Repeat("long.", 50)+"test", true
	w := dial(t, p).negotiate(t, config)
	w.send(t, asPostgres())
	if sni := p.connection(t, idOf(t, w.fatal(t).Message)).text("sni"); len(sni) > 140 {
		t.Errorf("the log has an SNI of %d bytes", len(sni))
	}
	if p.log.find(func(e event) bool { return e.text("conn") == "forged" }) != nil {
		t.Error("a client has written an event of its own")
	}
}

// Out of descriptors, the proxy waits and goes on; it does not end, and it does not spin.
func TestProxyOutOfDescriptorsRecovers(t *testing.T) {
	t.Parallel()
	p := start(t, options{Backend: record(t).Address})
	limitDescriptors(t, p, 40)
	var conns []net.Conn
	for range 100 {
		conn, err := dialRaw(p)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	failed := func(e event) bool { return e.text("message") == "could not accept a connection" }
	eventually.OK(t, patience, func() error {
		if p.log.find(failed) == nil {
			return eventually.ErrNotYet
		}
		return nil
	})
	for _, conn := range conns {
		conn.Close()
	}
	begin := time.Now()
	w := dial(t, p).negotiate(t, clientTLS("app"))
	w.login(t, asPostgres())
	w.Close()
	if took := time.Since(begin); took > 5*time.Second+5*p.pace(t) {
		t.Errorf("the first client after the flood waits %s", took)
	}
	if n := p.log.count(failed); n > 50 {
		t.Errorf("%d events about one shortage", n)
	}
}
