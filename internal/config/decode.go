package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Key is one row of the reference in docs/configuration.md. The decoder and the document are made from the same
// rows, so neither can know a key that the other does not.
type Key struct {
	Name     string // within its group
	Type     string // "text", "list of …"
	Default  string // as it would be written; empty: none
	Absent   string // what leaving the key out means, where no default says it
	Bounds   string // empty: none beyond the type
	Meaning  string
	Required bool
	Keys     []Key // of a group, or of the items of a list of groups
}

// field is a key, and how its value gets into a T.
type field[T any] struct {
	Key
	set func(v value, into *T)
}

// decoder collects the problems of one document, and where its keys stand.
type decoder struct {
	file     string
	problems problemList
	written  map[string]Position // by field path, keys that are in the document
}

// value is a node on its way into a typed field.
type value struct {
	node
	d    *decoder
	path string
}

func (v value) position() Position {
	return Position{File: v.d.file, Line: v.line, Column: v.column}
}

// refuse records a problem that shows the value.
func (v value) refuse(c complaint) {
	v.d.problems.add(Problem{Position: v.position(), Field: v.path, Value: shown(v.text), Message: c.message, Fix: c.fix})
}

// refuseHidden records a problem that does not show the value, because the message says it or because it may be
// secret.
func (v value) refuseHidden(message, fix string) {
	v.d.problems.add(Problem{Position: v.position(), Field: v.path, Message: message, Fix: fix})
}

// is reports whether the value has the kind, and says so if not.
func (v value) is(want kind) bool {
	if v.kind == want {
		return true
	}
	switch {
	case v.kind == null:
		v.refuseHidden("has no value", "write one, or remove the key")
	case want == list && v.kind == scalar:
		v.refuseHidden("is one value, not a list", "put it in brackets: ["+quoteIfShown(v.text)+"]")
	default:
		v.refuseHidden(fmt.Sprintf("is %s, not %s", v.kind, want), "see docs/configuration.md for the form")
	}
	return false
}

// entryOf is the place of a key in a mapping, or -1.
func (v value) entryOf(name string) int {
	return slices.IndexFunc(v.entries, func(e entry) bool { return e.key.text == name })
}

func quoteIfShown(text string) string {
	if s := shown(text); s != "" {
		return `"` + s + `"`
	}
	return "…"
}

// child is a value inside this one. A child that is not in the document stands where its parent does.
func (v value) child(name string, n node) value {
	path := name
	if v.path != "" && !strings.HasPrefix(name, "[") {
		path = v.path + "." + name
	} else {
		path = v.path + name
	}
	if n.line == 0 {
		n.line, n.column = v.line, v.column
	}
	return value{node: n, d: v.d, path: path}
}

// each calls visit for every item of a list, and reports whether it is a list.
func (v value) each(visit func(i int, item value)) bool {
	if !v.is(list) {
		return false
	}
	for i, item := range v.items {
		visit(i, v.child("["+strconv.Itoa(i)+"]", item))
	}
	return true
}

// decode reads a group of keys into into. Keys that are absent get their default the way a written one would, so a
// default can't be out of bounds and the document can't tell another.
func decode[T any](v value, fields []field[T], into *T) {
	if !v.is(mapping) {
		return
	}
	seen := make(map[string]int, len(v.entries))
	for _, e := range v.entries {
		name := e.key.text
		k := v.child(shown(name), e.key)
		if line, again := seen[name]; again {
			k.refuseHidden(fmt.Sprintf("is written twice, first on line %d", line), "keep one of the two")
			continue
		}
		seen[name] = e.key.line
		i := slices.IndexFunc(fields, func(f field[T]) bool { return f.Name == name })
		if i < 0 {
			k.refuseHidden("is not a key that exists", suggestion(name, fields))
			continue
		}
		child := v.child(name, e.value)
		v.d.written[child.path] = k.position()
		fields[i].set(child, into)
	}
	for _, f := range fields {
		if _, written := seen[f.Name]; written {
			continue
		}
		absent := v.child(f.Name, node{kind: scalar, text: f.Default})
		switch {
		case f.Required:
			absent.refuseHidden("is missing", "add it: "+firstSentence(f.Meaning))
		case len(f.Keys) > 0 && f.Type == typeGroup:
			absent.node.kind = mapping
			f.set(absent, into)
		case f.Default != "" && f.Default != emptyList:
			f.set(absent, into)
		}
	}
}

// firstSentence is a meaning cut to its first sentence, to stand inside another.
func firstSentence(meaning string) string {
	first, _, _ := strings.Cut(meaning, ". ")
	first = strings.TrimSuffix(first, ".")
	if strings.HasPrefix(first, "PEM") {
		return first
	}
	return strings.ToLower(first[:1]) + first[1:]
}

func suggestion[T any](name string, fields []field[T]) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	if best := nearest(name, names); best != "" {
		return "did you mean " + best + "?"
	}
	return "the keys here are " + strings.Join(names, ", ")
}

// keys is the reference of a group.
func keys[T any](fields []field[T]) []Key {
	out := make([]Key, len(fields))
	for i, f := range fields {
		out[i] = f.Key
	}
	return out
}
