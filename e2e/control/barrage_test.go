package control

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// What a barrage of the API is made of, and the memory that the daemon may have more than before while it stands.
const (
	apiUnfinished = 2000 // connections that stop in their handshake or in their first request, from 4 addresses
	apiIdle       = 1000 // and that are past it, without a token, and send nothing
	apiBound      = 128 << 20
)

// Peers that have not proved who they are send as much as they can and stop. They take bounded memory, and somebody else is
// served meanwhile.
func TestBarrageOfTheAPITakesBoundedMemory(t *testing.T) {
	shipped := filepath.Join(t.TempDir(), "pgmtls")
	if output, err := exec.Command("go", "build", "-trimpath", "-o", shipped, "../../cmd/pgmtls").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output) // a race detector has memory of its own
	}
	dir := filepath.Join(t.TempDir(), "data")
	p := &plane{Dir: dir, client: filepath.Join(dir, "client.yaml")}
	p.process = launch(t, "the daemon", shipped, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	p.waitFor(t, "serving")
	where, err := url.Parse(p.url(t))
	must.OK(t, err)
	before := p.resident(t, "VmRSS")

	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var attack sync.WaitGroup
	defer attack.Wait()
	defer cancel()
	chains := map[int][][]byte{150: junkChain(t, 150), 2000: junkChain(t, 2000)}
	barrage := func(n int, stops []apiStop) int {
		var there sync.WaitGroup
		for i := range n {
			s, source := stops[i%len(stops)], fmt.Sprintf("127.0.0.%d", 2+i%4)
			there.Add(1)
			attack.Go(func() { s.stay(ctx, where.Host, source, chains[s.chain], there.Done) })
		}
		there.Wait()
		return p.resident(t, "VmHWM")
	}
	unfinished := barrage(apiUnfinished, apiStops)
	idle := barrage(apiIdle, []apiStop{{}, {http1: true, headers: 100, whole: true}})
	t.Logf("before %d MiB, peak with unfinished connections %d MiB, with idle ones %d MiB", before>>20, unfinished>>20, idle>>20)
	if idle-before > apiBound {
		t.Errorf("the barrage took %d MiB, want %d MiB at most", (idle-before)>>20, apiBound>>20)
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	eventually.OK(t, patience, func() error { // there is room as soon as the daemon has given some of them up
		answer, err := client.Get(p.url(t) + "/v1/health")
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("somebody else is answered with %d", answer.StatusCode)
		}
		return nil
	})
}

// resident is the memory of the process in bytes: what it has now (VmRSS), or had at most (VmHWM).
func (p *process) resident(t *testing.T, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	must.OK(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			must.OK(t, err)
			return kib << 10
		}
	}
	t.Fatalf("/proc says nothing of %s", field)
	return 0
}

// apiStop is a way to keep a connection to the API: with more than is taken, and with as much as is.
type apiStop struct {
	version uint16
	pieces  int  // bytes of a ClientHello that does not end, in place of a handshake
	names   int  // ALPN names in the ClientHello
	chain   int  // names in each junk certificate
	http1   bool // no HTTP/2
	headers int  // bytes of the headers of a request, without their end
	whole   bool // with it
}

var apiStops = []apiStop{
	{pieces: 64000}, {pieces: 8000},
	{version: tls.VersionTLS13, names: 30000}, {version: tls.VersionTLS12, names: 30000}, {version: tls.VersionTLS13, names: 3000},
	{version: tls.VersionTLS13, chain: 2000}, {version: tls.VersionTLS12, chain: 2000}, {version: tls.VersionTLS13, chain: 150},
	{http1: true, headers: 15000}, {http1: true, headers: 1 << 20},
}

// stay connects, goes as far as the stop says, and stays until the context or the daemon ends it. Done is called when it is
// there, or when the daemon has refused to go that far.
func (s apiStop) stay(ctx context.Context, address, source string, chain [][]byte, done func()) {
	done = sync.OnceFunc(done)
	defer done()
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(10 * time.Second)) // it waits for what does not come
	if s.pieces > 0 {
		fragment := make([]byte, 4000)
		copy(fragment, []byte{1, 0, 0xfd, 0xe8, 3, 3})
		for total := s.pieces; total >= len(fragment); total -= len(fragment) {
			conn.Write(append([]byte{22, 3, 1, 0x0f, 0xa0}, fragment...))
			clear(fragment)
		}
	} else if client := s.client(conn, chain); client.HandshakeContext(ctx) == nil {
		switch {
		case s.headers > 0:
			fmt.Fprintf(client, "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX: %s", strings.Repeat("x", s.headers))
			if s.whole {
				io.WriteString(client, "\r\n\r\n")
			}
		case s.chain == 0:
			io.WriteString(client, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		}
	}
	done()
	conn.SetDeadline(time.Time{})
	io.Copy(io.Discard, conn)
}

func (s apiStop) client(conn net.Conn, chain [][]byte) *tls.Conn {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MaxVersion: s.version}
	if s.http1 {
		config.NextProtos = []string{"http/1.1"}
	}
	config.NextProtos = append(config.NextProtos, slices.Repeat([]string{"x"}, s.names)...)
	if chain != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own := junkLeaf().TLS()
			own.Certificate = append(own.Certificate[:1:1], chain...)
			return &own, nil
		}
	}
	return tls.Client(conn, config)
}

// junkLeaf is a certificate that nobody knows the CA of.
var junkLeaf = sync.OnceValue(func() *testpki.Pair {
	ca, err := testpki.NewCA(testpki.Authority("junk"))
	if err != nil {
		panic(err)
	}
	leaf, err := ca.Issue(testpki.Client("app"))
	if err != nil {
		panic(err)
	}
	return leaf
})

// junkChain is five CA certificates with so many names each that lead nowhere: with 150 names 15 kB, with 2,000 names 190 kB.
func junkChain(t *testing.T, names int) [][]byte {
	t.Helper()
	var chain [][]byte
	for i := range 5 {
		junk := testpki.Authority(fmt.Sprint("Junk ", i))
		for n := range names {
			junk.DNSNames = append(junk.DNSNames, fmt.Sprintf("junk-%d.test", n))
		}
		chain = append(chain, testpki.MustNewCA(t, junk).Cert.Raw)
	}
	return chain
}
