package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
)

// receipt is as much of a receipt in GET /status as tests look at.
type receipt struct {
	Generation string         `json:"generation"`
	Digest     string         `json:"digest"`
	AppliedAt  time.Time      `json:"applied_at"`
	InForceAt  time.Time      `json:"in_force_at"`
	Changes    map[string]any `json:"changes"`
	Ended      map[string]int `json:"sessions_ended"`
	Kept       int            `json:"sessions_kept"`
}

// inForce waits until the policy that was written last is in force for every session, and gives its receipt.
func (p *proxy) inForce(t testing.TB) receipt {
	t.Helper()
	var last receipt
	eventually.OK(t, patience, func() error {
		var body struct{ Receipts []receipt }
		p.decode(t, "/status", &body)
		if len(body.Receipts) == 0 {
			return eventually.ErrNotYet
		}
		last = body.Receipts[len(body.Receipts)-1]
		if last.Generation != p.policy.Generation || last.InForceAt.IsZero() {
			return fmt.Errorf("generation %s is not in force: the last receipt is %+v", p.policy.Generation, last)
		}
		return nil
	})
	return last
}

// forbidden reads why a session ends, and what came before it.
func (w *wire) forbidden(t testing.TB, detail string) (before []string) {
	t.Helper()
	for {
		kind, body := w.message(t)
		if kind != 'E' {
			before = append(before, string(kind))
			continue
		}
		var e pgproto3.ErrorResponse
		if err := e.Decode(body); err != nil {
			t.Fatal(err)
		}
		if e.Severity != "FATAL" {
			before = append(before, e.Severity+" "+e.Code)
			continue
		}
		if e.Code != "57P01" || !strings.Contains(e.Detail, detail) {
			t.Errorf("the session ends with %s %q, %q; want 57P01 because of %q", e.Code, e.Message, e.Detail, detail)
		}
		idOf(t, e.Message)
		w.ended(t)
		w.socket.Close()
		return before
	}
}

// From wherever a session stands in the protocol of a real server, it ends with a reason that can be read.
func TestSessionReadsWhyItEndsWhereverItStands(t *testing.T) {
	t.Parallel()
	p := start(t, options{})
	for name, row := range map[string]struct {
		asks  []string
		until byte // the last message that is read before the change
	}{
		"idle":                               {nil, 0},
		"idle in a transaction":              {[]string{"begin"}, 'Z'},
		"in a failed transaction":            {[]string{"begin; select 1/0; rollback", "begin", "selec"}, 'Z'},
		"in a query":                         {[]string{"select pg_sleep(600)"}, 0},
		"in COPY from the server":            {[]string{"copy (select pg_sleep(case i when 10 then 600 else 0 end) from generate_series(1, 20) i) to stdout"}, 0},
		"in COPY to the server":              {[]string{"create temp table copied (line text); copy copied from stdin"}, 'G'},
		"in a query that catches its cancel": {[]string{catching}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p.edit(t, func(next *policy) { next.IPRules, next.EndGrace = usualPolicy().IPRules, "2s" })
			w := dial(t, p).negotiate(t, clientTLS("app"))
			w.login(t, asPostgres())
			for _, sql := range row.asks {
				w.send(t, query(sql))
				for row.until != 0 {
					if kind, _ := w.message(t); kind == row.until {
						break
					}
				}
			}
			if row.until == 0 && len(row.asks) > 0 {
				eventually.OK(t, patience, func() error { return serverRuns(t, row.asks[0]) })
			}
			p.edit(t, nobody)
			// Rows, and what announces them, may come before.
			before := slices.DeleteFunc(w.forbidden(t, "No IP rule allows the address 127.0.0.1 any more."), func(s string) bool { return strings.Contains("THd", s) })
			if len(before) > 0 {
				t.Errorf("before the end came %q, want nothing: not the server's error for the proxy's own cancel either", before)
			}
			if r := p.inForce(t); r.Ended["address_not_allowed"] != 1 || r.Kept != 0 || r.InForceAt.Sub(r.AppliedAt) > 4*time.Second {
				t.Errorf("the receipt is %+v", r)
			}
			if row.until != 0 || len(row.asks) == 0 {
				return
			}
			if row.asks[0] == catching { // nobody but the database's own superuser can end that
				server(t).Query(t, "select pg_terminate_backend(pid) from pg_stat_activity where query = $q$"+catching+"$q$")
			}
			eventually.OK(t, patience, func() error {
				if serverRuns(t, row.asks[0]) == nil {
					return errors.New("the query runs on in the database")
				}
				return nil
			})
		})
	}
}

