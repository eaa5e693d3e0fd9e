package control

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/acmetest"
)

// The public names of databases, and what the DNS has there.
const (
	publicZone = "pg.example.test"
	publicShop = "shop." + publicZone
)

// publicShops is a control plane with a public authority, and a database with a proxy, mutual TLS and a rule.
type publicShops struct {
	t *testing.T // the whole test's
	*site
	*plane
	shop    *front
	private visitor       // by the private name, with a client certificate
	live    *conversation // since before the first public certificate
}

// Whatever is away or wrong, the private name goes on. One control plane and one authority are enough for all of it.
func TestEnhancedCertificatesInTrouble(t *testing.T) {
	t.Parallel()
	s := &publicShops{t: t, site: newSite(t, map[string]uint64{"default": 90 * 24 * 3600, "brief": 145},
		"shop.pg A 127.0.0.1", `cards.pg CAA 0 issue "other.test"`, "*.pg A 127.0.0.1", "pair.pg A 127.0.0.1", "away.pg A 127.0.0.1")}
	s.plane = s.site.plane(t, publicZone, "database", "default")
	s.shop = s.enable(t, "shop")
	s.letIn(t, "shop")
	s.private = s.download(t, s.shop, "shop", "")
	s.live = s.private.converse(t)

	s.do(t, "enhanced-certificates", "enable", "shop", "--wait", "--timeout", "2m")
	t.Run("are renewed whenever the daemon is killed", s.surviveKills)
	t.Run("wait for a proxy that is cut off, and name it", s.waitForEveryProxy)
	t.Run("wait for an authority that is away", s.waitForTheAuthority)
	t.Run("are not ordered where CAA forbids it or the host would vanish", s.areNotOrderedInVain)
	t.Run("come back with a snapshot of before their renewal", s.comeBack)
	t.Run("leave the policy when they end", s.leaveAtTheirEnd)
	s.live.goesOn(t)
	s.live.leave(t)
	t.Run("leave no secret", s.leaveNoSecret)
}

// The daemon is killed when the authority has done what it was asked for, and the answer is on its way.
func (s *publicShops) surviveKills(t *testing.T) {
	for _, c := range []struct{ name, path string }{
		{"order", acmetest.NewOrderPath},
		{"challenge", acmetest.ChallengePath},
	} {
		before, orders := s.enhanced(t, "shop"), s.orders()
		reached, killed := make(chan struct{}), make(chan struct{})
		s.faults.Fail(c.path, 1, func(_ http.ResponseWriter, r *http.Request, forward http.Handler) {
			forward.ServeHTTP(httptest.NewRecorder(), r)
			close(reached)
			<-killed
			panic(http.ErrAbortHandler)
		})
		s.do(t, "enhanced-certificates", "renew", "shop")
		select {
		case <-reached:
		case <-time.After(patience):
			t.Fatalf("%s: the authority was not asked for it", c.name)
		}
		s.kill(t)
		close(killed)
		s.public(s.private, publicShop).comesIn(t)
		s.plane.start(s.t)
		s.becomes(t, "shop", func(e enhanced) bool { return e.Status == "Enabled" && e.Serial != before.Serial })
		if n := s.orders() - orders; n > 2 {
			t.Errorf("%s: it cost %d orders", c.name, n)
		}
		s.clean(t, publicShop)
		s.public(s.private, publicShop).comesIn(t)
		s.live.goesOn(t)
	}
}

func (s *publicShops) waitForEveryProxy(t *testing.T) {
	s.enable(t, "pair")
	network := newRelay(t, s.plane)
	edge := newFront(t, filepath.Join(privateDir(t), "policy"))
	newHelper(t, s.plane, network, struct{ database, proxy string }{"pair", "edge"}, edge)
	s.letIn(t, "pair")
	s.inForce(t, "pair")
	network.cut()
	s.do(t, "enhanced-certificates", "enable", "pair")
	s.becomes(t, "pair", func(e enhanced) bool {
		return e.Status == "Provisioning" && e.Reason == "delivering" && e.Detail == "waiting for edge"
	})
	network.leadTo(t, s.plane)
	s.becomes(t, "pair", func(e enhanced) bool { return e.Status == "Enabled" })
	s.public(s.download(t, edge, "pair", ""), "pair."+publicZone).comesIn(t)
}

func (s *publicShops) waitForTheAuthority(t *testing.T) {
	f := s.enable(t, "away")
	s.faults.Fail("/", -1, acmetest.Cut)
	defer s.faults.Heal()
	s.do(t, "enhanced-certificates", "enable", "away")
	waiting := s.becomes(t, "away", func(e enhanced) bool { return e.Reason == "ca_unavailable" })
	if waiting.Status != "Provisioning" {
		t.Errorf("got %+v", waiting)
	}
	// It holds up nothing else.
	s.letIn(t, "away")
	v := s.download(t, f, "away", "")
	v.comesIn(t)
	says(t, s.do(t, "acme", "status"), "pebble", "ca_unavailable")
	s.public(s.private, publicShop).comesIn(t)
	s.faults.Heal()
	s.becomes(t, "away", func(e enhanced) bool { return e.Status == "Enabled" })
	s.public(v, "away."+publicZone).comesIn(t)
}

