package pgwire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// message is one of the server's.
func message(kind byte, body string) []byte {
	m := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))
	return append(m, body...)
}

// login is what a server sends up to and with its first ReadyForQuery.
func login() []byte {
	var b []byte
	b = append(b, message('R', "\x00\x00\x00\x00")...)
	b = append(b, message('S', "server_version\x0015.18\x00")...)
	b = append(b, message('K', "\x00\x00\x12\x67sesame")...)
	return append(b, message('Z', "I")...)
}

// feed follows a stream in chunks of size bytes and returns what was forwarded.
func feed(t *testing.T, s *ServerStream, stream []byte, size int) []byte {
	t.Helper()
	var out []byte
	for len(stream) > 0 {
		n := min(size, len(stream))
		forward, err := s.Follow(stream[:n])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, forward...)
		stream = stream[n:]
	}
	return out
}

func TestStreamIsForwardedUnchangedHoweverItIsCut(t *testing.T) {
	stream := login()
	for _, m := range [][]byte{message('T', "columns"), message('D', string(make([]byte, 70000))), message('C', ""), message('Z', "T"), message('1', ""), message('Z', "E")} {
		stream = append(stream, m...)
	}
	for _, size := range []int{1, 2, 3, 4, 5, 6, 7, 11, 64, 4096, 1 << 20} {
		var key Key
		s := ServerStream{OnKey: func(k Key) { key = k }}
		if out := feed(t, &s, stream, size); !bytes.Equal(out, stream) {
			t.Errorf("chunks of %d: the stream changed", size)
		}
		if !s.AtBoundary() || s.Status() != 'E' {
			t.Errorf("chunks of %d: boundary %v, status %q", size, s.AtBoundary(), s.Status())
		}
		if key.PID != 0x1267 || string(key.Secret) != "sesame" {
			t.Errorf("chunks of %d: key %+v", size, key)
		}
	}
}

