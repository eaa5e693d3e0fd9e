package session

import (
	"container/list"
	"time"
)

// recent remembers the keys that were touched last, up to a number. It is not safe for concurrent use.
type recent[K comparable, V any] struct {
	max     int
	entries map[K]*list.Element
	order   *list.List // of *entry[K, V], the last touched first
}

type entry[K comparable, V any] struct {
	key         K
	value       V
	first, last time.Time
}

func newRecent[K comparable, V any](max int) *recent[K, V] {
	return &recent[K, V]{max: max, entries: make(map[K]*list.Element), order: list.New()}
}

// touch finds or makes the entry of a key, and forgets the oldest one if there are too many.
func (r *recent[K, V]) touch(key K, now time.Time) (e *entry[K, V], first bool) {
	if element, known := r.entries[key]; known {
		r.order.MoveToFront(element)
		e = element.Value.(*entry[K, V])
		e.last = now
		return e, false
	}
	e = &entry[K, V]{key: key, first: now, last: now}
	r.entries[key] = r.order.PushFront(e)
	if r.order.Len() > r.max {
		oldest := r.order.Remove(r.order.Back()).(*entry[K, V])
		delete(r.entries, oldest.key)
	}
	return e, true
}

// all calls yield with every entry.
func (r *recent[K, V]) all(yield func(*entry[K, V]) bool) {
	for element := r.order.Front(); element != nil; element = element.Next() {
		if !yield(element.Value.(*entry[K, V])) {
			return
		}
	}
}
