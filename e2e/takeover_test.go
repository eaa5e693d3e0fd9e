package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
)

// lineage is a proxy and those that replace it, one after the other, with the same files and at the same addresses.
type lineage struct {
	door string
	now  *proxy // who accepts
	all  []*proxy
}

// found starts the first of a lineage.
func found(t *testing.T, o options) *lineage {
	t.Helper()
	l := &lineage{door: filepath.Join(shortDir(t), "takeover")}
	l.adopt(t, prepared(t, t.TempDir(), o))
	return l
}

func (l *lineage) command(p *proxy) *exec.Cmd {
	command := exec.Command(programPath, "--config", p.configFile(), "--takeover", l.door)
	command.Env = append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66")
	return command
}

// adopt starts p and makes it the one that accepts.
func (l *lineage) adopt(t *testing.T, p *proxy) {
	t.Helper()
	p.execute(t, l.command(p))
	p.learnAddresses(t)
	eventually.OK(t, patience, p.ready)
	l.now = p
	l.all = append(l.all, p)
}

// heir has the files of the proxy that accepts, and does not run yet.
func (l *lineage) heir() *proxy {
	return &proxy{Dir: l.now.Dir, PolicyDir: l.now.PolicyDir, policy: l.now.policy, options: l.now.options, log: newEventLog(), ended: make(chan struct{})}
}

// roll replaces the proxy that accepts, and gives the old one, which drains.
func (l *lineage) roll(t *testing.T) (old *proxy) {
	t.Helper()
	old = l.now
	l.adopt(t, l.heir())
	if l.now.Addr != old.Addr || l.now.Admin != old.Admin {
		t.Errorf("the successor listens at %s and %s, not %s and %s", l.now.Addr, l.now.Admin, old.Addr, old.Admin)
	}
	return old
}

// crowd is many short visits: a login, a query, a goodbye.
type crowd struct {
	stop    chan struct{}
	running sync.WaitGroup

	mu       sync.Mutex
	visits   int
	skipped  int
	failures []error
	slowest  time.Duration
	began    time.Time
}

// gather lets so many visitors a second come to the address until leave is called. When the machine is too slow for them, and
// so many visits are under way, the next ones don't come.
func gather(p *proxy, rate, atOnce int) *crowd {
	c := &crowd{stop: make(chan struct{}), began: time.Now()}
	config := clientTLS("app")
	slots := make(chan struct{}, atOnce)
	c.running.Go(func() {
		for due := c.began; ; due = due.Add(time.Second / time.Duration(rate)) { // also when the machine is late
			select {
			case <-c.stop:
				return
			case <-time.After(time.Until(due)):
			}
			select {
			case slots <- struct{}{}:
				c.running.Go(func() {
					defer func() { <-slots }()
					began := time.Now()
					c.visited(p.shortVisit(config), time.Since(began))
				})
			default:
				c.visited(errSkipped, 0)
			}
		}
	})
	return c
}

// errSkipped stands for a visit that there was no slot for.
var errSkipped = errors.New("skipped")

func (c *crowd) visited(err error, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch err {
	case errSkipped:
		c.skipped++
		return
	case nil:
	default:
		c.failures = append(c.failures, err)
	}
	c.visits++
	c.slowest = max(c.slowest, took)
}

// leave ends the visits and wants that all went well.
func (c *crowd) leave(t *testing.T) {
	t.Helper()
	close(c.stop)
	c.running.Wait()
	took := time.Since(c.began)
	t.Logf("%d visits in %v, %.0f a second, %d failed, the slowest took %v; %d did not come",
		c.visits, took.Round(time.Millisecond), float64(c.visits)/took.Seconds(), len(c.failures), c.slowest.Round(time.Millisecond), c.skipped)
	for i, err := range c.failures {
		if i == 5 {
			break
		}
		t.Error(err)
	}
	if c.visits == 0 {
		t.Error("nobody came")
	}
}

// shortVisit logs in, asks and says goodbye.
func (p *proxy) shortVisit(config *tls.Config) error {
	conn, err := dialRaw(p)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(sslRequest); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != 'S' {
		return fmt.Errorf("the answer to SSLRequest is %q, %w", answer[0], err)
	}
	client := tls.Client(conn, config)
	defer client.Close()
	for _, packet := range [][]byte{asPostgres(), query("select 1")} {
		if _, err := client.Write(packet); err != nil {
			return err
		}
		for kind := byte(0); kind != 'Z'; {
			var body []byte
			if kind, body, err = readMessage(client); err != nil {
				return err
			}
			if kind == 'E' {
				return fmt.Errorf("told %q", body)
			}
		}
	}
	_, err = client.Write(goodbye)
	return err
}

