package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/refusal"
)

// packet is a length word over the code and the body.
func packet(code uint32, body string) []byte {
	p := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	p = binary.BigEndian.AppendUint32(p, code)
	return append(p, body...)
}

const version30 = 3 << 16

// readStartup reads an opening and a startup packet, and what is left.
func readStartup(t testing.TB, p []byte) (*Startup, error) {
	t.Helper()
	r := bytes.NewReader(p)
	o, err := ReadOpening(r)
	if err != nil {
		return nil, err
	}
	return ReadStartup(r, o)
}

func reasonOf(err error) refusal.Reason {
	var r *refusal.Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return 0
}

func TestOpeningKinds(t *testing.T) {
	for name, test := range map[string]struct {
		bytes []byte
		want  Kind
	}{
		"SSLRequest":          {packet(80877103, ""), SSLRequest},
		"GSSENCRequest":       {packet(80877104, ""), GSSENCRequest},
		"CancelRequest":       {packet(80877102, "pid!key!"), CancelRequest},
		"protocol 3.0":        {packet(version30, ""), StartupMessage},
		"protocol 3.9999":     {packet(version30|9999, ""), StartupMessage},
		"a TLS record":        {[]byte{0x16, 3, 1, 2, 0, 1, 0, 1}, ClientHello},
		"something like HTTP": {[]byte("GET / HT"), StartupMessage},
	} {
		r := bytes.NewReader(append(test.bytes, "rest"...))
		o, err := ReadOpening(r)
		if err != nil || o.Kind() != test.want {
			t.Errorf("%s: kind %d, error %v; want %d", name, o.Kind(), err, test.want)
		}
		if read := len(test.bytes) + 4 - r.Len(); read != 8 {
			t.Errorf("%s: %d bytes were read; an opening is exactly 8", name, read)
		}
	}
}

func TestOpeningTellsAProbeFromABreak(t *testing.T) {
	if _, err := ReadOpening(strings.NewReader("")); err != io.EOF {
		t.Errorf("no byte: %v, want io.EOF", err)
	}
	if _, err := ReadOpening(strings.NewReader("\x00\x00\x00")); err != io.ErrUnexpectedEOF {
		t.Errorf("three bytes: %v, want io.ErrUnexpectedEOF", err)
	}
}

func TestRequestWithABodyIsRefused(t *testing.T) {
	o, _ := ReadOpening(bytes.NewReader(packet(SSLRequestCode, "x")))
	if refused := o.CheckRequest(); refused == nil || refused.Reason != refusal.ProtocolViolation {
		t.Errorf("SSLRequest of 9 bytes: %v", refused)
	}
	o, _ = ReadOpening(bytes.NewReader(packet(SSLRequestCode, "")))
	if refused := o.CheckRequest(); refused != nil {
		t.Errorf("SSLRequest of 8 bytes: %v", refused)
	}
}