func TestBoundaryIsOnlyBetweenMessages(t *testing.T) {
	stream := append(login(), message('D', "row")...)
	boundaries := map[int]bool{}
	for at, rest := 0, stream; len(rest) > 0; {
		length := 1 + int(binary.BigEndian.Uint32(rest[1:]))
		at, rest = at+length, rest[length:]
		boundaries[at] = true
	}
	var s ServerStream
	for i := range stream {
		if _, err := s.Follow(stream[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if s.AtBoundary() != boundaries[i+1] {
			t.Errorf("behind byte %d: boundary %v", i+1, s.AtBoundary())
		}
	}
}

func TestKeyIsKnownBeforeTheClientHasIt(t *testing.T) {
	forwarded := false
	s := ServerStream{OnKey: func(Key) {
		if forwarded {
			t.Error("the key was forwarded first")
		}
	}}
	for _, b := range login() {
		out, _ := s.Follow([]byte{b})
		forwarded = forwarded || bytes.ContainsRune(out, 'K')
	}
	if !forwarded {
		t.Error("the key was never forwarded")
	}
}

func TestLoginErrorCanBeExplained(t *testing.T) {
	e, _ := (&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "SCRAM channel binding check failed"}).Encode(nil)
	for size := 1; size <= len(e); size++ {
		s := ServerStream{Explain: func(e *pgproto3.ErrorResponse) bool {
			e.Hint = "a hint"
			return e.Code == "28000"
		}}
		out := feed(t, &s, e, size)
		got, err := pgproto3.NewFrontend(bytes.NewReader(out), nil).Receive()
		if err != nil {
			t.Fatal(err)
		}
		if r := got.(*pgproto3.ErrorResponse); r.Hint != "a hint" || r.Message != "SCRAM channel binding check failed" {
			t.Errorf("chunks of %d: %+v", size, r)
		}
	}
}

func TestErrorsAfterTheLoginAreNotTouched(t *testing.T) {
	s := ServerStream{Explain: func(*pgproto3.ErrorResponse) bool { t.Error("explain was called"); return true }}
	e, _ := (&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601", Message: "syntax error"}).Encode(nil)
	if stream := append(login(), e...); !bytes.Equal(feed(t, &s, stream, len(stream)), stream) {
		t.Error("the stream changed")
	}
}

func TestErrorWithoutALengthPasses(t *testing.T) {
	text := []byte("Ecould not fork new process for connection: Resource temporarily unavailable\n\x00")
	for size := 1; size <= len(text); size++ {
		var s ServerStream
		if out := feed(t, &s, text, size); !bytes.Equal(out, text) {
			t.Errorf("chunks of %d: %q", size, out)
		}
		if !s.AtBoundary() {
			t.Errorf("chunks of %d: the text counts as cut off", size)
		}
	}
}

func TestImpossibleLengthIsAnError(t *testing.T) {
	for _, relaying := range []bool{false, true} {
		for _, length := range []uint32{0, 3, 1 << 31, 1<<32 - 1} {
			var s ServerStream
			if relaying {
				feed(t, &s, login(), 100)
			}
			m := binary.BigEndian.AppendUint32([]byte{'D'}, length)
			if _, err := s.Follow(m); err == nil {
				t.Errorf("length %d (relaying %v) was accepted", length, relaying)
			}
		}
	}
}

func TestLoginBuffersLittle(t *testing.T) {
	var s ServerStream
	huge := message('N', string(make([]byte, 1<<20)))
	out := feed(t, &s, huge, 1000)
	if !bytes.Equal(out, huge) || len(s.Rest()) != 0 {
		t.Errorf("forwarded %d of %d bytes, %d kept", len(out), len(huge), len(s.Rest()))
	}
}

func TestRestIsWhatALoginMessageLeftBehind(t *testing.T) {
	var s ServerStream
	m := message('N', "notice")
	if out := feed(t, &s, m[:8], 8); len(out) != 0 || !bytes.Equal(s.Rest(), m[:8]) || s.AtBoundary() {
		t.Errorf("forwarded %q, rest %q, boundary %v", out, s.Rest(), s.AtBoundary())
	}
}

func FuzzServerStream(f *testing.F) {
	f.Add(login(), byte(3))
	f.Add(append(login(), message('D', "row")...), byte(1))
	f.Add([]byte("Ecould not fork\x00"), byte(5))
	f.Add(message('Z', ""), byte(9))
	f.Fuzz(func(t *testing.T, stream []byte, size byte) {
		s := ServerStream{OnKey: func(Key) {}, Explain: func(*pgproto3.ErrorResponse) bool { return false }}
		var out []byte
		rest := stream
		for len(rest) > 0 {
			n := min(int(size)+1, len(rest))
			forward, err := s.Follow(rest[:n])
			out = append(out, forward...)
			if err != nil {
				if !bytes.HasPrefix(stream, out) {
					t.Fatalf("%q became %q", stream, out)
				}
				return
			}
			rest = rest[n:]
		}
		if out = append(out, s.Rest()...); !bytes.Equal(out, stream) {
			t.Fatalf("%q became %q", stream, out)
		}
	})
}

func FuzzStartup(f *testing.F) {
	for _, body := range []string{"user\x00ann\x00\x00", "user\x00a\x00options\x00-c=\x00\x00", "\x00", "user\x00a\x00user\x00b\x00\x00"} {
		f.Add(packet(version30, body))
	}
	for _, length := range []uint32{0, 4, 7, 10005, 1<<31 - 1, 1<<32 - 1} {
		f.Add(append(binary.BigEndian.AppendUint32(nil, length), 0, 3, 0, 0))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := readStartup(t, p)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(p, s.Raw) {
			t.Fatalf("raw %q is not the begin of %q", s.Raw, p)
		}
		// Another parser of the same packet must find the same user and database.
		var other pgproto3.StartupMessage
		if err := other.Decode(s.Raw[4:]); err != nil {
			return // it knows fewer protocol versions
		}
		if other.Parameters["user"] != s.User || other.Parameters["database"] != "" && other.Parameters["database"] != s.Database {
			t.Fatalf("%q: %+v, pgproto3 has %v", p, s, other.Parameters)
		}
	})
}

func FuzzOpening(f *testing.F) {
	f.Add(packet(SSLRequestCode, ""))
	f.Add(CancelPacket(Key{PID: 1, Secret: []byte("1234")}))
	f.Add([]byte{0x16, 3, 1, 2, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		r := bytes.NewReader(p)
		o, err := ReadOpening(r)
		if err != nil {
			return
		}
		if o.Kind() == CancelRequest {
			if c, err := ReadCancel(r, o); err == nil && !bytes.Equal(CancelPacket(c.Key), c.Raw) {
				t.Fatalf("%q became %q", c.Raw, CancelPacket(c.Key))
			}
		}
	})
}

// BenchmarkFollow is the cost of hopping over the headers of a small answer, of rows, and of a bulk copy.
func BenchmarkFollow(b *testing.B) {
	small := append(append(append(message('T', string(make([]byte, 30))), message('D', string(make([]byte, 11)))...), message('C', "SELECT 1\x00")...), message('Z', "I")...)
	var rows, bulk []byte
	for len(rows) < 64<<10 {
		rows = append(rows, message('D', string(make([]byte, 100)))...)
	}
	bulk = message('d', string(make([]byte, 64<<10-5)))
	for _, bench := range []struct {
		name   string
		stream []byte
	}{{"query", small}, {"64KiB-of-rows", rows}, {"64KiB-in-one", bulk}} {
		b.Run(bench.name, func(b *testing.B) {
			var s ServerStream
			if _, err := s.Follow(login()); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(bench.stream)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Follow(bench.stream); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpening is the cost of the bytes before the gate.
func BenchmarkOpening(b *testing.B) {
	p := packet(version30, fmt.Sprintf("user\x00%s\x00database\x00%s\x00application_name\x00psql\x00client_encoding\x00UTF8\x00\x00", "app", "shop"))
	r := bytes.NewReader(p)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(p)
		o, err := ReadOpening(r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ReadStartup(r, o); err != nil {
			b.Fatal(err)
		}
	}
}

func TestServerIsReadyUntilItIsAsked(t *testing.T) {
	var s ServerStream
	step := func(what string, p []byte, want bool) {
		t.Helper()
		if p != nil {
			feed(t, &s, p, len(p))
		}
		if s.Ready() != want {
			t.Errorf("%s: ready is %v", what, s.Ready())
		}
	}
	step("at the start", nil, false)
	step("behind the login", login(), true)
	step("a notification comes", message('A', "\x00\x00\x00\x01x\x00\x00"), true)
	step("a part of one comes", message('A', "\x00\x00\x00\x01x\x00\x00")[:3], false)
	step("and the rest", message('A', "\x00\x00\x00\x01x\x00\x00")[3:], true)
	s.Asked()
	step("a query", nil, false)
	step("a notice of the query", message('N', "x"), false)
	step("its end", message('Z', "T"), true)
}
