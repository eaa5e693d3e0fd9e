package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// logReader is the reader of a proxy's log. It can stand still or go away, as a log shipper does.
type logReader struct {
	to io.Writer

	mu     sync.Mutex
	frozen chan struct{} // not nil: it reads no more until this is closed
	gone   bool
}

var errReaderGone = errors.New("the reader has closed its end")

// Write takes what came out of the pipe. While it does not return, the pipe fills; when it fails, the pipe is closed.
func (r *logReader) Write(text []byte) (int, error) {
	r.mu.Lock()
	frozen, gone := r.frozen, r.gone
	r.mu.Unlock()
	if gone {
		return 0, errReaderGone
	}
	if frozen != nil {
		<-frozen
	}
	return r.to.Write(text)
}

func (r *logReader) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = make(chan struct{})
}

func (r *logReader) thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen != nil {
		close(r.frozen)
		r.frozen = nil
	}
}

func (r *logReader) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
}

// chatter makes the proxy log more than a pipe and its reader's buffer take: each probe is an event of some 200 bytes.
func (p *proxy) chatter(t *testing.T) {
	t.Helper()
	const probes = 800
	before := p.metric(t, "pgmtls_probes_total")
	for range probes {
		conn, err := dialRaw(p)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	eventually.OK(t, patience, func() error {
		if n := p.metric(t, "pgmtls_probes_total") - before; n < probes {
			return fmt.Errorf("the proxy has seen %v probes", n)
		}
		return nil
	})
}

// hasExited waits for the end of the process, which nobody may have waited for: the reader of its log stands still.
func (p *proxy) hasExited(t *testing.T) {
	t.Helper()
	stat := fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid)
	eventually.OK(t, patience, func() error {
		text, err := os.ReadFile(stat)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if _, state, _ := strings.Cut(string(text), ") "); strings.HasPrefix(state, "Z") {
			return nil
		}
		return fmt.Errorf("the process still runs: %s", text)
	})
}

// Whatever becomes of the reader of its log, a proxy takes policies, ends sessions that they no longer allow, serves, and ends.
func TestReaderOfTheLogHoldsUpNothing(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*logReader){"stands still": (*logReader).freeze, "is gone": (*logReader).leave} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepared(t, t.TempDir(), options{})
			reader := &logReader{to: p.log}
			l := &lineage{door: filepath.Join(shortDir(t), "takeover")}
			command := l.command(p)
			command.Stderr = reader
			p.execute(t, command)
			t.Cleanup(reader.thaw) // before the process is waited for
			p.learnAddresses(t)
			eventually.OK(t, patience, p.ready)
			w := dial(t, p).negotiate(t, clientTLS("app"))
			w.login(t, asPostgres())

			fault(reader)
			p.chatter(t)
			p.edit(t, nobody)
			w.forbidden(t, "No IP rule allows the address 127.0.0.1 any more.")
			if r := p.inForce(t); r.Ended["address_not_allowed"] != 1 {
				t.Errorf("the receipt is %+v", r)
			}
			p.edit(t, func(next *policy) { next.IPRules = usualPolicy().IPRules })
			if err := p.shortVisit(clientTLS("app")); err != nil {
				t.Error(err)
			}
			if name == "is gone" {
				var body struct {
					Lost float64 `json:"log_lines_dropped"`
				}
				if p.decode(t, "/status", &body); body.Lost == 0 || p.metric(t, "pgmtls_log_lines_dropped_total") < body.Lost {
					t.Errorf("%v lost lines in /status, %v in the metric", body.Lost, p.metric(t, "pgmtls_log_lines_dropped_total"))
				}
			}

			// Another process takes over, and the old one drains.
			l.now, l.all = p, []*proxy{p}
			old := l.roll(t)
			old.hasExited(t)
			if err := l.now.shortVisit(clientTLS("app")); err != nil {
				t.Error(err)
			}
			reader.thaw()
			old.wait(t)
			old.stop(t)
		})
	}
}

// A signal ends a proxy also when nobody reads its log, and within the time that it says.
func TestDrainNeedsNoReaderOfTheLog(t *testing.T) {
	t.Parallel()
	p := prepared(t, t.TempDir(), options{Config: drained(map[string]any{"grace": "0s"}), ExitCode: 3})
	reader := &logReader{to: p.log}
	command := (&lineage{door: filepath.Join(shortDir(t), "takeover")}).command(p)
	command.Stderr = reader
	p.execute(t, command)
	t.Cleanup(reader.thaw)
	p.learnAddresses(t)
	eventually.OK(t, patience, p.ready)
	w := dial(t, p).negotiate(t, clientTLS("app"))
	w.login(t, asPostgres())
	w.send(t, query("select pg_sleep(600) /* drained unread */"))
	waitQuery(t, server(t), "drained unread", 1)
	reader.freeze()
	p.chatter(t)
	p.signal(t, syscall.SIGTERM)
	p.hasExited(t)
	reader.thaw()
	p.wait(t)
	p.stop(t)
}

// On a disk that is full every line of the log is lost, and nothing else is.
func TestProxyServesWhenTheDiskOfItsLogIsFull(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	// The log would say where the proxy listens.
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, admin := probe.Addr().String(), filepath.Join(shortDir(t), "admin")
	probe.Close()
	p := prepared(t, t.TempDir(), options{Config: map[string]any{"listen": []string{addr}, "admin": "unix:" + admin}})
	command := (&lineage{door: filepath.Join(shortDir(t), "takeover")}).command(p)
	command.Stderr = full
	p.Addr, p.Admin = addr, admin
	p.execute(t, command)
	eventually.OK(t, patience, p.ready)
	w := dial(t, p).negotiate(t, clientTLS("app"))
	w.login(t, asPostgres())
	p.edit(t, nobody)
	w.forbidden(t, "No IP rule allows the address 127.0.0.1 any more.")
	if n := p.metric(t, "pgmtls_log_lines_dropped_total"); n == 0 {
		t.Error("no line was counted as lost")
	}
	p.stop(t)
}