// catching is a query that no cancel ends.
const catching = "do $$ begin loop begin perform pg_sleep(600); exception when query_canceled then end; end loop; end $$"

// serverRuns is nil when a session of the server is in the query.
func serverRuns(t testing.TB, sql string) error {
	t.Helper()
	if n := server(t).Query(t, "select count(*) from pg_stat_activity where state = 'active' and query = $q$"+sql+"$q$"); n != "1" {
		return fmt.Errorf("%s sessions are in the query", n)
	}
	return nil
}

// Sixteen clients of a certificate that is revoked, and sixteen of another one, all of them busy.
func TestRevocationEndsItsSessionsAndNoOtherNotices(t *testing.T) {
	const clients, rate = 16, "400"
	p := start(t, options{})
	prefix := filepath.Join(t.TempDir(), "log")
	script := selectOne(t)
	run := func(client string, more ...string) *errand {
		return pgbench(t, append(append([]string{"-n", "-f", script, "-c", fmt.Sprint(clients), "-j", "2", "-R", rate}, more...),
			p.defaultConninfo()+" "+clientCertificate(client))...)
	}
	stays := run("app", "-T", "300", "-l", "--log-prefix", prefix) // until it is stopped
	ends := run("other", "-T", "60")
	eventually.OK(t, patience, func() error {
		if n := len(p.sessions(t)); n != 2*clients {
			return fmt.Errorf("%d sessions", n)
		}
		return nil
	})
	eventually.OK(t, patience, func() error { // undisturbed work, to compare with
		if p.metric(t, `pgmtls_bytes_total{direction="to_server"}`) < 16_000 {
			return eventually.ErrNotYet
		}
		return nil
	})

	written := time.Now()
	p.policy.Revoked = []string{pki.serial("other")}
	p.writePolicy(t)
	<-ends.over
	r := p.inForce(t)
	if r.Ended["certificate_revoked"] != clients || len(r.Ended) != 1 || r.Kept != clients {
		t.Errorf("the receipt is %+v", r)
	}
	if n := strings.Count(ends.result.Stderr, "certificate is revoked") + strings.Count(ends.result.Stderr, "has been revoked"); ends.result.ExitCode == 0 || n < clients {
		t.Errorf("pgbench ended with %d, and %d of its clients could read why:\n%s", ends.result.ExitCode, n, ends.result.Stderr)
	}
	eventually.OK(t, patience, func() error { // what happens to a query of the same moment is known only when it is over
		if time.Since(written) < 2*time.Second {
			return eventually.ErrNotYet
		}
		return nil
	})
	stays.stop(t)
	stays.mustSucceed(t)
	if n := p.refusals(t, "session_forbidden"); n != clients {
		t.Errorf("%v sessions were ended", n)
	}
	usual, during := worst(t, prefix, written)
	t.Logf("in force %v after the write; the slowest query of the others took %v then and %v at other times", r.InForceAt.Sub(written), during, usual)
	// What is promised is 50 ms, of a machine that has time for it. Here other tests run.
	if during > 200*time.Millisecond && during > 3*usual {
		t.Errorf("the others stalled for %v", during)
	}
}

