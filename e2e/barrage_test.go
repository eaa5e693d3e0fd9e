package e2e

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/testpki"
)

// What a barrage is made of, and the memory that the proxy may have at most while it stands.
const (
	barrageUnfinished = 2000 // connections that stop in their handshake, from 4 allowed addresses
	barrageStrangers  = 400  // and from addresses that no rule allows
	barrageChains     = 1000 // sessions of one good certificate, each with other junk behind it
	barrageBodies     = 100  // requests to the admin address that stop in their body
	barrageBound      = 128 << 20
)

// Clients that have not proved who they are, and the holder of one certificate, send as much as they can and stop. What
// is bounded is bounded in bytes: threats 2 and 36a.
func TestBarrageOfUnfinishedConnectionsTakesBoundedMemory(t *testing.T) {
	p := prepared(t, t.TempDir(), options{Backend: record(t).Address,
		Policy: func(p *policy) { p.IPRules = []ipRule{{ID: "near", CIDR: "127.0.0.0/28"}} },
		Config: map[string]any{"drain": map[string]any{"grace": "0s"}, "log": map[string]any{"level": "info"}},
	})
	p.execute(t, exec.Command(shipped(t), "--config", p.configFile()))
	p.learnAddresses(t)
	eventually.OK(t, patience, p.ready)
	comesInFrom(t, p, "127.0.0.5")
	before := p.resident(t, "VmRSS")

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var attack sync.WaitGroup
	defer attack.Wait()
	defer cancel()
	chains := map[int][][]byte{0: nil, 150: junkChain(t, 150), 2000: junkChain(t, 2000)}
	var stuck sync.WaitGroup
	for i := range barrageUnfinished + barrageStrangers {
		source := fmt.Sprintf("127.0.0.%d", 1+i%4)
		if i >= barrageUnfinished {
			source = fmt.Sprintf("127.0.%d.1", 1+i%100)
		}
		stuck.Add(1)
		s := stops[i%len(stops)]
		attack.Go(func() { stopInside(ctx, p.Addr, source, s, chains[s.chain], stuck.Done) })
	}
	stuck.Wait()
	unfinished := p.resident(t, "VmHWM")

	var visitors sync.WaitGroup
	queue := make(chan int)
	for range 8 {
		visitors.Go(func() {
			for i := range queue {
				visitWithJunk(ctx, p, chains[150], uint32(i))
			}
		})
	}
	for i := range barrageChains {
		queue <- i
	}
	close(queue)
	visitors.Wait()
	visited := p.resident(t, "VmHWM")

	var bodies sync.WaitGroup
	for range barrageBodies {
		bodies.Add(1)
		attack.Go(func() { stopInBody(ctx, p.Admin, bodies.Done) })
	}
	bodies.Wait()
	peak := p.resident(t, "VmHWM")
	t.Logf("before %s, peak with unfinished connections %s, with junk chains %s, with unfinished bodies %s",
		mebibytes(before), mebibytes(unfinished), mebibytes(visited), mebibytes(peak))
	if peak > barrageBound {
		t.Errorf("the barrage took the proxy to %s, want %s at most", mebibytes(peak), mebibytes(barrageBound))
	}
	comesInFrom(t, p, "127.0.0.5")
	if p.metric(t, "pgmtls_panics_total") != 0 {
		t.Error("a connection's code broke")
	}
}

// comesInFrom wants that a good client of the address is served.
func comesInFrom(t *testing.T, p *proxy, source string) {
	t.Helper()
	w := dialFrom(t, p, source).negotiate(t, clientTLS("app"))
	w.login(t, asPostgres())
	w.Close()
}

// stop is a way to keep a connection unfinished: with more than is taken, and with as much as is.
type stop struct {
	version uint16
	direct  bool
	pieces  int    // bytes of a ClientHello that does not end, in place of a handshake
	names   int    // ALPN names in the ClientHello
	chain   int    // names in each junk certificate
	cut     int    // bytes of the client's handshake that are sent; 0: all
	startup []byte // that is sent behind a handshake, without its end
}

