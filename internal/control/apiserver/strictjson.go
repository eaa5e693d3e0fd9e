package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNesting bounds the depth of a body, in objects and arrays. The deepest that the API has is 4.
const maxNesting = 16

// checkJSON refuses texts of which two readers may see two values: a field that is there twice, bytes that are no
// UTF-8, half a surrogate pair (RFC 8259 section 8, RFC 7493 section 2). encoding/json takes the last of the fields and
// replaces the rest, so what was checked on the way here may not be what is stored. Names count as the same when
// encoding/json would put them into the same field, whatever their case. What is no JSON at all is left to the decoder.
func checkJSON(text []byte) error {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return fmt.Errorf("it is not valid UTF-8 at byte %d", i+1)
		}
		i += size
	}
	if at := loneSurrogate(text); at >= 0 {
		return fmt.Errorf("the escape at byte %d is half of a surrogate pair", at+1)
	}
	return checkFields(text)
}

// checkFields walks through the objects. It keeps no more than the names of those that are open.
func checkFields(text []byte) error {
	type container struct {
		names map[string]bool // of an object; nil for an array
		value bool            // of an object: a value comes next, not a name
	}
	var open []container
	decoder := json.NewDecoder(bytes.NewReader(text))
	for {
		token, err := decoder.Token()
		if err != nil {
			return nil // the end, or what the decoder says it is
		}
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
			if len(open) == 0 {
				return nil
			}
			continue
		}
		if len(open) > 0 {
			if top := &open[len(open)-1]; top.names != nil {
				if !top.value {
					name, _ := token.(string)
					if folded := fold(name); top.names[folded] {
						return twice(name)
					} else {
						top.names[folded] = true
					}
					top.value = true
					continue
				}
				top.value = false
			}
		}
		switch token {
		case json.Delim('{'):
			open = append(open, container{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, container{})
		}
		if len(open) > maxNesting {
			return fmt.Errorf("it is nested deeper than %d levels", maxNesting)
		}
	}
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

func twice(name string) error {
	if !plainName.MatchString(name) {
		return errors.New("a field occurs twice; remove one of the two")
	}
	return fmt.Errorf("the field %s occurs twice; remove one of the two", name)
}

// fold is a name without its case, as encoding/json compares it.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, name)
}

// loneSurrogate is the index of an escape such as \ud800 that is no half of a pair, or -1. In JSON a backslash stands
// in texts only.
func loneSurrogate(text []byte) int {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		unit, ok := escape(text[i:])
		if !ok {
			i++ // what follows is escaped, a backslash too
			continue
		}
		switch {
		case unit < 0xd800 || unit > 0xdfff:
			i += 5
		case unit > 0xdbff:
			return i
		default:
			if second, ok := escape(text[i+6:]); !ok || second < 0xdc00 || second > 0xdfff {
				return i
			}
			i += 11
		}
	}
	return -1
}

// escape reads \uXXXX at the start of a text.
func escape(text []byte) (unit uint64, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 32)
	return unit, err == nil
}
