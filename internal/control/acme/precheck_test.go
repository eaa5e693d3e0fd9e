package acme

import (
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/acmetest"
)

func TestCAARecordsAreReadAsAuthoritiesReadThem(t *testing.T) {
	t.Parallel()
	const account = "https://pebble.test/my-account/1"
	d := acmetest.StartDNS(t, zone,
		`open A 127.0.0.1`,
		`ours CAA 0 issue "pebble.test"`,
		`other CAA 0 issue "other.test"`,
		`nobody CAA 0 issue ";"`,
		`two CAA 0 issue "other.test"`,
		`two CAA 0 issue "PEBBLE.test; accounturi=`+account+`; validationmethods=http-01,dns-01"`,
		`account CAA 0 issue "pebble.test; accounturi=https://pebble.test/my-account/2"`,
		`method CAA 0 issue "pebble.test; validationmethods=http-01"`,
		`alias CNAME other`,
		`critical CAA 128 future "x"`,
		`mail CAA 0 iodef "mailto:ca@example.com"`,
		`wild CAA 0 issue "pebble.test"`,
		`wild CAA 0 issuewild "other.test"`,
		`near.other CAA 0 issue "pebble.test"`,
	)
	check := precheck{resolver: Resolver{Servers: []string{d.Address}}, method: methodDNS, identities: []string{"pebble.test"}, account: account}
	for _, c := range []struct {
		name string
		text string // of the problem; empty: none
	}{
		{"open", ""}, {"ours", ""}, {"two", ""}, {"mail", ""}, {"near.other", ""}, {"wild", ""},
		{"other", "allow other.test, not pebble.test"},
		{"db.other", `add: CAA 0 issue "pebble.test; accounturi=` + account + `; validationmethods=dns-01"`},
		{"nobody", "not pebble.test"},
		{"account", "accounturi=https://pebble.test/my-account/2"},
		{"method", "validationmethods=http-01"},
		{"alias", "not pebble.test"},
		{"critical", `critical property "future"`},
		{"*.wild", "allow other.test"},
	} {
		err := check.caa(t.Context(), strings.Replace(c.name, "*.", "*.", 1)+"."+zone)
		switch p := (*Problem)(nil); {
		case c.text == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.text != "":
			if err != nil {
				p = asProblem(err)
			}
			if p == nil || p.Reason != CAAForbids || !strings.Contains(p.Detail, c.text) {
				t.Errorf("%s: got %v, want %q", c.name, err, c.text)
			}
		}
	}
}

// A name server that fails is no permission: authorities refuse then, too.
func TestANameServerThatFailsIsNoPermission(t *testing.T) {
	t.Parallel()
	check := precheck{identities: []string{"pebble.test"}, resolver: Resolver{Servers: []string{"127.0.0.1:1"}}}
	for _, resolver := range []Resolver{check.resolver, {}} {
		check.resolver = resolver
		if err := check.caa(t.Context(), "db."+zone); err == nil || asProblem(err).Reason != DNSFailed {
			t.Errorf("got %v", err)
		}
	}
}

// A challenge below a name that only a wildcard record answers for would make the host vanish: that is what BIND does.
func TestAHostThatLivesOnAWildcardRecordIsNotOrdered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, []string{"*.wild A 127.0.0.1", "own.wild A 127.0.0.2", "*.below A 127.0.0.1", "below A 127.0.0.3"}, nil)
	trapped := w.want("db.wild." + zone)
	deeper := w.want("a.b.wild." + zone)
	own := w.want("own.wild." + zone)
	parent := w.want("below." + zone)
	star := w.want("*.wild." + zone)
	absent := w.want("absent." + zone)
	w.settle()
	w.waits(trapped, WildcardHost, "db.wild."+zone+" has its address 127.0.0.1 from a wildcard record")
	w.waits(deeper, WildcardHost, "from a wildcard record")
	for _, id := range []string{own, parent, star, absent} {
		w.issued(id)
	}
	if n := w.faults.Requests(acmetest.NewOrderPath); n != 4 {
		t.Errorf("%d orders", n)
	}
	// The trap is real: with the record, the address is gone.
	resolver := w.options.Resolver
	record := TXT{Name: challengeName("db.wild." + zone), Value: "x"}
	before, err := resolver.addresses(w.ctx, "db.wild."+zone)
	w.done(err)
	w.done(w.options.Solver.Present(w.ctx, record))
	during, err := resolver.addresses(w.ctx, "db.wild."+zone)
	w.done(err)
	if len(before) != 1 || len(during) != 0 {
		t.Errorf("addresses before %q, during %q", before, during)
	}
}

func TestNamesThatNoAuthorityIssuesForAreRefusedAtOnce(t *testing.T) {
	for name, text := range map[string]string{
		"localhost":                              "full host name",
		"":                                       "full host name",
		"10.0.0.1":                               "is an address",
		"db..example.com":                        "no host name",
		"-db.example.com":                        "no host name",
		"db_1.example.com":                       "no host name",
		"a.*.example.com":                        "no host name",
		"*.*.example.com":                        "no host name",
		strings.Repeat("a", 64) + ".example.com": "no host name",
		strings.Repeat("a.", 130) + "example.com": "at most 253 bytes",
		"dätabase.example.com":                    "no host name",
	} {
		if err := CheckName(name); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q", name, err, text)
		}
	}
	for _, name := range []string{"db.example.com", "*.example.com", "xn--dtabase-5wa.example.com", "1.example.com"} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

// A record that could not be made must not cost an order: a person has to delegate it first.
func TestAChallengeOutsideOfTheZoneIsNotOrdered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, acmetest.Options{}, []string{"db A 127.0.0.1"}, func(w *world, o *Options) {
		o.Solver = &RFC2136{Server: w.dns.Address, Zone: "example.test", Key: w.solver().Key}
		o.Resolver = Resolver{Servers: []string{w.dns.Address}}
	})
	id := w.want("db.customer.example")
	w.settle()
	w.waits(id, DNSFailed, "make a record: _acme-challenge.db.customer.example. CNAME db.customer.example.example.test.")
	if n := w.faults.Requests(acmetest.NewOrderPath); n != 0 {
		t.Errorf("%d orders", n)
	}
}
