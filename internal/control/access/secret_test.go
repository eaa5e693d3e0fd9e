package access

import (
	"bytes"
	"strings"
	"testing"
)

func TestTokensHaveTheirPrefixAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id, presented, digest := newSecret()
		gotID, secret, ok := splitToken(presented)
		if !ok || gotID != id || len(presented) != 59 || !strings.HasPrefix(presented, "pgmtls_") {
			t.Fatalf("token of %d bytes with id %q reads as %q, %t", len(presented), id, gotID, ok)
		}
		if !bytes.Equal(digestOf(secret), digest) {
			t.Fatal("the digest is of something else")
		}
		if seen[secret] {
			t.Fatal("the same secret twice")
		}
		seen[secret] = true
	}
}

func TestWhatIsNoTokenIsNotLookedUp(t *testing.T) {
	_, good, _ := newSecret()
	for _, text := range []string{"", "pgmtls_", good[:len(good)-1], good + "a", strings.ToUpper(good[:10]) + good[10:],
		"pgmtls-" + good[7:], good[:15] + "-" + good[16:], good[:20] + "/" + good[21:], "pgmtls_../../.." + good[15:],
		good[:58] + "\n", good[:57] + "é"} {
		if id, _, ok := splitToken(text); ok {
			t.Errorf("%q is taken for a token with the id %q", text, id)
		}
	}
}

func FuzzSplitToken(f *testing.F) {
	_, good, _ := newSecret()
	for _, seed := range []string{good, "", "pgmtls_", "pgmtls_00000000_", strings.Repeat("_", 59), good[:20] + "\x00" + good[21:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, presented string) {
		id, secret, ok := splitToken(presented)
		if !ok {
			if id != "" || secret != "" {
				t.Errorf("%q is none, and still gives %q and %q", presented, id, secret)
			}
			return
		}
		if "pgmtls_"+id+"_"+secret != presented {
			t.Errorf("%q reads as %q and %q", presented, id, secret)
		}
		if strings.ContainsAny(id, "/.\x00") || len(id) != 8 {
			t.Errorf("the id %q is no key", id)
		}
	})
}
