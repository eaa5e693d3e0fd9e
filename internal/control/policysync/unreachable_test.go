package policysync

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/testkit/must"
)

func TestAProxyThatCanNotBeAskedSaysWhereAndWhatToDo(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	nobody := closed.Addr().String()
	must.OK(t, closed.Close())
	answers := func(code int, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			w.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
	socket := filepath.Join(t.TempDir(), "admin.sock")
	other, web := answers(404, ""), answers(200, "<html>")
	for name, c := range map[string]struct {
		admin config.Address
		want  string
	}{
		"nobody listens": {config.Address{Network: "tcp", Address: nobody}, "can't be reached at " + nobody + " (connection refused). Is the proxy running?"},
		"no socket":      {config.Address{Network: "unix", Address: socket}, "can't be reached at " + socket + " (no such file or directory). Is the proxy running?"},
		"another server": {config.Address{Network: "tcp", Address: other}, "can't be asked: " + other + " answers /status with status 404. Is that a proxy's admin address?"},
		"a page":         {config.Address{Network: "tcp", Address: web}, "can't be asked: read the answer to /status of " + web + ": invalid character '<' looking for beginning of value. Is that a proxy's admin address?"},
		"far away":       {config.Address{Network: "tcp", Address: "192.0.2.1:9815"}, "can't be asked: the admin address 192.0.2.1:9815 is not on loopback, so others"},
	} {
		p := &Publisher{Database: database, Dir: filepath.Join(t.TempDir(), "policy"), Admin: c.admin}
		r, err := p.Observe(t.Context())
		if err == nil || !strings.HasPrefix(r.Error, c.want) || r.ErrorKind != api.ErrorUnreachable {
			t.Errorf("%s: %q (%s), want %q", name, r.Error, r.ErrorKind, c.want)
		}
	}
	for cause, want := range map[error]string{
		context.DeadlineExceeded: "does not answer at 127.0.0.1:1. Is the proxy overloaded, or stopped?",
		syscall.EACCES:           "can't be reached at 127.0.0.1:1 (permission denied). Let the user of this process connect to the socket.",
		syscall.ECONNRESET:       "can't be reached at 127.0.0.1:1 (connection reset by peer). Is the proxy running?",
		errors.New("odd"):        "can't be reached at 127.0.0.1:1 (odd). Is the proxy running?",
	} {
		if got := (unreachableError{config.Address{Network: "tcp", Address: "127.0.0.1:1"}, cause}).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAReportTellsADeadProxyFromOneThatRefuses(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		kind := func(when, want string) {
			t.Helper()
			expectLast(t, j, when, func(r api.Report) bool { return r.ErrorKind == want && (r.Error == "") == (want == "") })
		}
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, time.Second)
		kind("all is well:", "")
		j.follower.set(func(f *follower) { f.down = true })
		pass(t, 12*time.Second)
		kind("the proxy is down:", api.ErrorUnreachable)
		j.offer(t, 2)
		pass(t, 5*time.Second)
		kind("the proxy is down, and something new waits for it:", api.ErrorUnreachable)
		j.follower.set(func(f *follower) { f.down, f.refuses = false, "no certificate" })
		pass(t, 12*time.Second)
		kind("it refuses:", api.ErrorRefused)
		must.OK(t, os.Chmod(j.follower.dir, 0o775))
		j.offer(t, 3)
		synctest.Wait()
		kind("its directory is open to others:", api.ErrorUndeliverable)
		must.OK(t, os.Chmod(j.follower.dir, 0o755))
		j.follower.set(func(f *follower) { f.refuses = "" })
		pass(t, lastPublishGap+time.Second)
		kind("all is well again:", "")
	})
}

// What is known of a proxy that is back, and has not taken up what was published meanwhile, is not that it is down.
func TestAProxyThatIsBackIsNotCalledUnreachableWhileItIsWaitedFor(t *testing.T) {
	inTime(t, func(t *testing.T, j *journey) {
		j.follower.set(func(f *follower) { f.down = true })
		defer travel(t, j.Syncer)()
		j.offer(t, 1)
		pass(t, 5*time.Second)
		expectLast(t, j, "down:", func(r api.Report) bool { return r.ErrorKind == api.ErrorUnreachable })
		before := len(j.told.all())
		j.follower.set(func(f *follower) { f.down, f.stale, f.holds = false, true, true })
		pass(t, 12*time.Second)
		for _, r := range j.told.all()[before:] {
			if r.Error != "" {
				t.Errorf("it is back, and reported as %q", r.Error)
			}
		}
	})
}
