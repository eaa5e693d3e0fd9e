package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
)

// patience is how long a test waits for what should happen at once. It is long because the machine may be busy; nothing
// waits it out when all is well.
const patience = 2 * time.Minute

// raceOptions let a program with the race detector end at once; a race makes its exit code 66.
const raceOptions = "GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=0"

// process is a program that runs until it is told to end. Its log is what it writes to standard error.
type process struct {
	name    string
	command *exec.Cmd
	log     journal
	ended   chan struct{} // closed after the process has been waited for
	over    bool          // by kill or stop
}

// launch starts a program. It is stopped at the end of the test, unless it was killed.
func launch(t testing.TB, name, path string, args ...string) *process {
	t.Helper()
	return launchUnread(t, nil, name, path, args...)
}

// launchUnread is launch for a program whose log goes elsewhere; nil: it doesn't.
func launchUnread(t testing.TB, stderr *os.File, name, path string, args ...string) *process {
	t.Helper()
	p := &process{name: name, command: exec.Command(path, args...), ended: make(chan struct{})}
	p.command.Env = append(os.Environ(), raceOptions)
	p.command.Stderr = &p.log
	if stderr != nil {
		p.command.Stderr = stderr
	}
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.command.Wait() // how it ended is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() { p.stop(t) })
	return p
}

// waitFor waits until the log has an event with this message, and gives the event.
func (p *process) waitFor(t testing.TB, message string) event {
	t.Helper()
	var found event
	eventually.OK(t, patience, func() error {
		if found = p.log.find(message); found != nil {
			return nil
		}
		select {
		case <-p.ended:
			t.Fatalf("%s has ended (%v); its log:\n%s", p.name, p.command.ProcessState, p.log.tail())
		default:
		}
		return fmt.Errorf("%s has not logged %q; its log:\n%s", p.name, message, p.log.tail())
	})
	return found
}

// kill ends the process as a loss of power would, as far as a process can: it hands nothing over.
func (p *process) kill(t testing.TB) {
	t.Helper()
	if p.over {
		return
	}
	p.over = true
	p.command.Process.Signal(syscall.SIGKILL) // it may have ended by itself, which shows below
	<-p.ended
	if state := p.command.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() || state.Signal() != syscall.SIGKILL {
		t.Errorf("%s ended by itself before it was killed (%v); its log:\n%s", p.name, p.command.ProcessState, p.log.tail())
	}
	p.log.check(t, p.name)
}

// stop ends the process as its supervisor would, which must be exit code 0.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if p.over {
		return
	}
	p.over = true
	p.command.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		p.command.Process.Signal(syscall.SIGQUIT) // every goroutine's stack comes into the log
		<-p.ended
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("%s ended with %v", p.name, p.command.ProcessState)
	}
	p.log.check(t, p.name)
	if t.Failed() {
		t.Logf("the log of %s:\n%s", p.name, p.log.tail())
	}
}

// wait waits until the process has ended by itself, and gives its exit code.
func (p *process) wait(t testing.TB) int {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		t.Fatalf("%s does not end; its log:\n%s", p.name, p.log.tail())
	}
	p.over = true
	p.log.mu.Lock()
	p.log.ends = true
	p.log.mu.Unlock()
	p.log.check(t, p.name)
	return p.command.ProcessState.ExitCode()
}

// event is one line of a log.
type event map[string]any

func (e event) text(field string) string {
	text, _ := e[field].(string)
	return text
}

// journal takes what a process writes. It is safe for concurrent use.
type journal struct {
	mu     sync.Mutex
	all    []byte
	rest   int // where the line begins that is not parsed yet
	events []event
	odd    []string
	ends   bool // the process has ended by itself, and may have printed why
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, p...)
	for {
		end := bytes.IndexByte(j.all[j.rest:], '\n')
		if end < 0 {
			return len(p), nil
		}
		line := j.all[j.rest : j.rest+end]
		j.rest += end + 1
		var e event
		if json.Unmarshal(line, &e) == nil && !doubled(line) {
			j.events = append(j.events, e)
		} else {
			j.odd = append(j.odd, string(line))
		}
	}
}

// doubled reports whether an event has a field twice, of which readers show one or the other.
func doubled(line []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(line))
	if _, err := decoder.Token(); err != nil { // the brace
		return true
	}
	seen := map[string]bool{}
	for decoder.More() {
		name, err := decoder.Token()
		field, ok := name.(string)
		var value json.RawMessage
		if err != nil || !ok || seen[field] || decoder.Decode(&value) != nil {
			return true
		}
		seen[field] = true
	}
	return false
}

// find gives the first event with a message, nil if there is none yet.
func (j *journal) find(message string) event {
	all := j.having(message)
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// having gives all events with a message.
func (j *journal) having(message string) []event {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []event
	for _, e := range j.events {
		if e.text("message") == message {
			found = append(found, e)
		}
	}
	return found
}

func (j *journal) text() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.all)
}

func (j *journal) tail() string {
	text := j.text()
	return string(text[max(0, len(text)-6<<10):])
}

// token is an API token, or one for the enrolment of an agent.
var token = regexp.MustCompile(`pgmtls_[0-9a-f]{8}_[A-Za-z0-9_-]{43}`)

// check is what holds for every log.
func (j *journal) check(t testing.TB, name string) {
	t.Helper()
	text := j.text()
	if token.Match(text) {
		t.Errorf("the log of %s has a token in it", name)
	}
	if bytes.Contains(text, []byte("PRIVATE KEY")) {
		t.Errorf("the log of %s has a private key in it", name)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e["panic"] != nil || e["stack"] != nil {
			t.Errorf("%s panicked: %v", name, e)
		}
	}
	// A data race, a crash, and anything else that a program did not log as one event.
	odd := j.odd
	if j.ends && len(odd) > 0 && !strings.Contains(odd[len(odd)-1], "goroutine") {
		odd = odd[:len(odd)-1]
	}
	if len(odd) > 0 {
		t.Errorf("the log of %s has lines that are no events:\n%s", name, strings.Join(odd, "\n"))
	}
}

// errNotYet is what was seen in place of what is waited for.
func errNotYet(seen any) error { return fmt.Errorf("got %+v", seen) }

// errUnless is for conditions that have nothing else to show.
func errUnless(ok bool, what string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("no %s", what)
}
