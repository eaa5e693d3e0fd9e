package config

import (
	"fmt"
	"strings"
)

// listRule bounds a list's length, in items.
type listRule struct{ min, max int }

func (r listRule) String() string {
	if r.min > 0 {
		return fmt.Sprintf("%d to %d items", r.min, r.max)
	}
	return fmt.Sprintf("at most %d items", r.max)
}

// listField is a list whose items are read by item, which reports whether the item is good.
func listField[T, E any](k Key, rule listRule, item func(v value) (E, bool), to func(*T) *[]E) field[T] {
	if k.Bounds == "" {
		k.Bounds = rule.String()
	}
	return field[T]{k, func(v value, into *T) {
		out := to(into)
		if !v.each(func(i int, v value) {
			if i >= rule.max {
				if i == rule.max {
					v.refuseHidden(fmt.Sprintf("is item %d of %s", i+1, v.path[:strings.LastIndex(v.path, "[")]), fmt.Sprintf("the limit is %d", rule.max))
				}
				return
			}
			if e, ok := item(v); ok {
				*out = append(*out, e)
			}
		}) {
			return
		}
		if len(v.items) < rule.min {
			v.refuseHidden("is empty", "write at least one item")
		}
	}}
}

// oneOrMoreField is a listField whose one item may stand without brackets.
func oneOrMoreField[T, E any](k Key, rule listRule, item func(v value) (E, bool), to func(*T) *[]E) field[T] {
	f := listField(k, rule, item, to)
	return field[T]{f.Key, func(v value, into *T) {
		if v.kind != scalar {
			f.set(v, into)
		} else if e, ok := item(v); ok {
			*to(into) = []E{e}
		}
	}}
}

// groupListField is a list of mappings. Every item that is within the rule gets its place in the slice, right or wrong,
// so that an index in the slice is the index in the document; at finishes an item, decoded or not.
func groupListField[T, G any](k Key, rule listRule, fields []field[G], at func(value, *G), to func(*T) *[]G) field[T] {
	k.Type = "list of groups"
	k.Keys = keys(fields)
	return listField(k, rule, func(v value) (G, bool) {
		var g G
		decode(v, fields, &g)
		at(v, &g)
		return g, true
	}, to)
}
