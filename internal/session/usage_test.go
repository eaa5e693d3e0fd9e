package session

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

func TestRecentForgetsWhatWasTouchedLongestAgo(t *testing.T) {
	r := newRecent[int, string](3)
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	for second, key := range []int{1, 2, 3, 1, 4} {
		e, first := r.touch(key, at(second))
		if first != (second != 3) || e.key != key {
			t.Errorf("touch %d gives %v, %v", key, e, first)
		}
	}
	var keys []int
	for e := range r.all {
		keys = append(keys, e.key)
		if e.key == 1 && (e.first != at(0) || e.last != at(3)) {
			t.Errorf("1 was seen from %v to %v", e.first, e.last)
		}
	}
	if len(keys) != 3 || keys[0] != 4 || keys[1] != 1 || keys[2] != 3 || len(r.entries) != 3 {
		t.Errorf("%v are known, want 4, 1, 3; %d entries", keys, len(r.entries))
	}
}

func TestUsageTellsWhoUsesWhat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		homeRule := func(u Usages) Usage { return u.Rule("home", w.live.Current().Rules.Rules()[0].Prefix) }
		u := w.sessions.Table().Usage(time.Now())
		if len(u.Certificates) != 0 || !homeRule(u).FirstSeen.IsZero() {
			t.Errorf("before the first session: %+v", u)
		}
		began := time.Now()
		first, second := w.connect(home), w.connect(office)
		first.login(pki().app, "app")
		second.login(pki().app, "app")
		pass(time.Hour)
		u = w.sessions.Table().Usage(time.Now())
		if len(u.Certificates) != 1 {
			t.Fatalf("certificates are %+v", u.Certificates)
		}
		app := u.Certificates[0]
		if app.Serial != serial(pki().app) || app.Subject != "CN=app" || app.Issuer != pki().app.Cert.Issuer.String() ||
			!app.NotAfter.Equal(pki().app.Cert.NotAfter) || app.Sessions != 2 || !app.LastSeen.Equal(time.Now()) || app.FirstSeen.Sub(began) > time.Second {
			t.Errorf("with two sessions: %+v", app)
		}
		if rule := homeRule(u); rule.Sessions != 1 || !rule.LastSeen.Equal(time.Now()) {
			t.Errorf("the rule has %+v", rule)
		}

		first.leave()
		second.leave()
		synctest.Wait()
		ended := time.Now()
		pass(24 * time.Hour)
		u = w.sessions.Table().Usage(time.Now())
		app = u.Certificates[0]
		if app.Sessions != 0 || app.LastSeen.Sub(ended).Abs() > time.Second || app.FirstSeen.Sub(began) > time.Second {
			t.Errorf("a day after the last session: %+v", app)
		}
		if rule := homeRule(u); rule.Sessions != 0 || rule.LastSeen.Sub(ended).Abs() > time.Second {
			t.Errorf("the rule has %+v", rule)
		}
		if other := u.Rule("home", netip.MustParsePrefix("10.0.0.0/8")); !other.FirstSeen.IsZero() {
			t.Errorf("a rule with another network has the usage %+v", other)
		}
	})
}

// What is refused uses nothing: the certificate can be withdrawn.
func TestRefusedCertificatesAreNotInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.apply("2", bothIn, "revoked: ['"+serial(pki().app)+"']")
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app"))
		c.wantFatal("28000", "connection requires a valid client certificate")
		c.leave()
		w.wait()
		if u := w.sessions.Table().Usage(time.Now()); len(u.Certificates) != 0 {
			t.Errorf("certificates are %+v", u.Certificates)
		}
	})
}

// More certificates than are remembered: those of live sessions are listed all the same.
func TestLiveCertificatesAreNeverForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.sessions.table.seen.certificates.max = 1
		other := pki().ca.MustIssue(t, always(testpki.Client("other")))
		first, second := w.connect(home), w.connect(home)
		first.login(pki().app, "app")
		second.login(other, "other")
		if u := w.sessions.Table().Usage(time.Now()); len(u.Certificates) != 2 || u.Certificates[0].Sessions != 1 || u.Certificates[1].Sessions != 1 {
			t.Errorf("certificates are %+v", u.Certificates)
		}
		first.leave()
		second.leave()
		w.wait()
		if u := w.sessions.Table().Usage(time.Now()); len(u.Certificates) != 1 {
			t.Errorf("certificates are %+v", u.Certificates)
		}
	})
}
