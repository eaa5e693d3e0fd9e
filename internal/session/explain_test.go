package session

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/testkit/testpki"
)

// explained is what the policy in force says to what a connection asked.
func (w *world) explained(a Asked) string {
	a.Now = time.Now()
	e := w.live.Current().Explain(a.Question)
	if e.Refused != nil {
		return e.Refused.Reason.String()
	}
	return "rule " + e.Grant.Rule.ID
}

func TestLiveConnectionCanBeExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.handshake(pki().app)
		c.send(startupPacket("user", "app", "database", "shop"))
		c.want(loginAnswer)
		id := w.sessions.Table().Sessions()[0].ID
		a, found := w.sessions.Asked(id)
		if !found || a.ID != id || a.Addr != home || a.ServerName != "db.test" || a.User != "app" || a.Database != "shop" ||
			a.Generation != "1" || a.Refused != nil || !a.Chain[0].Equal(pki().app.Cert) || a.Accepted.IsZero() {
			t.Errorf("%+v, %v", a, found)
		}
		if got := w.explained(a); got != "rule home" {
			t.Errorf("explained as %s", got)
		}
		if chain := w.sessions.ChainOf(serial(pki().app)); len(chain) == 0 || !chain[0].Equal(pki().app.Cert) {
			t.Errorf("the serial finds %v", chain)
		}
		if chain := w.sessions.ChainOf("01:02"); chain != nil {
			t.Errorf("an unknown serial finds %v", chain)
		}
		c.leave()
		w.wait()
		if _, found := w.sessions.Asked(id); found {
			t.Error("a session that ended by itself is remembered")
		}
	})
}

func TestRefusedConnectionCanBeExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		below := pki().ca.MustIntermediate(t, always(testpki.Authority("Below"))).MustIssue(t, always(testpki.Client("below")))
		w.apply("2", bothIn, "identities: [{subject_cn: app, users: [app]}]")
		c := w.connect(home)
		c.handshake(below)
		c.send(startupPacket("user", "app", "database", "shop"))
		c.fatal()
		c.leave()
		w.wait()
		id, _ := w.last()["conn"].(string)
		a, found := w.sessions.Asked(id)
		if !found || a.Refused == nil || a.Refused.Reason != refusal.UserNotAllowed || a.Generation != "2" || a.Addr != home || a.User != "app" ||
			a.Database != "shop" || a.ServerName != "db.test" || len(a.Chain) != 2 || !a.Chain[0].Equal(below.Cert) || a.ChainTooLong {
			t.Fatalf("%+v, %v", a, found)
		}
		if got := w.explained(a); got != "user_not_allowed" {
			t.Errorf("explained as %s", got)
		}
		w.apply("3", bothIn)
		if got := w.explained(a); got != "rule home" {
			t.Errorf("explained by a policy that allows it as %s", got)
		}
		if _, found := w.sessions.Asked("nobody"); found {
			t.Error("an unknown id is found")
		}
	})
}

func TestSessionThatTheSweepEndedCanBeExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.login(pki().app, "app")
		id := w.sessions.Table().Sessions()[0].ID
		w.apply("2", officeIn)
		w.sessions.sweepOnce(time.Now())
		c.leave()
		w.wait()
		if a, found := w.sessions.Asked(id); !found || a.Refused.Reason != refusal.SessionForbidden || w.explained(a) != "address_not_allowed" {
			t.Errorf("%+v, %v", a, found)
		}
	})
}

func TestRoomIsWhatANewSessionMeets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.MaxSessions, c.MaxSessionsPerAddress = 2, 1 })
		c := w.connect(home)
		c.login(pki().app, "app")
		if r := w.sessions.Room(office); r.Refused != nil || r.Sessions != 1 || r.MaxSessions != 2 || r.FromAddress != 0 || r.MaxPerAddress != 1 {
			t.Errorf("from an address without a session: %+v", r)
		}
		if r := w.sessions.Room(home); r.Refused == nil || r.Refused.Reason != refusal.TooManySessionsFromAddress || r.FromAddress != 1 {
			t.Errorf("from an address with one: %+v", r)
		}
		w.sessions.Table().Drain()
		if r := w.sessions.Room(office); r.Refused == nil || r.Refused.Reason != refusal.Draining || !r.Draining {
			t.Errorf("draining: %+v", r)
		}
		c.leave()
		w.wait()
	})
}

// A thousand refusals and no more, whatever clients send.
func TestRefusalsAreRememberedInConstantMemory(t *testing.T) {
	var r refusals
	add := func(n int) {
		c := &connection{id: fmt.Sprint(n), addr: netip.MustParseAddr("192.0.2.1"), snap: &policy.Snapshot{Generation: "1"}}
		r.add(c, &refusal.Refusal{Reason: refusal.TLSRequired, Detail: strings.Repeat("d", 1<<20)})
	}
	for n := range maxRefusals + 10 {
		add(n)
	}
	if len(r.ring) != maxRefusals {
		t.Errorf("%d are remembered", len(r.ring))
	}
	for id, want := range map[string]bool{"0": false, "9": false, "10": true, "999": true, "1009": true} {
		a, found := r.find(id)
		if found != want || found && (a.ID != id || len(a.Refused.Detail) != maxRefusedDetail || a.Refused.Cause != nil) {
			t.Errorf("%s is found: %v", id, found)
		}
	}
}

func TestHugeChainsAreNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		uris := make([]string, 300)
		for i := range uris {
			uris[i] = fmt.Sprintf("spiffe://example.com/a/long/name/of/a/certificate/%d", i)
		}
		huge := always(testpki.Client("huge"))
		huge.URIs = uris
		w.apply("2", bothIn, "identities: [{subject_cn: app, users: [app]}]")
		c := w.connect(home)
		c.handshake(pki().ca.MustIssue(t, huge))
		c.send(startupPacket("user", strings.Repeat("u", 5000)))
		c.fatal()
		c.leave()
		w.wait()
		a, found := w.sessions.Asked(w.last()["conn"].(string))
		if !found || !a.ChainTooLong || a.Chain != nil || len(a.User) != maxRefusedName {
			t.Errorf("%+v, %v", a, found)
		}
	})
}
