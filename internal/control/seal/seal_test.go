package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

const place = "secrets/0190c2de-server-key"

func TestOnlyTheSameContextOpens(t *testing.T) {
	ring := newRing(t, Generate())
	for _, plain := range []string{"", "x", strings.Repeat("-----BEGIN PRIVATE KEY-----", 1000)} {
		sealed := ring.Seal(place, []byte(plain))
		if len(sealed) != len(plain)+Overhead {
			t.Errorf("%d bytes became %d", len(plain), len(sealed))
		}
		if got, err := ring.Open(place, sealed); err != nil || string(got) != plain {
			t.Errorf("opened %q: %v", got, err)
		}
		for _, elsewhere := range []string{"", place + "2", place[:len(place)-1], "secrets/other"} {
			if got, err := ring.Open(elsewhere, sealed); !errors.Is(err, ErrMoved) || got != nil {
				t.Errorf("at %q: %q, %v", elsewhere, got, err)
			}
		}
	}
}

// Whoever can write to the store may write the place of a record too.
func TestRecordWithTheOthersPlaceDoesNotOpenThere(t *testing.T) {
	ring := newRing(t, Generate())
	one, other := ring.Seal("secrets/one", []byte("key one")), ring.Seal("secrets/other", []byte("other key"))
	forged := append(bytes.Clone(other[:headerSize]), one[headerSize:]...)
	if got, err := ring.Open("secrets/other", forged); !errors.Is(err, ErrTampered) || got != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEveryBitIsAuthenticated(t *testing.T) {
	ring := newRing(t, Generate())
	sealed := ring.Seal(place, []byte("a private key"))
	for i := range sealed {
		for bit := range 8 {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1 << bit
			want := ErrTampered
			switch {
			case i == 0:
				want = ErrFormat
			case i < 1+idSize:
				want = ErrUnknownKey
			case i < headerSize:
				want = ErrMoved
			}
			if got, err := ring.Open(place, changed); !errors.Is(err, want) || got != nil {
				t.Fatalf("bit %d of byte %d: %q, %v, want %v", bit, i, got, err, want)
			}
		}
	}
	for n := range sealed {
		if got, err := ring.Open(place, sealed[:n]); err == nil {
			t.Fatalf("the first %d bytes opened: %q", n, got)
		}
	}
}

func TestSameTextIsNeverSealedTheSameTwice(t *testing.T) {
	ring := newRing(t, Generate())
	seen := map[string]bool{}
	for range 1000 {
		nonce := string(ring.Seal(place, nil)[headerSize : headerSize+nonceSize])
		if seen[nonce] {
			t.Fatal("a nonce came twice")
		}
		seen[nonce] = true
	}
}

func TestSealLeavesThePlainTextAlone(t *testing.T) {
	ring := newRing(t, Generate())
	plain := append(make([]byte, 0, 200), "a private key"...)
	sealed := ring.Seal(place, plain)
	if string(plain) != "a private key" || bytes.Contains(sealed, plain) {
		t.Errorf("plain %q, sealed %q", plain, sealed)
	}
}

func TestOldKeysOpenUntilTheirLineIsRemoved(t *testing.T) {
	first, second := Generate(), Generate()
	before := newRing(t, first)
	sealed := before.Seal(place, []byte("kept"))
	if before.Stale(sealed) {
		t.Error("a record of the first key is stale")
	}

	rotated := newRing(t, second, first)
	if got, err := rotated.Open(place, sealed); err != nil || string(got) != "kept" {
		t.Fatalf("after the rotation: %q, %v", got, err)
	}
	if !rotated.Stale(sealed) {
		t.Error("a record of the second key is not stale")
	}
	again := rotated.Seal(place, []byte("kept"))
	if rotated.Stale(again) {
		t.Error("a new record is stale")
	}

	after := newRing(t, second)
	if got, err := after.Open(place, again); err != nil || string(got) != "kept" {
		t.Errorf("sealed again: %q, %v", got, err)
	}
	if _, err := after.Open(place, sealed); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("its key is gone: %v", err)
	}
	if !after.Stale(sealed) || !after.Stale(nil) {
		t.Error("what does not open is not stale")
	}
}

func TestErrorsSayWhichRecord(t *testing.T) {
	if _, err := newRing(t, Generate()).Open(place, []byte("short")); err == nil || !strings.Contains(err.Error(), place) {
		t.Errorf("got %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	ring := newRing(f, Generate())
	sealed := ring.Seal(place, []byte("a private key"))
	f.Add(place, sealed)
	f.Add(place, []byte{})
	f.Add("", sealed[:Overhead])
	f.Fuzz(func(t *testing.T, context string, record []byte) {
		plain, err := ring.Open(context, record)
		if err == nil && (context != place || !bytes.Equal(record, sealed)) {
			t.Errorf("opened %q at %q, which nobody sealed", plain, context)
		}
	})
}

func newRing(t testing.TB, lines ...[]byte) *Ring {
	t.Helper()
	ring, err := ParseRing(bytes.Join(lines, nil))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}
