package agent

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// What the handshake says of a certificate is put into words, and a renewed certificate that is not taken gives way to the one
// before.
func TestAgentIsToldThatItsCertificateHasEnded(t *testing.T) {
	expired := &net.OpError{Op: "remote error", Err: certificateExpired}
	other := &net.OpError{Op: "remote error", Err: errors.New("tls: internal error")}
	plain := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, row := range []struct {
		name  string
		self  identity
		err   error
		ended bool
		text  string // empty: the error alone
	}{
		{"it has ended", identity{Current: certificate{ExpiresAt: past}}, expired, true, "the agent's certificate ended at " + past.UTC().Format(time.RFC3339)},
		{"it has ended, by this clock alone", identity{Current: certificate{ExpiresAt: past}}, plain, false, ""},
		{"by the other clock alone", identity{Current: certificate{ExpiresAt: future}}, expired, false, "set the clock that is wrong"},
		{"another alert", identity{Current: certificate{ExpiresAt: future}}, other, false, ""},
		{"the renewed one is not valid yet", identity{Current: certificate{ExpiresAt: future}, Next: &certificate{ExpiresAt: future.AddDate(0, 2, 0)}}, expired, true, "set the clock that is wrong"},
	} {
		a := &agent{self: row.self}
		if got := a.hasEnded(row.err); got != row.ended {
			t.Errorf("%s: ended is %v", row.name, got)
		}
		got := a.explained(row.err)
		if !errors.Is(got, row.err) || row.text == "" && got != row.err || !strings.Contains(got.Error(), row.text) {
			t.Errorf("%s: %v, want %q", row.name, got, row.text)
		}
	}
}