var stops = []stop{
	{pieces: 64000},
	{pieces: 8000},
	{pieces: 8000, direct: true},
	{version: tls.VersionTLS13, names: 30000},
	{version: tls.VersionTLS13, names: 3000},
	{version: tls.VersionTLS13, chain: 2000, cut: 64000},
	{version: tls.VersionTLS13, chain: 2000, cut: 56000},
	{version: tls.VersionTLS13, chain: 2000, cut: 56000, direct: true},
	{version: tls.VersionTLS13, chain: 150, cut: 15000},
	{version: tls.VersionTLS12, chain: 2000, cut: 64000},
	{version: tls.VersionTLS12, chain: 2000, cut: 56000},
	{version: tls.VersionTLS12, chain: 150, cut: 15000},
	{version: tls.VersionTLS13, chain: 2000},
	{version: tls.VersionTLS13, chain: 150},
	{version: tls.VersionTLS12, chain: 150},
	{version: tls.VersionTLS13, chain: 150, startup: startup(protocol30, "user", "app", "options", strings.Repeat("x", 9000))},
	{version: tls.VersionTLS13, names: 3000, chain: 150, startup: startup(protocol30, "user", "app", "options", strings.Repeat("x", 9000))},
}

// stopInside connects, goes as far as the stop says, and stays until the context ends. Done is called when it is there, or
// when the proxy has refused to go that far.
func stopInside(ctx context.Context, address, source string, s stop, chain [][]byte, done func()) {
	done = sync.OnceFunc(done)
	defer done()
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if !s.direct {
		conn.Write(sslRequest)
		var answer [1]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != 'S' {
			return
		}
	}
	if s.pieces > 0 {
		sendPieces(conn, s.pieces)
	} else {
		shakeHands(conn, s, chain)
	}
	done()
	io.Copy(io.Discard, conn)
}

// sendPieces sends the beginning of a ClientHello of 65,000 bytes, in records of 4,000.
func sendPieces(conn net.Conn, total int) {
	fragment := make([]byte, 4000)
	copy(fragment, []byte{1, 0, 0xfd, 0xe8, 3, 3})
	for ; total >= len(fragment); total -= len(fragment) {
		if _, err := conn.Write(append([]byte{22, 3, 1, 0x0f, 0xa0}, fragment...)); err != nil {
			return
		}
		clear(fragment)
	}
}

func shakeHands(conn net.Conn, s stop, chain [][]byte) {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}, MaxVersion: s.version}
	config.NextProtos = append(config.NextProtos, slices.Repeat([]string{"x"}, s.names)...)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		own := pki.clients["app"].TLS()
		own.Certificate = append(own.Certificate[:1:1], chain...)
		return &own, nil
	}
	if s.cut > 0 {
		conn = &cutConn{Conn: conn, left: s.cut}
	}
	client := tls.Client(conn, config)
	conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // it waits for an answer that does not come
	defer conn.SetReadDeadline(time.Time{})
	if client.Handshake() == nil && s.startup != nil {
		client.Write(s.startup[:len(s.startup)-1])
	}
}

// cutConn sends the first bytes only.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	if _, err := c.Conn.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

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

// visitWithJunk logs in with a good certificate and a chain that nobody has seen before.
func visitWithJunk(ctx context.Context, p *proxy, chain [][]byte, number uint32) error {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}}
	conn, err := dialer.DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	conn.Write(sslRequest)
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	config := clientTLS("app")
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		own := pki.clients["app"].TLS()
		own.Certificate = own.Certificate[:1:1]
		for _, raw := range chain {
			raw = slices.Clone(raw)
			binary.BigEndian.PutUint32(raw[len(raw)-4:], number) // its signature ends otherwise: another certificate
			own.Certificate = append(own.Certificate, raw)
		}
		return &own, nil
	}
	client := tls.Client(conn, config)
	return errors.Join(client.HandshakeContext(ctx), logInAndOut(client))
}

// stopInBody asks for a dry run and stops in the middle of the policy.
func stopInBody(ctx context.Context, admin string, done func()) {
	done = sync.OnceFunc(done)
	defer done()
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}} // not the address of probes
	conn, err := dialer.DialContext(ctx, "tcp", admin)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetWriteDeadline(time.Now().Add(2 * time.Second)) // what is not read soon is not read
	fmt.Fprintf(conn, "POST /dry-run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx: [")
	conn.Write(slices.Repeat([]byte("a,"), 450000))
	done()
	io.Copy(io.Discard, conn)
}