func TestStartupPassesWhatItDoesNotKnow(t *testing.T) {
	body := "user\x00ann\x00database\x00shop\x00_pq_.future\x00x\x00options\x00-c=\x00application_name\x00psql\x00\x00"
	p := packet(version30|9999, body)
	s, err := readStartup(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if s.User != "ann" || s.Database != "shop" || s.ApplicationName != "psql" {
		t.Errorf("got %+v", s)
	}
	if !bytes.Equal(s.Raw, p) {
		t.Errorf("raw differs: %q", s.Raw)
	}
}

func TestDatabaseDefaultsToTheUser(t *testing.T) {
	s, err := readStartup(t, packet(version30, "user\x00ann\x00\x00"))
	if err != nil || s.Database != "ann" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestOddStartupsAreRefused(t *testing.T) {
	raw := func(length uint32) []byte {
		return append(binary.BigEndian.AppendUint32(nil, length), packet(version30, "user\x00ann\x00\x00")[4:]...)
	}
	for name, test := range map[string]struct {
		packet []byte
		want   refusal.Reason
	}{
		"length 0":              {raw(0), refusal.ProtocolViolation},
		"length 4":              {raw(4), refusal.ProtocolViolation},
		"length 7":              {raw(7), refusal.ProtocolViolation},
		"length 10,005":         {raw(10005), refusal.ProtocolViolation},
		"length 2^31-1":         {raw(1<<31 - 1), refusal.ProtocolViolation},
		"length 2^32-1":         {raw(1<<32 - 1), refusal.ProtocolViolation},
		"no terminator":         {packet(version30, "user\x00ann\x00"), refusal.ProtocolViolation},
		"bytes behind it":       {packet(version30, "user\x00ann\x00\x00x"), refusal.ProtocolViolation},
		"name without value":    {packet(version30, "user\x00"), refusal.ProtocolViolation},
		"unterminated value":    {packet(version30, "user\x00ann"), refusal.ProtocolViolation},
		"empty":                 {packet(version30, ""), refusal.ProtocolViolation},
		"two users":             {packet(version30, "user\x00ann\x00user\x00root\x00\x00"), refusal.ProtocolViolation},
		"two databases":         {packet(version30, "user\x00ann\x00database\x00a\x00database\x00b\x00\x00"), refusal.ProtocolViolation},
		"no user":               {packet(version30, "database\x00shop\x00\x00"), refusal.UserMissing},
		"empty user":            {packet(version30, "user\x00\x00\x00"), refusal.UserMissing},
		"protocol 2":            {packet(2<<16, strings.Repeat("\x00", 288)), refusal.UnsupportedProtocol},
		"protocol 4":            {packet(4<<16, "user\x00ann\x00\x00"), refusal.UnsupportedProtocol},
		"HTTP":                  {[]byte("GET / HTTP/1.1\r\n\r\n"), refusal.ProtocolViolation},
		"protocol 4, endless":   {append(binary.BigEndian.AppendUint32(nil, 1<<30), 0, 4, 0, 0), refusal.ProtocolViolation},
		"a request inside it":   {packet(SSLRequestCode, "x"), refusal.UnsupportedProtocol},
		"only an empty name":    {packet(version30, "\x00"), refusal.UserMissing},
		"value missing, at end": {packet(version30, "user\x00ann\x00x\x00"), refusal.ProtocolViolation},
	} {
		if s, err := readStartup(t, test.packet); reasonOf(err) != test.want {
			t.Errorf("%s: got %+v, %v; want %s", name, s, err, test.want)
		}
	}
}

func TestLongestStartupIsAccepted(t *testing.T) {
	prefix, suffix := "user\x00ann\x00options\x00", "\x00\x00"
	body := prefix + strings.Repeat("x", maxStartup-4-len(prefix)-len(suffix)) + suffix
	if _, err := readStartup(t, packet(version30, body)); err != nil {
		t.Errorf("length word 10,004: %v", err)
	}
	if _, err := readStartup(t, packet(version30, "x"+body)); reasonOf(err) != refusal.ProtocolViolation {
		t.Errorf("length word 10,005: %v", err)
	}
}

func TestStartupCutShortIsABreak(t *testing.T) {
	p := packet(version30, "user\x00ann\x00\x00")
	for n := 8; n < len(p); n++ {
		if _, err := readStartup(t, p[:n]); err != io.ErrUnexpectedEOF {
			t.Errorf("%d of %d bytes: %v", n, len(p), err)
		}
	}
}

func TestCancelKeysOfEveryLength(t *testing.T) {
	for _, size := range []int{4, 32, 256} {
		key := Key{PID: 4711, Secret: bytes.Repeat([]byte{0xab}, size)}
		p := CancelPacket(key)
		r := bytes.NewReader(p)
		o, _ := ReadOpening(r)
		if o.Kind() != CancelRequest {
			t.Fatalf("%d bytes: kind %d", size, o.Kind())
		}
		c, err := ReadCancel(r, o)
		if err != nil || c.Key.PID != key.PID || !bytes.Equal(c.Key.Secret, key.Secret) || !bytes.Equal(c.Raw, p) {
			t.Errorf("%d bytes: %+v, %v", size, c, err)
		}
	}
	for _, size := range []int{0, 3, 257} {
		r := bytes.NewReader(CancelPacket(Key{Secret: make([]byte, size)}))
		o, _ := ReadOpening(r)
		if _, err := ReadCancel(r, o); reasonOf(err) != refusal.ProtocolViolation {
			t.Errorf("%d bytes: %v, want a refusal", size, err)
		}
	}
}

func TestFatalIsWhatDriversRead(t *testing.T) {
	encoded, err := Fatal(refusal.Response{SQLState: "28000", Message: "no", Detail: "why", Hint: "do this"})
	if err != nil {
		t.Fatal(err)
	}
	message, err := pgproto3.NewFrontend(bytes.NewReader(encoded), nil).Receive()
	if err != nil {
		t.Fatal(err)
	}
	e, ok := message.(*pgproto3.ErrorResponse)
	if !ok || e.Severity != "FATAL" || e.SeverityUnlocalized != "FATAL" || e.Code != "28000" || e.Message != "no" || e.Detail != "why" || e.Hint != "do this" {
		t.Errorf("got %#v", message)
	}
}

// A user who sends too much is told what; one who speaks another protocol is told that.
func TestOddStartupsAreToldWhatToDo(t *testing.T) {
	raw := func(length uint32) []byte {
		return append(binary.BigEndian.AppendUint32(nil, length), packet(version30, "user\x00ann\x00\x00")[4:]...)
	}
	const shorten = "Shorten the parameters of the connection: options, application_name, and others that the driver sends."
	const other = "This port speaks the PostgreSQL protocol."
	const once = "The connection string, the driver's properties or a service file set it more than once. Keep one."
	for name, test := range map[string]struct {
		packet       []byte
		detail, hint string
	}{
		"a byte too long":   {raw(maxStartup + 5), "The startup packet has 10005 bytes. PostgreSQL and this server take 10004.", shorten},
		"much too long":     {raw(1 << 20), "The startup packet has 1048576 bytes. PostgreSQL and this server take 10004.", shorten},
		"no startup packet": {raw(1<<20 + 1), "", other},
		"HTTP":              {[]byte("GET / HTTP/1.1\r\n\r\n"), "", other},
		"too short":         {raw(7), "", other},
		"a user twice":      {packet(version30, "user\x00ann\x00user\x00ann\x00\x00"), "", once},
		"a database twice":  {packet(version30, "user\x00ann\x00database\x00a\x00database\x00a\x00\x00"), "", once},
		"a name twice":      {packet(version30, "user\x00ann\x00application_name\x00\x00application_name\x00a\x00\x00"), "", once},
	} {
		_, err := readStartup(t, test.packet)
		refused, ok := errors.AsType[*refusal.Refusal](err)
		if !ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := refused.Response(""); got.SQLState != "08P01" || got.Detail != test.detail || got.Hint != test.hint {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
