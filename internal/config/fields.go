package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	typeGroup = "group of keys"
	emptyList = "[]"
)

// textField is a text of min to max bytes. Printable is for what stands in logs and file names; without it the text
// may hold anything that is UTF-8 but NUL.
func textField[T any](k Key, rule textRule, to func(*T) *string) field[T] {
	k.Type = "text"
	if k.Bounds == "" {
		k.Bounds = rule.String()
	}
	return field[T]{k, func(v value, into *T) {
		if text, ok := v.asText(rule); ok {
			*to(into) = text
		}
	}}
}

type textRule struct {
	min, max  int // bytes
	printable bool
}

func (r textRule) String() string {
	s := fmt.Sprintf("at most %d bytes", r.max)
	if r.min > 0 {
		s = fmt.Sprintf("%d to %d bytes", r.min, r.max)
	}
	if r.printable {
		s += ", printable"
	}
	return s
}

func (v value) asText(rule textRule) (string, bool) {
	if !v.is(scalar) {
		return "", false
	}
	switch {
	case len(v.text) < rule.min:
		v.refuseHidden("is empty", "write "+rule.String())
	case len(v.text) > rule.max:
		v.refuse(complaint{fmt.Sprintf("is %d bytes long", len(v.text)), "write " + rule.String()})
	case !utf8.ValidString(v.text) || strings.Contains(v.text, "\x00"):
		v.refuse(complaint{"is not UTF-8 text", "write " + rule.String()})
	case rule.printable && strings.ContainsFunc(v.text, func(r rune) bool { return !unicode.IsPrint(r) }):
		v.refuse(complaint{"has characters that can't be printed", "write " + rule.String()})
	default:
		return v.text, true
	}
	return "", false
}

// boolField is true or false, and nothing else: YAML 1.1's yes and on are texts today.
func boolField[T any](k Key, to func(*T) *bool) field[T] {
	k.Type = "true or false"
	return field[T]{k, func(v value, into *T) {
		if !v.is(scalar) {
			return
		}
		switch v.text {
		case "true", "false":
			*to(into) = v.text == "true"
		default:
			v.refuse(complaint{"is neither true nor false", "write true or false"})
		}
	}}
}

// choiceField is one of a closed set of words.
func choiceField[T any, S ~string](k Key, choices []S, to func(*T) *S) field[T] {
	words := make([]string, len(choices))
	for i, c := range choices {
		words[i] = string(c)
	}
	k.Type = "one of " + strings.Join(words, ", ")
	return field[T]{k, func(v value, into *T) {
		if !v.is(scalar) {
			return
		}
		for _, c := range choices {
			if string(c) == v.text {
				*to(into) = c
				return
			}
		}
		fix := "write " + strings.Join(words, ", ")
		if i := strings.LastIndex(fix, ", "); i >= 0 {
			fix = fix[:i] + " or" + fix[i+1:]
		}
		v.refuse(complaint{"is not a choice", fix})
	}}
}

// integerField is a decimal number from min to max.
func integerField[T any](k Key, min, max int, to func(*T) *int) field[T] {
	k.Type = "number"
	k.Bounds = fmt.Sprintf("%d to %d", min, max)
	return field[T]{k, func(v value, into *T) {
		if !v.is(scalar) {
			return
		}
		n, err := strconv.Atoi(v.text)
		switch {
		case strconv.Itoa(n) != v.text && (err == nil || !allDigits(v.text)): // 010, +1, 1_000, 0x10, ten
			v.refuse(complaint{"is not a decimal number", "write digits, from " + k.Bounds})
		case err != nil || n < min || n > max:
			v.refuse(complaint{"is out of bounds", "write a number from " + k.Bounds})
		default:
			*to(into) = n
		}
	}}
}

func allDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// durationField is a Go duration from min to max; whole means that the kernel takes whole seconds only.
func durationField[T any](k Key, bounds durationBounds, to func(*T) *time.Duration) field[T] {
	k.Type = "duration"
	k.Bounds = bounds.String()
	return field[T]{k, func(v value, into *T) {
		if !v.is(scalar) {
			return
		}
		d, err := time.ParseDuration(v.text)
		switch {
		case err != nil && allDigits(v.text):
			v.refuse(complaint{"has no unit", "write " + shown(v.text) + "s for seconds, or " + shown(v.text) + "ms for milliseconds"})
		case err != nil:
			v.refuse(complaint{"is not a duration", "write a number with a unit: 500ms, 10s, 2m, 1h"})
		case d < bounds.min || d > bounds.max:
			v.refuse(complaint{"is out of bounds", "write a duration from " + bounds.String()})
		case bounds.whole && d%time.Second != 0:
			v.refuse(complaint{"is not a whole number of seconds", "the kernel counts in seconds: write " + brief(d.Round(time.Second))})
		default:
			*to(into) = d
		}
	}}
}

type durationBounds struct {
	min, max time.Duration
	whole    bool // whole seconds only
}

func (b durationBounds) String() string {
	s := brief(b.min) + " to " + brief(b.max)
	if b.whole {
		s += ", whole seconds"
	}
	return s
}

// brief writes a duration as a person would: 1h, not 1h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// groupField is a mapping with keys of its own. When it is absent its keys get their defaults.
func groupField[T, G any](k Key, fields []field[G], to func(*T) *G) field[T] {
	k.Type = typeGroup
	k.Keys = keys(fields)
	return field[T]{k, func(v value, into *T) { decode(v, fields, to(into)) }}
}