func (s *publicShops) areNotOrderedInVain(t *testing.T) {
	orders := s.orders()
	for database, reason := range map[string]string{"cards": "caa_forbids", "vanishing": "wildcard_host"} {
		s.do(t, "databases", "create", database, "--host", database+".db.test")
		s.do(t, "enhanced-certificates", "enable", database)
		s.becomes(t, database, func(e enhanced) bool { return e.Status == "Provisioning" && e.Reason == reason && e.Detail != "" })
		if left := s.dns.TXT("_acme-challenge." + database + "." + publicZone); len(left) > 0 {
			t.Errorf("%s has %q in the DNS", database, left)
		}
	}
	if n := s.orders() - orders; n != 0 {
		t.Errorf("it cost %d orders", n)
	}
	// Nobody else waits for that.
	s.do(t, "enhanced-certificates", "renew", "shop", "--wait", "--timeout", "2m")
}

// The authority knows that the leaf of the snapshot was replaced. Neither the restore nor the next renewal stumbles over that.
func (s *publicShops) comeBack(t *testing.T) {
	keep := t.TempDir()
	snapshot, master, admin := filepath.Join(keep, "snapshot"), readFile(t, filepath.Join(s.Dir, "master.key")), s.admin(t)
	before := s.enhanced(t, "shop")
	s.do(t, "snapshot", "save", snapshot)
	s.do(t, "enhanced-certificates", "renew", "shop", "--wait", "--timeout", "2m")
	orders := s.orders()
	s.kill(t)
	if err := os.RemoveAll(s.Dir); err != nil {
		t.Fatal(err)
	}
	s.do(t, "snapshot", "restore", snapshot, "--config", s.args[1])
	writeFile(t, filepath.Join(s.Dir, "master.key"), master)
	writeFile(t, filepath.Join(s.Dir, "admin.token"), admin+"\n")
	s.plane.start(s.t)
	s.inForce(t, "shop")
	s.becomes(t, "shop", func(e enhanced) bool { return e.Status == "Enabled" && e.Serial == before.Serial })
	s.public(s.private, publicShop).comesIn(t)
	if n := s.orders() - orders; n != 0 {
		t.Errorf("the restore asked for %d orders", n)
	}
	s.do(t, "enhanced-certificates", "renew", "shop", "--wait", "--timeout", "2m")
	s.public(s.private, publicShop).comesIn(t)
	s.live.goesOn(t)
}

// Certificates of this profile end 145 seconds after they were issued, and leave the policy two minutes before that.
func (s *publicShops) leaveAtTheirEnd(t *testing.T) {
	brief := s.site.plane(t, "brief.example.test", "opaque", "brief")
	f := brief.enable(t, "books")
	brief.letIn(t, "books")
	v := brief.download(t, f, "books", "")
	brief.do(t, "certificates", "create", "books", "--name", "stolen", "--wait")
	stolen := brief.idOf(t, "books", "stolen")
	thief := brief.download(t, f, "books", stolen)
	live, short := v.converse(t), thief.converse(t)
	brief.do(t, "enhanced-certificates", "enable", "books", "--wait")
	host := brief.enhanced(t, "books").Host
	if strings.Contains(host, "books") {
		t.Errorf("the name %s tells that of the database", host)
	}
	brief.becomes(t, "books", func(e enhanced) bool { return e.Status == "Provisioning" })
	brief.inForce(t, "books")
	s.public(v, host).staysOut(t, "certificate verify failed")
	v.comesIn(t)
	brief.do(t, "certificates", "delete", "books", "--id", stolen, "--wait")
	short.wasEnded(t, "revoked")
	thief.staysOut(t, "revoked")
	f.checked(t)

	brief.do(t, "enhanced-certificates", "renew", "books")
	brief.becomes(t, "books", func(e enhanced) bool { return e.Status == "Enabled" })
	live.goesOn(t)
	live.leave(t)
}

func (s *publicShops) leaveNoSecret(t *testing.T) {
	w := s.web(t, s.admin(t))
	said := string(s.log.text())
	for _, path := range []string{"/v1/acme", "/v1/databases/shop", "/v1/databases/shop/enhanced-certificate", "/v1/databases/shop/enhanced-certificate/records", "/v1/audit", "/metrics"} {
		got, err := w.send(http.MethodGet, path, "")
		if err != nil || got.status != http.StatusOK {
			t.Errorf("GET %s: %d, %v", path, got.status, err)
		}
		said += string(got.body)
	}
	for _, mark := range append(keyMarks, []byte(s.dns.KeySecret)) {
		if strings.Contains(said, string(mark)) {
			t.Errorf("logs and answers have %q in them", mark)
		}
	}
	s.plane.stop(t)
	secrets := map[string]string{"the TSIG key": s.dns.KeySecret}
	for i, mark := range keyMarks {
		secrets["a private key in form "+string(rune('0'+i))] = string(mark)
	}
	holdsNone(t, filepath.Join(s.Dir, "etcd"), secrets)
}
