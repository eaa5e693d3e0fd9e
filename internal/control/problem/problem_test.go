package problem

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRefusalIsKnownByItsIDHoweverItIsWrapped(t *testing.T) {
	err := fmt.Errorf("database orders: %w", New(NotFound, "there is no rule %d", 7))
	if !Is(err, NotFound) || Is(err, Conflict) || Is(nil, NotFound) || Is(errors.New("x"), NotFound) {
		t.Errorf("%v is taken for something else", err)
	}
	if err.Error() != "database orders: there is no rule 7" {
		t.Errorf("it reads %q", err)
	}
}

func TestQuotedTextIsShortAndCanBePrinted(t *testing.T) {
	for _, text := range []string{"", "a", "\x1b[31m\n", strings.Repeat("ä", 50), strings.Repeat("x", 1000), "\xff\xfe"} {
		got := Quote(text)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x1b\n") || len(got) > 64*4+8 {
			t.Errorf("%q becomes %s", text, got)
		}
	}
}
