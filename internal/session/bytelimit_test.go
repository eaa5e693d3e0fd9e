package session

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/testkit/testpki"
)

// source is a client that sends zeros for ever, as many as it is asked for.
type source struct{ net.Conn }

func (source) Read(p []byte) (int, error)  { return len(p), nil }
func (source) Write(p []byte) (int, error) { return len(p), nil }

// The hello is bounded until the server's flight, which a HelloRetryRequest is not, and everything else as a whole.
func TestBytesBeforeASessionAreBounded(t *testing.T) {
	const retry, flight = 110, 700 // bytes of a HelloRetryRequest, and of a small first flight
	for name, row := range map[string]struct {
		unlisted bool
		writes   []int
		done     bool // the handshake
		want     int64
	}{
		"hello":                         {want: maxHello},
		"hello of an unlisted address":  {unlisted: true, want: maxHello},
		"second hello":                  {writes: []int{retry}, want: maxHello},
		"certificates":                  {writes: []int{flight}, want: maxHandshake},
		"certificates behind a retry":   {writes: []int{retry, 6, flight}, want: maxHandshake},
		"unlisted address":              {unlisted: true, writes: []int{flight}, want: maxUnlistedHandshake},
		"startup packet":                {writes: []int{flight}, done: true, want: maxBehindHandshake},
		"startup packet of an unlisted": {unlisted: true, writes: []int{flight}, done: true, want: maxBehindHandshake},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLimitedConn(source{}, row.unlisted)
			for _, n := range row.writes {
				l.Write(make([]byte, n))
			}
			if row.done {
				l.Allow(maxBehindHandshake)
			}
			n, err := io.Copy(io.Discard, io.LimitReader(l, 1<<20))
			if n != row.want || err == nil {
				t.Errorf("%d bytes passed and then %v, want %d", n, err, row.want)
			}
		})
	}
}

func TestOversizedHandshakesFail(t *testing.T) {
	large := func(size int) *testpki.Pair {
		template := always(testpki.Client("app"))
		for n := 0; n < size; n += 200 {
			template.DNSNames = append(template.DNSNames, longName(200))
		}
		return pki().ca.MustIssue(t, template)
	}
	usual, tenth, half, most := pki().app, large(8_000), large(30_000), large(70_000)
	names := func(n int) []string {
		list := []string{alpn}
		for range n {
			list = append(list, "x")
		}
		return list
	}
	for name, row := range map[string]struct {
		from        netip.Addr
		certificate *testpki.Pair
		protocols   []string
		fails       bool
	}{
		"usual":                          {from: home, certificate: usual},
		"many protocols":                 {from: home, certificate: usual, protocols: names(2000)},
		"too many protocols":             {from: home, certificate: usual, protocols: names(5000), fails: true},
		"large certificate":              {from: home, certificate: half},
		"too large a certificate":        {from: home, certificate: most, fails: true},
		"unlisted address":               {from: outside, certificate: tenth},
		"unlisted, too large for that":   {from: outside, certificate: half, fails: true},
		"unlisted, too large for anyone": {from: outside, certificate: most, fails: true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, nil)
					w.apply("2", bothIn, "identities: [{subject_cn: somebody, users: [else]}]")
					c := w.connect(row.from)
					config := clientTLS(row.certificate)
					config.MaxVersion = version
					if row.protocols != nil {
						config.NextProtos = row.protocols
					}
					c.send(request(pgwire.SSLRequestCode))
					c.want("S")
					client := tls.Client(c.wire, config)
					_, err := client.Write(startupPacket("user", "app"))
					if err == nil {
						c.tls = client
					}
					if !row.fails {
						if err != nil {
							t.Fatal(err)
						}
						if answer := c.fatal(); answer.Code != "28000" {
							t.Errorf("the client reads %s %s", answer.Code, answer.Message)
						}
					}
					c.wire.Close()
					w.wait()
					want := map[bool]string{true: "tls_handshake_failed", false: "user_not_allowed"}[row.fails]
					if row.from == outside && !row.fails {
						want = "address_not_allowed"
					}
					if got := w.last()["refusal"]; got != want {
						t.Errorf("logged as %v", w.last())
					}
				})
			})
		}
	}
}

func longName(length int) string {
	name := make([]byte, length)
	for i := range name {
		if name[i] = 'a'; i%50 == 49 {
			name[i] = '.'
		}
	}
	return string(name[:length-1]) + "z"
}

// A startup packet of the greatest length passes, in whatever records it comes.
func TestStartupPacketFitsBehindTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		c := w.connect(home)
		c.handshake(pki().app)
		options := make([]byte, 9900)
		for i := range options {
			options[i] = 'x'
		}
		packet := startupPacket("user", "app", "options", string(options))
		for len(packet) > 0 {
			n := min(len(packet), 50)
			c.send(packet[:n])
			packet = packet[n:]
		}
		c.want(loginAnswer)
		c.leave()
	})
}

// Somebody whom a rule allows may take the startup timeout; all others, and everybody while many are slow, have 10 s.
func TestSlowStartersHaveTheStartupTimeoutIfTheyAreAllowedAndFew(t *testing.T) {
	patient := func(c *Config) { c.StartupTimeout = time.Minute; behindBalancers(c) }
	for name, row := range map[string]struct {
		from   netip.Addr
		header []byte
		others int // slow connections that came before
		want   time.Duration
	}{
		"allowed":                        {from: home, want: time.Minute},
		"allowed, behind a balancer":     {from: balancer, header: announcing(home), want: time.Minute},
		"not allowed":                    {from: outside, want: 10 * time.Second},
		"not allowed, behind a balancer": {from: balancer, header: announcing(outside), want: 10 * time.Second},
		"a balancer that says nothing":   {from: balancer, want: 10 * time.Second},
		"the last that may":              {from: home, others: maxPatience - 1, want: time.Minute},
		"one too many":                   {from: home, others: maxPatience, want: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, patient)
				var others []*client
				for range row.others {
					others = append(others, w.connect(office))
				}
				synctest.Wait()
				c := w.connect(row.from)
				c.send(row.header)
				if took := c.served(); took != row.want {
					t.Errorf("ended after %v, want %v", took, row.want)
				}
				c.leave()
				for _, other := range others {
					other.leave()
				}
				w.wait()
				if n := w.sessions.admission.unfinished.patience; n != 0 {
					t.Errorf("%d are still counted", n)
				}
			})
		})
	}
}

// A session, and a connection that is over, count no more.
func TestPatienceIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.StartupTimeout = time.Minute })
		live, gone := w.connect(home), w.connect(home)
		live.login(pki().app, "app")
		gone.leave()
		<-gone.over
		if n := w.sessions.admission.unfinished.patience; n != 0 {
			t.Errorf("%d are counted", n)
		}
		live.leave()
	})
}
