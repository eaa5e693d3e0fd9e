package pgwire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func serverMessage(kind byte, body string) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body))), body...))
}

// Wherever the stream is cut into reads, and wherever in it the cancel is ordered, the client gets all that stands before the error
// of the cancelled statement, in whole messages, and no byte of it. Other errors pass.
func TestErrorOfACancelledStatementIsHeldBack(t *testing.T) {
	login := serverMessage('R', "\x00\x00\x00\x00") + serverMessage('Z', "I")
	rows := serverMessage('T', "\x00\x00") + serverMessage('D', "a row") + serverMessage('n', "")
	notice := serverMessage('N', "SWARNING\x00C01000\x00Mtake care\x00\x00")
	other := serverMessage('E', "SERROR\x00C22012\x00Mdivision by zero\x00\x00")
	long := serverMessage('E', "SERROR\x00C57014\x00M"+strings.Repeat("x", maxHeld)+"\x00\x00")
	cancelled := serverMessage('E', "SERROR\x00VERROR\x00C57014\x00Mcanceling statement due to user request\x00\x00")
	ready := serverMessage('Z', "I")
	for name, row := range map[string]struct{ before, after string }{
		"at once":             {"", cancelled + ready},
		"behind rows":         {rows + notice, cancelled + ready},
		"behind a failed one": {other + ready + rows, cancelled + ready},
		"in a pipeline":       {rows + serverMessage('C', "SELECT 1\x00"), cancelled + ready + cancelled},
		"in COPY":             {serverMessage('H', "\x00\x00\x00") + serverMessage('d', "E\x00\x00\x00\x09 57014"), cancelled},
		"never":               {rows + other + ready + notice, ""},
		"longer than any":     {long + ready, ""},
	} {
		t.Run(name, func(t *testing.T) {
			stream := row.before + row.after
			pieces := []int{1, 2, 3, 5, 7, 64, len(stream)}
			if len(stream) > 1000 {
				pieces = []int{999, len(stream)}
			}
			for _, piece := range pieces {
				for ordered := 0; ordered <= min(len(row.before), 200); ordered++ {
					s := &ServerStream{}
					if _, err := s.Follow([]byte(login)); err != nil {
						t.Fatal(err)
					}
					out, err := s.Follow([]byte(stream[:ordered]))
					if err != nil {
						t.Fatal(err)
					}
					got := bytes.Clone(out)
					stopped := false
					for at := ordered; at < len(stream) && !stopped; at += piece {
						out, stopped, err = s.FollowCancelled([]byte(stream[at:min(at+piece, len(stream))]))
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, out...)
					}
					if string(got) != row.before || stopped != (row.after != "") || !s.AtBoundary() {
						t.Fatalf("ordered at %d, in pieces of %d: passed %q, stopped %v, at a boundary %v; want %q", ordered, piece, got, stopped, s.AtBoundary(), row.before)
					}
				}
			}
		})
	}
}

// What is held back is not lost when the server ends inside of it.
func TestHeldErrorIsGivenBackAtTheEnd(t *testing.T) {
	s := &ServerStream{}
	s.Follow([]byte(serverMessage('Z', "I")))
	begun := serverMessage('E', "SERROR\x00C57014\x00\x00")[:12]
	out, stopped, err := s.FollowCancelled([]byte(begun))
	if len(out) > 0 || stopped || err != nil || s.AtBoundary() || string(s.Rest()) != begun {
		t.Errorf("%q, %v, %v, at a boundary %v, rest %q", out, stopped, err, s.AtBoundary(), s.Rest())
	}
}

// Whatever a server sends, however it is cut into reads: the bytes that pass are those that came, in their order, and none is
// invented; where the stream stops, whole messages have passed, and the error of a cancelled statement has not.
func FuzzFollowCancelled(f *testing.F) {
	cancelled := serverMessage('E', "SERROR\x00VERROR\x00C57014\x00Mcanceling statement due to user request\x00\x00")
	f.Add([]byte(serverMessage('D', "a row")+cancelled+serverMessage('Z', "I")), byte(3))
	f.Add([]byte(serverMessage('E', "SERROR\x00C22012\x00\x00")+serverMessage('Z', "I")+cancelled), byte(1))
	f.Add([]byte("E\x00\x00\x00\x03"), byte(2))
	f.Add([]byte("E\xff\xff\xff\xff57014"), byte(200))
	f.Add([]byte(serverMessage('d', cancelled)), byte(7))
	f.Fuzz(func(t *testing.T, stream []byte, size byte) {
		s := &ServerStream{}
		if _, err := s.Follow([]byte(serverMessage('R', "\x00\x00\x00\x00") + serverMessage('Z', "I"))); err != nil {
			t.Fatal(err)
		}
		piece, passed := max(int(size), 1), 0
		for at := 0; at < len(stream); at += piece {
			end := min(at+piece, len(stream))
			out, stopped, err := s.FollowCancelled(bytes.Clone(stream[at:end]))
			if !bytes.HasPrefix(stream[passed:end], out) {
				t.Fatalf("behind %d bytes, %q passes of %q", passed, out, stream[passed:end])
			}
			passed += len(out)
			switch {
			case err != nil:
				return
			case stopped:
				rest := stream[passed:end]
				if !s.AtBoundary() || len(rest) < 5 || rest[0] != 'E' || !bytes.Contains(rest[:min(len(rest), maxHeld+1)], []byte(queryCanceled)) {
					t.Fatalf("it stops at %q, at a boundary %v", rest, s.AtBoundary())
				}
				return
			case passed+len(s.held) != end:
				t.Fatalf("of %d bytes %d have passed, and %d are held", end, passed, len(s.held))
			case len(s.held) > maxHeld+piece+1:
				t.Fatalf("%d bytes are held", len(s.held))
			}
		}
		if rest := s.Rest(); !bytes.HasSuffix(stream[passed:], rest) || len(rest) != len(stream)-passed {
			t.Fatalf("%q has not passed, and %q is left", stream[passed:], rest)
		}
	})
}
