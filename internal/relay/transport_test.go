package relay

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/testkit/testpki"
)

// recorder keeps what is read through it.
type recorder struct {
	net.Conn
	got bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.got.Write(p[:n])
	return n, err
}

// libpq before August 2026 can hang on larger records.
func TestRecordsToClientsCarryAtMost8192Bytes(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		raw := &recorder{Conn: l.socket}
		l.below.Conn = raw
		m := message('d', string(make([]byte, 1<<20)))
		go l.server.Write(m)
		l.want(l.client, m)
		records := 0
		for stream := raw.got.Bytes(); len(stream) > 5; records++ {
			length := int(binary.BigEndian.Uint16(stream[3:]))
			if length > maxRecord+24 { // nonce and tag of TLS 1.2; TLS 1.3 adds 17
				t.Fatalf("record %d carries %d bytes", records, length)
			}
			stream = stream[min(len(stream), 5+length):]
		}
		if records < len(m)/maxRecord {
			t.Errorf("%d records", records)
		}
	})
}

// The relay calls crypto/tls again after a temporary error, which crypto/tls documents nowhere. This pins it: a record
// may arrive in any two parts, with the reader asking in between.
func TestRecordsMayBeSplitAtEveryByte(t *testing.T) {
	each(t, func(t *testing.T, l *link) {
		sealed := &held{Conn: l.socket}
		l.below.Conn = sealed
		word := []byte("two records, ")
		first := seal(t, l, sealed, word)
		send(t, l.socket, first)
		l.want(l.server, word)
		length := len(first)
		for at := 1; at < 2*length; at++ {
			two := append(seal(t, l, sealed, word), seal(t, l, sealed, word)...)
			send(t, l.socket, two[:at])
			whole := at / length // records that have arrived: the first must not wait for the second
			for range whole {
				l.want(l.server, word)
			}
			send(t, l.socket, two[at:])
			for range 2 - whole {
				l.want(l.server, word)
			}
		}
	})
}

// held keeps what is written.
type held struct {
	net.Conn
	out bytes.Buffer
}

func (h *held) Write(p []byte) (int, error) { return h.out.Write(p) }

// seal gives the record for some plaintext.
func seal(t *testing.T, l *link, h *held, plaintext []byte) []byte {
	t.Helper()
	h.out.Reset()
	send(t, l.client, plaintext)
	return bytes.Clone(h.out.Bytes())
}

// A connection that is no socket works too: tests with a fake network need it.
func TestRelayOverPipes(t *testing.T) {
	pki := testpki.MustCA(t, "relay test")
	config := &tls.Config{Certificates: []tls.Certificate{pki.MustIssue(t, testpki.Server("relay.test")).TLS()}}
	clientEnd, proxyEnd := net.Pipe()
	server, relayEnd := net.Pipe()
	transport := NewTransport(proxyEnd, nil)
	proxy := tls.Server(transport, config)
	client := tls.Client(clientEnd, &tls.Config{RootCAs: pki.Pool(), ServerName: "relay.test"})
	go proxy.Handshake()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	var count Bytes
	ended := make(chan Result, 1)
	Goroutines{}.Start(Link{Client: proxy, Transport: transport, Server: relayEnd, Stream: &pgwire.ServerStream{}, Bytes: &count},
		func(r Result) { ended <- r })
	up := make([]byte, 100<<10)
	rand.Read(up)
	go client.Write(up)
	got := make([]byte, len(up))
	if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, up) {
		t.Fatalf("%v, equal %v", err, bytes.Equal(got, up))
	}
	server.Close()
	clientEnd.Close()
	<-ended
}

func TestReplayedBytesComeFirstAndOnce(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	go b.Write([]byte("socket"))
	transport := NewTransport(a, []byte("replay "))
	got := make([]byte, len("replay socket"))
	if _, err := io.ReadFull(transport, got); err != nil || string(got) != "replay socket" {
		t.Errorf("got %q, %v", got, err)
	}
}

// BenchmarkMessage is a small query and its answer through the relay: one record each way.
func BenchmarkMessage(b *testing.B) {
	benchEngines(b, benchMessage)
}

func benchEngines(b *testing.B, bench func(b *testing.B, l *link)) {
	b.Run("pair", func(b *testing.B) { bench(b, start(b, Goroutines{}, 0)) })
	b.Run("loop", func(b *testing.B) { bench(b, start(b, NewEngine(), 0)) })
}

func benchMessage(b *testing.B, l *link) {
	query := []byte("Q\x00\x00\x00\x0eselect 1;\x00")
	answer := append(message('D', "\x00\x01\x00\x00\x00\x011"), ready()...)
	send(b, l.server, ready())
	l.want(l.client, ready())
	in, out := make([]byte, len(query)), make([]byte, len(answer))
	b.ReportAllocs()
	for b.Loop() {
		l.client.Write(query)
		io.ReadFull(l.server, in)
		l.server.Write(answer)
		io.ReadFull(l.client, out)
	}
}

// BenchmarkBulk is a copy to the client, client's decryption included.
func BenchmarkBulk(b *testing.B) {
	benchEngines(b, benchBulk)
}

func benchBulk(b *testing.B, l *link) {
	chunk := message('d', string(make([]byte, 64<<10-5)))
	go func() {
		for {
			if _, err := l.server.Write(chunk); err != nil {
				return
			}
		}
	}()
	in := make([]byte, len(chunk))
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.ReadFull(l.client, in); err != nil {
			b.Fatal(err)
		}
	}
}
