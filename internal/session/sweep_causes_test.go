package session

import (
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/testkit/testpki"
)

// inhabitants are sessions of different grounds.
var inhabitants = map[string]struct {
	from        netip.Addr
	certificate func() *testpki.Pair
	user        string
}{
	"app at home":     {home, func() *testpki.Pair { return pki().app }, "app"},
	"app at work":     {office, func() *testpki.Pair { return pki().app }, "app"},
	"reports at home": {home, func() *testpki.Pair { return pki().app }, "reports"},
	"other at work":   {office, func() *testpki.Pair { return pki().other }, "other"},
	"nobody at work":  {office, func() *testpki.Pair { return nil }, "app"},
	"foreign at work": {office, func() *testpki.Pair { return pki().foreign }, "app"},
}

// Exactly the sessions whose grounds have gone end. The others are asked something before and after.
func TestEachChangeEndsExactlyItsSessions(t *testing.T) {
	optional := "client_auth: optional\nclient_ca: [ca.pem, stranger.pem]"
	withLists := func(list string) string {
		return "client_auth: optional\nclient_ca: [ca.pem, stranger.pem]\nclient_crl: [" + list + ", stranger-crl.pem]"
	}
	for name, row := range map[string]struct {
		before, after []string
		ends          string
		reason        string
	}{
		"nothing":              {[]string{bothIn, optional}, []string{bothIn, optional}, "", ""},
		"a rule goes":          {[]string{bothIn, optional}, []string{officeIn, optional}, "app at home, reports at home", "address_not_allowed"},
		"all rules go":         {[]string{bothIn, optional}, []string{"ip_rules: []", optional}, "app at home, app at work, foreign at work, nobody at work, other at work, reports at home", "address_not_allowed"},
		"a CA goes":            {[]string{bothIn, optional}, []string{bothIn, "client_auth: optional\nclient_ca: [ca.pem]"}, "foreign at work", "certificate_unknown_ca"},
		"a serial is revoked":  {[]string{bothIn, optional}, []string{bothIn, optional, "revoked: ['" + serial(pki().other) + "']"}, "other at work", "certificate_revoked"},
		"a list revokes":       {[]string{bothIn, withLists("crl-1.pem")}, []string{bothIn, withLists("crl-2.pem")}, "other at work", "certificate_revoked"},
		"a certificate is due": {[]string{bothIn, optional}, []string{bothIn, "client_auth: required\nclient_ca: [ca.pem, stranger.pem]"}, "nobody at work", "no_client_certificate"},
		"users are named": {[]string{bothIn, optional}, []string{bothIn, "client_auth: required\nclient_ca: [ca.pem, stranger.pem]", "identities: [{subject_cn: app, users: [app]}, {subject_cn: other, users: [other]}]"},
			"nobody at work, reports at home", "no_client_certificate, user_not_allowed"},
		"a rule is narrowed": {[]string{bothIn, optional}, []string{"ip_rules: [{id: home, cidr: 203.0.113.0/24}, {id: office, cidr: 198.51.100.128/25}]", optional},
			"app at work, foreign at work, nobody at work, other at work", "address_not_allowed"},
		"nobody is asked any more": {[]string{bothIn, optional}, []string{bothIn, "client_auth: off"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.write("stranger.pem", pki().stranger.PEM(), 0o644)
				list := testpki.CRL{ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().AddDate(1, 0, 0)}
				w.write("stranger-crl.pem", pki().stranger.MustCRL(t, list), 0o644)
				w.write("crl-1.pem", pki().ca.MustCRL(t, list), 0o644)
				list.Revoked, list.Number = []*big.Int{pki().other.Cert.SerialNumber}, 2
				w.write("crl-2.pem", pki().ca.MustCRL(t, list), 0o644)
				defer w.sweeping()()
				w.apply("2", row.before...)
				sessions := map[string]*client{}
				for who, of := range inhabitants {
					c := w.connect(of.from)
					c.login(of.certificate(), of.user)
					c.send(query)
					c.want(queryAnswer)
					sessions[who] = c
				}
				w.apply("3", row.after...)
				synctest.Wait()
				pass(time.Second)

				var ended []string
				for who, c := range sessions {
					if strings.Contains(row.ends, who) {
						c.forbidden("")
						ended = append(ended, who)
					} else {
						c.send(query)
						c.want(queryAnswer)
					}
					c.leave()
				}
				slices.Sort(ended)
				if got := strings.Join(ended, ", "); got != row.ends {
					t.Errorf("ended %s, want %s", got, row.ends)
				}
				w.wait()
				r := w.newest()
				total := 0
				for reason, n := range r.Ended {
					if total += n; !strings.Contains(row.reason, reason.String()) {
						t.Errorf("%d sessions end because of %s, want %s", n, reason, row.reason)
					}
				}
				if total != len(ended) || r.Kept != len(inhabitants)-len(ended) || r.InForceAt.IsZero() {
					t.Errorf("the receipt is %+v", r)
				}
			})
		})
	}
}

// A list that goes out of date refuses whoever comes and ends nobody who is there. One that was signed by a clock that is
// ahead refuses nobody for that, and ends those whom it revokes at once.
func TestRevocationListsEndSessionsOfWhomTheyRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		now := time.Now()
		w.write("crl.pem", pki().ca.MustCRL(t, testpki.CRL{ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(30 * time.Minute)}), 0o644)
		defer w.sweeping()()
		w.apply("2", bothIn, "client_crl: [crl.pem]")
		stays, ends := w.connect(home), w.connect(office)
		stays.login(pki().app, "app")
		ends.login(pki().other, "other")

		pass(35 * time.Minute) // the list is out of date
		for _, c := range []*client{stays, ends} {
			c.send(query)
			c.want(queryAnswer)
		}
		late := w.connect(home)
		late.handshake(pki().app)
		late.send(startupPacket("user", "app"))
		late.wantFatal("28000", "connection requires a valid client certificate")
		late.leave()

		w.write("crl.pem", pki().ca.MustCRL(t, testpki.CRL{Number: 2, ThisUpdate: now.Add(40 * time.Minute), NextUpdate: now.Add(time.Hour),
			Revoked: []*big.Int{pki().other.Cert.SerialNumber}}), 0o644)
		w.apply("3", bothIn, "client_crl: [crl.pem]")
		ends.forbidden("Client certificate \"CN=other\"")
		if after := time.Since(now); after >= 36*time.Minute {
			t.Errorf("the session ends %v after the begin, and the list came after 35m", after)
		}
		ends.leave()
		late = w.connect(home)
		late.login(pki().app, "app")
		late.leave()
		pass(2 * time.Hour) // and this list is out of date, too
		stays.send(query)
		stays.want(queryAnswer)
		stays.leave()
	})
}
