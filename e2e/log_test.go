package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
)

// Canaries are secrets that tests plant where the proxy meets them: see [proxy.psql] and the role "scram". None
// may be in a log, at any level.
const (
	canaryPassword = "canary-password-5b1f"
	canarySQL      = "canary-sql-8c2e"
	canaryOptions  = "canary-options-3d7a" // of the startup packet
)

// event is one line of the log.
type event map[string]any

// text is a field of the event, empty if there is none.
func (e event) text(field string) string {
	text, _ := e[field].(string)
	return text
}

// eventLog takes what the process writes to standard error. It is safe for concurrent use.
type eventLog struct {
	mu      sync.Mutex
	all     []byte
	rest    int     // where the line begins that is not parsed yet
	events  []event // JSON lines
	odd     []string
	secrets []string
}

func newEventLog() *eventLog {
	l := &eventLog{secrets: []string{canaryPassword, canarySQL, canaryOptions, "PRIVATE KEY"}}
	for _, pair := range pki.pairs() {
		// The middle of the base64 text, and of the key in hex: the beginning is the same for all keys.
		block, _ := pem.Decode(pair.KeyPEM)
		lines := strings.Split(string(pair.KeyPEM), "\n")
		l.secrets = append(l.secrets, lines[2], hex.EncodeToString(block.Bytes[40:60]))
	}
	return l
}

// Write takes the next bytes of the log.
func (l *eventLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, p...)
	for {
		end := bytes.IndexByte(l.all[l.rest:], '\n')
		if end < 0 {
			return len(p), nil
		}
		line := l.all[l.rest : l.rest+end]
		l.rest += end + 1
		var e event
		if json.Unmarshal(line, &e) == nil {
			l.events = append(l.events, e)
		} else {
			l.odd = append(l.odd, string(line))
		}
	}
}

// keep adds a secret to those that must not be in the log.
func (l *eventLog) keep(secret ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secrets = append(l.secrets, secret...)
}

// keepCancelKey adds a cancel key in the forms in which it could have got into the log.
func (l *eventLog) keepCancelKey(key []byte) {
	l.keep(hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), strings.Trim(fmt.Sprint(key), "[]"))
	if len(key) != 4 {
		return
	}
	if number := strconv.FormatUint(uint64(binary.BigEndian.Uint32(key)), 10); len(number) > 7 { // a short one may stand there by chance
		l.keep(number)
	}
}

// find gives the first event that fits, nil if there is none yet.
func (l *eventLog) find(fits func(event) bool) event {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.events, fits); i >= 0 {
		return l.events[i]
	}
	return nil
}

// count counts the events that fit.
func (l *eventLog) count(fits func(event) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.events {
		if fits(e) {
			n++
		}
	}
	return n
}

// tail is the end of the log, for a failed test.
func (l *eventLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.all[max(0, len(l.all)-8<<10):])
}

// check is what holds for every log.
func (l *eventLog) check(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, secret := range l.secrets {
		if at := bytes.Index(l.all, []byte(secret)); at >= 0 {
			t.Errorf("the log has the secret %q: …%s", secret, l.all[max(0, at-200):at+len(secret)])
		}
	}
	for _, e := range l.events {
		if e["panic"] != nil || e["stack"] != nil {
			t.Errorf("something panicked: %v", e)
		}
	}
	// A data race, a crash, and anything else that the program did not log but print.
	if len(l.odd) > 0 {
		t.Errorf("the log has lines that are no events:\n%s", strings.Join(l.odd, "\n"))
	}
}

// connection waits for the event of a connection, which is written when the connection is over.
func (p *proxy) connection(t testing.TB, id string) event {
	t.Helper()
	var found event
	eventually.OK(t, patience, func() error {
		found = p.log.find(func(e event) bool { return e.text("conn") == id && e.text("outcome") != "" })
		if found == nil {
			return fmt.Errorf("the log has no event of connection %q", id)
		}
		return nil
	})
	return found
}
