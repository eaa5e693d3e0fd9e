package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 is a header of version 2.
func v2(command, family byte, body ...[]byte) string {
	all := bytes.Join(body, nil)
	head := append([]byte(signature), command, family)
	return string(binary.BigEndian.AppendUint16(head, uint16(len(all)))) + string(all)
}

// addresses are those of version 2's body, with the ports behind them.
func addresses(source, destination string) []byte {
	both := append(netip.MustParseAddr(source).AsSlice(), netip.MustParseAddr(destination).AsSlice()...)
	return append(both, 0xdb, 0x04, 0x15, 0x38)
}

var (
	four    = addresses("203.0.113.7", "192.0.2.1")
	six     = addresses("2001:db8::7", "2001:db8::1")
	mapped  = addresses("::ffff:203.0.113.7", "::ffff:192.0.2.1")
	sockets = make([]byte, lengthUnix)
	tlv     = append([]byte{0x05, 0x01, 0x00}, make([]byte, 256)...)
	broken  = []byte{0x05, 0xff, 0xff, 0x01} // an extension that announces more than there is
)

// good are headers with what they say.
var good = map[string]struct {
	header string
	own    bool
	source string // empty: none
}{
	"v1 IPv4":                      {header: "PROXY TCP4 203.0.113.7 192.0.2.1 56324 5432\r\n", source: "203.0.113.7"},
	"v1 shortest IPv4":             {header: "PROXY TCP4 1.1.1.1 2.2.2.2 0 1\r\n", source: "1.1.1.1"},
	"v1 longest IPv4":              {header: "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", source: "255.255.255.255"},
	"v1 IPv6":                      {header: "PROXY TCP6 2001:db8::7 2001:db8::1 56324 5432\r\n", source: "2001:db8::7"},
	"v1 shortest IPv6":             {header: "PROXY TCP6 :: :: 1 1\r\n", source: "::"},
	"v1 longest IPv6":              {header: "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", source: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0"},
	"v1 IPv6 with IPv4 in it":      {header: "PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 56324 5432\r\n", source: "203.0.113.7"},
	"v1 unknown":                   {header: "PROXY UNKNOWN\r\n", own: true},
	"v1 unknown with addresses":    {header: "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", own: true},
	"v1 unknown with others":       {header: "PROXY UNKNOWN what is that\r\n", own: true},
	"v2 IPv4":                      {header: v2(0x21, 0x11, four), source: "203.0.113.7"},
	"v2 IPv6":                      {header: v2(0x21, 0x21, six), source: "2001:db8::7"},
	"v2 IPv6 with IPv4 in it":      {header: v2(0x21, 0x21, mapped), source: "203.0.113.7"},
	"v2 unix":                      {header: v2(0x21, 0x31, sockets)},
	"v2 IPv4 and extensions":       {header: v2(0x21, 0x11, four, tlv, tlv), source: "203.0.113.7"},
	"v2 IPv6 and bad extensions":   {header: v2(0x21, 0x21, six, broken), source: "2001:db8::7"},
	"v2 unix and extensions":       {header: v2(0x21, 0x31, sockets, tlv)},
	"v2 of the greatest length":    {header: v2(0x21, 0x11, four, make([]byte, maxBody-len(four))), source: "203.0.113.7"},
	"v2 local":                     {header: v2(0x20, 0x00), own: true},
	"v2 local with an address":     {header: v2(0x20, 0x11, four), own: true},
	"v2 local of an odd family":    {header: v2(0x20, 0x7f, broken), own: true},
	"v2 unspecified":               {header: v2(0x21, 0x00), own: true},
	"v2 unspecified and extension": {header: v2(0x21, 0x00, tlv), own: true},
}

const behind = "\x00\x00\x00\x08\x04\xd2\x16\x2f and more" // SSLRequest, as it were

// dribble gives a text in two reads.
func dribble(text string, at int) io.Reader {
	return io.MultiReader(strings.NewReader(text[:at]), strings.NewReader(text[at:]))
}

func TestHeaderIsReadToItsLastByteAndNoFurther(t *testing.T) {
	for name, row := range good {
		t.Run(name, func(t *testing.T) {
			var source netip.Addr
			if row.source != "" {
				source = netip.MustParseAddr(row.source)
			}
			whole := row.header + behind
			readers := map[string]io.Reader{"a byte at a time": iotest.OneByteReader(strings.NewReader(whole)), "at once": strings.NewReader(whole)}
			for at := range whole {
				readers["in two at "+string(rune('0'+at))] = dribble(whole, at)
			}
			for how, r := range readers {
				header, err := Read(r)
				if err != nil || header != (Header{Own: row.own, Source: source}) {
					t.Errorf("%s: got %+v, %v", how, header, err)
				}
				if rest, _ := io.ReadAll(r); string(rest) != behind {
					t.Errorf("%s: left %q, want %q", how, rest, behind)
				}
			}
		})
	}
}

func TestHeaderThatEndsTooEarlyIsNone(t *testing.T) {
	for name, row := range good {
		for n := range row.header {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if _, err := Read(strings.NewReader(row.header[:n])); err != want {
				t.Errorf("%s, %d bytes: got %v, want %v", name, n, err, want)
			}
		}
	}
}

func TestMalformedHeadersAreRefused(t *testing.T) {
	for name, header := range map[string]string{
		"v1 without a protocol":           "PROXY \r\n..............................",
		"v1 of a protocol in small print": "PROXY tcp4 203.0.113.7 192.0.2.1 1 2\r\n",
		"v1 over UDP":                     "PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n",
		"v1 IPv6 as IPv4":                 "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
		"v1 IPv4 as IPv6":                 "PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n",
		"v1 mapped as IPv4":               "PROXY TCP4 ::ffff:203.0.113.7 192.0.2.1 1 2\r\n",
		"v1 with a zone":                  "PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
		"v1 bad destination":              "PROXY TCP4 203.0.113.7 here 1 2\r\n",
		"v1 leading zero":                 "PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n",
		"v1 port too large":               "PROXY TCP4 203.0.113.7 192.0.2.1 65536 2\r\n",
		"v1 port with a sign":             "PROXY TCP4 203.0.113.7 192.0.2.1 +1 2\r\n",
		"v1 port with a zero":             "PROXY TCP4 203.0.113.7 192.0.2.1 1 02\r\n",
		"v1 two spaces":                   "PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n",
		"v1 a field too many":             "PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
		"v1 fields missing":               "PROXY TCP4 203.0.113.7\r\n............",
		"v1 without CR":                   "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n.....",
		"v1 with a CR inside":             "PROXY TCP4 203.0.113.7\r192.0.2.1 1 2\r\n",
		"v1 CR without LF":                "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r.....",
		"v1 too long":                     "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n",
		"v1 endless":                      "PROXY TCP4 " + strings.Repeat("1", 1000),
		"v2 of version 1":                 v2(0x11, 0x11, four),
		"v2 of version 3":                 v2(0x31, 0x11, four),
		"v2 of another command":           v2(0x22, 0x11, four),
		"v2 over UDP":                     v2(0x21, 0x12, four),
		"v2 of another family":            v2(0x21, 0x41, four),
		"v2 unspecified over TCP":         v2(0x21, 0x01, four),
		"v2 too short for IPv4":           v2(0x21, 0x11, four[:11]),
		"v2 too short for IPv6":           v2(0x21, 0x21, six[:35]),
		"v2 too short for unix":           v2(0x21, 0x31, sockets[:215]),
		"v2 empty":                        v2(0x21, 0x11),
		"v2 too long":                     v2(0x20, 0x00, make([]byte, maxBody+1)),
		"v2 as long as can be":            v2(0x21, 0x11, make([]byte, 65535)),
	} {
		if got, err := Read(strings.NewReader(header)); !errors.Is(err, ErrMalformed) || got != (Header{}) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// A client that comes without a header is found out by its first eight bytes: it may send no more until it is answered.
func TestOtherOpeningsAreNoHeader(t *testing.T) {
	for _, opening := range []string{
		"\x00\x00\x00\x08\x04\xd2\x16\x2f", "\x16\x03\x01\x02\x00\x01\x00\x01", "GET / HT", "PROXY\tTC", "proxy TC",
		"\r\n\r\n\x00\r\n\x00", signature[:11] + "\r" + strings.Repeat("\x00", 8),
	} {
		if got, err := Read(strings.NewReader(opening)); err != ErrNoHeader || got != (Header{}) {
			t.Errorf("%q: got %+v, %v", opening, got, err)
		}
	}
}

// FuzzHeader holds every header against the rules for what comes out: an address that was there, or none.
func FuzzHeader(f *testing.F) {
	for _, row := range good {
		f.Add([]byte(row.header + behind))
	}
	f.Add([]byte("PROXY TCP4 203.0.113.7 192.0.2.1 +1 2\r\n"))
	f.Add([]byte(v2(0x21, 0x11, four[:11])))
	f.Fuzz(func(t *testing.T, input []byte) {
		r := bytes.NewReader(input)
		header, err := Read(r)
		read := input[:len(input)-r.Len()]
		if len(read) > fixed+maxBody {
			t.Fatalf("read %d bytes", len(read))
		}
		if err != nil {
			if header != (Header{}) {
				t.Fatalf("%+v with %v", header, err)
			}
			return
		}
		if header.Source.Is4In6() || header.Source.Zone() != "" || header.Own && header.Source.IsValid() {
			t.Fatalf("%+v", header)
		}
		if again, err := Read(bytes.NewReader(read)); err != nil || again != header {
			t.Fatalf("its own bytes give %+v, %v; not %+v", again, err, header)
		}
		if read[0] == text[0] && (len(read) > maxText || bytes.Count(read, []byte("\n")) != 1 || !bytes.HasSuffix(read, []byte("\r\n"))) {
			t.Fatalf("read %q", read)
		}
	})
}

// What a balancer says of the client's TLS, with its certificate, takes kilobytes. It is read to its end, and not kept.
func TestLongHeaderIsSkippedAndNotKept(t *testing.T) {
	for _, length := range []int{len(four), lengthUnix - 1, lengthUnix, lengthUnix + 1, lengthUnix + 512, 2049, 4096, 8191, 8192} {
		header := v2(0x21, 0x11, four, make([]byte, length-len(four)))
		for _, cut := range []int{1, 20, len(header) / 2, len(header) - 1} {
			r := dribble(header+behind, cut)
			got, err := Read(r)
			if err != nil || got.Source.String() != "203.0.113.7" {
				t.Errorf("%d bytes: got %+v, %v", length, got, err)
			}
			if rest, _ := io.ReadAll(r); string(rest) != behind {
				t.Errorf("%d bytes: %q is left", length, rest)
			}
			if got, err := Read(strings.NewReader(header[:cut])); cut > lookahead && err != io.ErrUnexpectedEOF || got != (Header{}) {
				t.Errorf("%d of %d bytes: got %+v, %v", cut, len(header), got, err)
			}
		}
	}
	header := v2(0x21, 0x11, four, make([]byte, maxBody-len(four)))
	r := strings.NewReader(header)
	const times = 100
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		r.Reset(header)
		if _, err := Read(r); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / times; each > 2048 {
		t.Errorf("a header of %d bytes takes %d of memory", len(header), each)
	}
}