// worst reads pgbench's logs of single transactions: the longest one that ended within a second and a half of the moment,
// and the longest at other times.
func worst(t *testing.T, prefix string, moment time.Time) (usual, during time.Duration) {
	t.Helper()
	logs, err := filepath.Glob(prefix + ".*")
	if err != nil || len(logs) == 0 {
		t.Fatalf("pgbench left no log: %v", err)
	}
	for _, path := range logs {
		file, err := os.Open(path)
		must.OK(t, err)
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			var client, number, took, script, seconds, micros, late int64
			if _, err := fmt.Sscan(lines.Text(), &client, &number, &took, &script, &seconds, &micros, &late); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			latency := time.Duration(took-late) * time.Microsecond // without the wait for its turn
			if since := time.Unix(seconds, micros*1000).Sub(moment); since >= 0 && since < 1500*time.Millisecond {
				during = max(during, latency)
			} else {
				usual = max(usual, latency)
			}
		}
	}
	return usual, during
}

// Half of many idle sessions are of a certificate that is revoked. The time is from the write of the file to the last
// client's end of stream; the program has the race detector in it, and shares the machine with all of its clients.
func TestPermissionsEndWithinASecond(t *testing.T) {
	p := start(t, options{Backend: record(t).Address, Policy: func(first *policy) {
		for i := range 59 {
			first.IPRules = append(first.IPRules, ipRule{ID: fmt.Sprint("rule-", i), CIDR: fmt.Sprintf("10.%d.0.0/16", i)})
		}
	}})
	began := time.Now()
	sessions := p.idlers(t, sweptSessions)
	t.Logf("%d sessions in %v", len(sessions), time.Since(began))
	p.waitSessions(t, sweptSessions)

	var ended sync.WaitGroup
	for i, w := range sessions {
		w.SetDeadline(time.Now().Add(3 * patience))
		if i%2 == 0 {
			ended.Go(func() { w.forbidden(t, "has been revoked.") })
		}
	}
	written := time.Now()
	p.policy.Revoked = []string{pki.serial("other")}
	p.writePolicy(t)
	ended.Wait()
	took := time.Since(written)
	r := p.inForce(t)
	t.Logf("%d of %d sessions ended in %v; %v of it since the policy was read, says the receipt", len(sessions)/2, len(sessions), took, r.InForceAt.Sub(r.AppliedAt))
	if r.Ended["certificate_revoked"] != len(sessions)/2 || r.Kept != len(sessions)/2 {
		t.Errorf("the receipt is %+v", r)
	}
	// A second is what is promised of a machine that has time for it.
	if took > 10*promised {
		t.Errorf("it took %v", took)
	}
	p.waitSessions(t, len(sessions)/2)
	for i, w := range sessions {
		if i%2 == 1 {
			w.Write(goodbye)
			w.Close()
		}
	}
	p.waitSessions(t, 0)
}

// idlers logs in clients that then do nothing, by turns with the certificates other and app.
func (p *proxy) idlers(t *testing.T, n int) []*wire {
	t.Helper()
	list := make([]*wire, n)
	next := make(chan int)
	var busy sync.WaitGroup
	for range 8 {
		busy.Go(func() {
			for i := range next {
				w, err := p.idler([]string{"other", "app"}[i%2])
				if err != nil {
					t.Errorf("client %d: %v", i, err)
				}
				list[i] = w
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	busy.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return list
}

// idler is a client that is logged in. It may be called from any goroutine.
func (p *proxy) idler(certificate string) (*wire, error) {
	conn, err := dialRaw(p)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: conn, socket: conn.(*net.TCPConn), proxy: p}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(sslRequest); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return nil, err
	}
	if err := w.handshake(clientTLS(certificate)); err != nil {
		return nil, err
	}
	if _, err := w.Write(asPostgres()); err != nil {
		return nil, err
	}
	for {
		kind, body, err := readMessage(w)
		switch {
		case err != nil:
			return nil, err
		case kind == 'E':
			return nil, fmt.Errorf("refused: %q", body)
		case kind == 'Z':
			return w, nil
		}
	}
}
