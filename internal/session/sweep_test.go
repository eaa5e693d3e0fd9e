package session

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// sweeping starts the sweep, and lets the keeper tell it of changes.
func (w *world) sweeping() (stop func()) {
	w.keeper.OnApplied = func(previous, next *policy.Snapshot) { w.sessions.PolicyChanged(previous, next) }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.sessions.Sweep(ctx) }()
	return func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			w.t.Errorf("the sweep ends with %v", err)
		}
	}
}

// forbidden reads why a session ends.
func (c *client) forbidden(detail string) {
	c.t.Helper()
	answer := c.wantFatal("57P01", "terminating connection due to administrator command")
	if !strings.HasPrefix(answer.Detail, detail) {
		c.t.Errorf("the session ends because of %q, want %q", answer.Detail, detail)
	}
}

func TestSweepEndsSessionsThatAreNoLongerAllowed(t *testing.T) {
	for name, row := range map[string]struct {
		lines  []string
		reason refusal.Reason
		detail string
	}{
		"the rule is gone":            {[]string{officeIn}, refusal.AddressNotAllowed, "No IP rule allows the address 203.0.113.7 any more."},
		"the certificate is revoked":  {[]string{bothIn, "revoked: ['" + serial(pki().app) + "']"}, refusal.CertificateRevoked, "Client certificate \"CN=app\" (serial " + serial(pki().app)},
		"the CA is another":           {[]string{bothIn, "client_auth: required\nclient_ca: [other.pem]"}, refusal.CertificateUnknownCA, "Client certificate \"CN=app\""},
		"the user is another's":       {[]string{bothIn, "identities: [{subject_cn: other, users: [app]}]"}, refusal.UserNotAllowed, "Client certificate \"CN=app\""},
		"the user is not the session": {[]string{bothIn, "identities: [{subject_cn: app, users: [reports]}]"}, refusal.UserNotAllowed, "Client certificate \"CN=app\""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.write("other.pem", pki().stranger.PEM(), 0o644)
				defer w.sweeping()()
				c := w.connect(home)
				c.login(pki().app, "app")
				changed := time.Now()
				w.apply("2", row.lines...)
				applied := time.Now()
				c.forbidden(row.detail)
				if took := time.Since(applied); took > time.Second {
					t.Errorf("the session ends %v after the change", took)
				}
				c.leave()
				w.wait()
				synctest.Wait()
				receipts := w.sessions.Receipts()
				last := receipts[len(receipts)-1]
				if last.Generation != "2" || last.Ended[row.reason] != 1 || last.Kept != 0 || last.InForceAt.Before(changed) {
					t.Errorf("the receipt is %+v", last)
				}
				if w.refused("session_forbidden") != 1 || w.metric("policy_in_force_seconds") == 0 {
					t.Error("not counted")
				}
			})
		})
	}
}

// What time ends needs no change of a file.
func TestSweepEndsWhatTimeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := always(testpki.Client("short"))
		short.NotAfter = time.Now().Add(2 * time.Hour).Truncate(time.Second)
		certificate := pki().ca.MustIssue(t, short)
		w := newWorld(t, nil)
		defer w.sweeping()()
		end := time.Now().Add(time.Hour).Truncate(time.Second)
		w.apply("2", `ip_rules: [{id: home, cidr: 203.0.113.0/24, expires_at: `+end.UTC().Format(time.RFC3339)+`}, {id: office, cidr: 198.51.100.0/24}]`)
		byRule, byCertificate, stays := w.connect(home), w.connect(office), w.connect(office)
		byRule.login(pki().app, "app")
		byCertificate.login(certificate, "app")
		stays.login(pki().app, "app")

		byRule.forbidden("No IP rule allows the address 203.0.113.7 any more.")
		if at := time.Now(); at.Before(end) || at.After(end.Add(time.Second)) {
			t.Errorf("the rule's session ends %v from its moment", at.Sub(end))
		}
		byCertificate.forbidden("Client certificate \"CN=short\"")
		if at, end := time.Now(), short.NotAfter; at.Before(end) || at.After(end.Add(2*time.Second)) {
			t.Errorf("the certificate's session ends %v from its moment", at.Sub(end))
		}
		stays.send(query)
		stays.want(queryAnswer)
		for _, c := range []*client{byRule, byCertificate, stays} {
			c.leave()
		}
	})
}

func TestSweepKeepsWhatThePolicySaysToKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.sweeping()()
		c := w.connect(home)
		c.login(pki().app, "app")
		w.apply("2", officeIn, "on_removal: keep")
		pass(time.Hour)
		c.send(query)
		c.want(queryAnswer)
		receipts := w.sessions.Receipts()
		if last := receipts[len(receipts)-1]; last.Kept != 1 || len(last.Ended) != 0 || last.InForceAt.IsZero() {
			t.Errorf("the receipt is %+v", last)
		}
		// And ends when it no longer says so.
		w.apply("3", officeIn)
		c.forbidden("No IP rule allows the address")
		c.leave()
	})
}

// A session in a query has it cancelled, and ends when the server has said so.
func TestSweepCancelsTheQueryOfASessionThatIsNoLongerAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		cancelled := make(chan struct{})
		w.database.cancel = func() error { close(cancelled); return nil }
		w.database.play = func(conn net.Conn) {
			readPacket(conn, 0)
			conn.Write([]byte(loginAnswer))
			readPacket(conn, 1)
			<-cancelled
			conn.Write([]byte(queryAnswer))
			readPacket(conn, 1)
		}
		defer w.sweeping()()
		c := w.connect(home)
		c.login(pki().app, "app")
		c.send(query)
		synctest.Wait()
		w.apply("2", officeIn)
		c.want(queryAnswer)
		c.forbidden("No IP rule allows the address")
		c.leave()
		if got := w.database.cancelled(); len(got) != 1 || string(got[0]) != string(pgwire.CancelPacket(theKey)) {
			t.Errorf("the server gets the cancels %q", got)
		}
	})
}

// A change is in force when the last session that it refuses is over, not before.
func TestReceiptWaitsForTheLastSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		hold := make(chan struct{})
		w.database.play = func(conn net.Conn) {
			readPacket(conn, 0)
			conn.Write([]byte(loginAnswer))
			<-hold // it hears of nothing
		}
		defer w.sweeping()()
		c := w.connect(home)
		c.login(pki().app, "app")
		c.send(query)
		synctest.Wait()
		w.apply("2", officeIn)
		applied := time.Now()
		synctest.Wait()
		receipts := w.sessions.Receipts()
		if last := receipts[len(receipts)-1]; !last.InForceAt.IsZero() || last.Ended[refusal.AddressNotAllowed] != 1 {
			t.Errorf("while the session lives: %+v", last)
		}
		w.wait() // for the end of the grace
		synctest.Wait()
		receipts = w.sessions.Receipts()
		last := receipts[len(receipts)-1]
		if took := last.InForceAt.Sub(applied); took <= 0 || took > w.live.Current().EndGrace+5*time.Second {
			t.Errorf("in force %v after the change, with a grace of %v", took, w.live.Current().EndGrace)
		}
		close(hold)
		c.leave()
	})
}