// The rolls of [TestTenRestartsUnderLoadRefuseNobody], and their load.
const (
	rolls     = 10
	arrivals  = 200 // a second
	atOnce    = 100
	rollGrace = "5m"
)

// Ten restarts: of the visitors nobody is refused, and nobody loses a query. A transaction that began before the first roll
// ends behind the last one, and one of each process outlives it.
func TestTenRestartsUnderLoadRefuseNobody(t *testing.T) {
	server(t)
	l := found(t, options{Config: drained(map[string]any{"grace": rollGrace})})
	oldest := l.now.converse(t)
	if answer := oldest.ask(t, "begin"); answer != "BEGIN" {
		t.Fatalf("psql says %q", answer)
	}
	crowd := gather(l.now, arrivals, atOnce)
	for range rolls {
		idle := dial(t, l.now).negotiate(t, clientTLS("app"))
		idle.login(t, asPostgres())
		idle.answers(t, "select 1", 'I') // one that has asked nothing would be waited for
		busy := dial(t, l.now).negotiate(t, clientTLS("app"))
		busy.login(t, asPostgres())
		busy.begins(t)

		old := l.roll(t)
		idle.wantDrained(t)
		busy.answers(t, "select 1", 'T')
		oldest.goesOn(t)
		busy.answers(t, "commit", 'I')
		busy.wantDrained(t)
		if old != l.all[0] {
			old.wait(t) // with code 0, as is checked at the end
		}
	}
	crowd.leave(t)
	oldest.goesOn(t)
	l.all[0].isRunning(t)
	if answer := oldest.ask(t, "commit"); answer != "COMMIT" {
		t.Errorf("psql says %q", answer)
	}
	if code := l.all[0].wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	oldest.in.Close()
	_ = oldest.wait() // it may have noticed the end of its session or not
}

// answers wants that a query succeeds and leaves the session in the state.
func (w *wire) answers(t testing.TB, sql string, state byte) {
	t.Helper()
	w.send(t, query(sql))
	for {
		kind, body := w.message(t)
		if kind == 'E' {
			t.Fatalf("%s: %q", sql, body)
		}
		if kind == 'Z' {
			if body[0] != state {
				t.Errorf("%s leaves the session in %q, want %q", sql, body, state)
			}
			return
		}
	}
}

// A successor that can't serve, or dies before it does, changes nothing.
func TestSuccessorThatIsNotReadyChangesNothing(t *testing.T) {
	t.Parallel()
	backend := record(t)
	l := found(t, options{Backend: backend.Address})
	session := dial(t, l.now).negotiate(t, clientTLS("app"))
	session.login(t, asPostgres())

	heir := l.heir()
	heir.PolicyDir = filepath.Join(shortDir(t), "absent")
	heir.Dir = shortDir(t)
	o := l.now.options
	o.Config = map[string]any{"policy_dir": heir.PolicyDir}
	writeFile(t, heir.configFile(), configText(t, o))
	output, err := l.command(heir).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "keeps serving") {
		t.Errorf("a successor without a policy ends with %v:\n%s", err, output)
	}
	failed := func(e event) bool { return strings.HasPrefix(e.text("message"), "a takeover failed") }
	eventually.OK(t, patience, func() error {
		if l.now.log.count(failed) != 1 {
			return eventually.ErrNotYet
		}
		return nil
	})

	must.OK(t, l.now.ready())
	l.now.isRunning(t)
	session.send(t, query("select 1"))
	backend.connection(t, 0, len(asPostgres())+len(query("select 1")))
	session.Close()
	l.now.comesIn(t, "app")
	l.roll(t).wait(t)
	l.now.comesIn(t, "app")
}

// The admin address is handed over, a socket's file included, and the door is the last owner's to remove.
func TestAdminSocketIsHandedOver(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	admin := filepath.Join(dir, "admin")
	l := found(t, options{Backend: record(t).Address, Config: map[string]any{"admin": "unix:" + admin}})
	for range 2 {
		l.now.edit(t, func(*policy) {})
		old := l.roll(t)
		old.wait(t)
		if got := l.now.status(t).Policy.Generation; got != l.now.policy.Generation {
			t.Errorf("the admin socket answers for generation %s, want %s", got, l.now.policy.Generation)
		}
	}
	l.now.signal(t, syscall.SIGTERM)
	l.now.wait(t)
	for _, path := range []string{admin, l.door} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// A door that nobody else can have: its file is for the owner, and who comes for nothing disturbs nobody.
func TestTakeoverSocketIsForTheOwner(t *testing.T) {
	t.Parallel()
	l := found(t, options{Backend: record(t).Address})
	info, err := os.Stat(l.door)
	must.OK(t, err)
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the takeover socket has the mode %v", info.Mode())
	}
}
