package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/testkit/eventually"
)

// startWithFiles starts a proxy whose limit on open files is n from the beginning.
func startWithFiles(t *testing.T, n int, o options) *proxy {
	t.Helper()
	p := prepared(t, t.TempDir(), o)
	command := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, n), programPath, "--config", p.configFile())
	command.Env = append(command.Environ(), "GORACE=halt_on_error=0 exitcode=66", "GOMAXPROCS=2")
	p.execute(t, command)
	p.learnAddresses(t)
	eventually.OK(t, patience, p.ready)
	return p
}

// fill logs clients in until one is refused, and gives the sessions and the refusal.
func (p *proxy) fill(t *testing.T, config *tls.Config, most int) (sessions []*wire, refused *pgproto3.ErrorResponse) {
	t.Helper()
	for range most {
		w := dial(t, p).negotiate(t, config)
		w.send(t, asPostgres())
		for kind := byte(0); kind != 'Z'; {
			var body []byte
			if kind, body = w.message(t); kind == 'E' {
				refused = new(pgproto3.ErrorResponse)
				if err := refused.Decode(body); err != nil {
					t.Fatal(err)
				}
				w.Close()
				return sessions, refused
			}
		}
		sessions = append(sessions, w)
	}
	t.Fatalf("%d sessions have come in", most)
	return nil, nil
}

// crowdIn opens connections that say nothing, from one address of this machine to another.
func (p *proxy) crowdIn(t *testing.T, to, from string, n int) {
	t.Helper()
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	for range n {
		conn, err := dialer.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// With 64 descriptors and every slot taken, what takes away works as ever: a cancel, the operator's questions, a policy, and the
// end of the sessions that it revokes, idle ones and those in a query.
func TestRevocationNeedsNoDescriptorOfClients(t *testing.T) {
	t.Parallel()
	s := server(t)
	p := startWithFiles(t, 64, options{Config: map[string]any{"limits": map[string]any{"startup_timeout": "10m"}}})
	warned := p.log.find(func(e event) bool {
		return strings.HasPrefix(e.text("message"), "the limit on open files allows fewer sessions")
	})
	if warned == nil {
		t.Fatal("nothing was said about the limit")
	}
	stays := dial(t, p).negotiate(t, clientTLS("other"))
	key := stays.login(t, asPostgres())
	taken, refused := p.fill(t, clientTLS("app"), 64)
	if refused.Code != "53300" || !strings.Contains(refused.Message, "too many clients") {
		t.Errorf("the one too many reads %s %q", refused.Code, refused.Message)
	}
	if n := float64(len(taken) + 1); warned["sessions"] != n || p.metric(t, "pgmtls_sessions_limit") != n || n < 5 {
		t.Errorf("%v sessions came in; the warning says %v, pgmtls_sessions_limit is %v", n, warned["sessions"], p.metric(t, "pgmtls_sessions_limit"))
	}
	taken[0].send(t, query("select pg_sleep(600) /* no descriptor */"))
	waitQuery(t, s, "no descriptor", 1)

	// A client cancels while every session is taken.
	stays.send(t, query("select pg_sleep(600) /* to be cancelled */"))
	waitQuery(t, s, "to be cancelled", 1)
	dial(t, p).send(t, key.packet())
	waitQuery(t, s, "to be cancelled", 0)

	// Now the other slots as well, from two addresses, and some of the admin address.
	p.crowdIn(t, p.Addr, "127.0.0.1", 20)
	p.crowdIn(t, p.Addr, "127.0.0.2", 20)
	p.crowdIn(t, p.Admin, "127.0.0.2", 20)
	if _, err := p.get("/status"); err != nil {
		t.Error(err)
	}
	p.edit(t, func(next *policy) { next.Revoked = []string{serialText(pki.clients["app"].Cert)} })
	for i, w := range taken {
		if before := w.forbidden(t, "has been revoked"); i > 0 && len(before) > 0 {
			t.Errorf("an idle session reads %q", before)
		}
	}
	waitQuery(t, s, "no descriptor", 0)
	if r := p.inForce(t); r.Ended["certificate_revoked"] != len(taken) || r.Kept != 1 {
		t.Errorf("the receipt is %+v, want %d ended", r, len(taken))
	}
	if failed := p.log.find(func(e event) bool { return strings.Contains(fmt.Sprint(e), syscall.EMFILE.Error()) }); failed != nil {
		t.Errorf("descriptors were short: %v", failed)
	}
	if n := p.refusals(t, "backend_unavailable"); n != 0 {
		t.Errorf("%v clients read that the database does not answer", n)
	}
}
