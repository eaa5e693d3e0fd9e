package session

import "testing"

// tidying plays connections and tells how often tidying up was due.
type tidying struct {
	*tidiness
	cycle uint64
}

func newTidying() *tidying {
	t := &tidying{}
	t.tidiness = newTidiness(func() uint64 { return t.cycle })
	return t
}

func (t *tidying) isDue() bool {
	select {
	case <-t.due:
		t.cycle++
		t.tidied()
		return true
	default:
		return false
	}
}

func (t *tidying) open(n int) {
	for range n {
		t.accepted()
		t.begun()
	}
}

func (t *tidying) leave(n int) {
	for range n {
		t.gone(true)
	}
}

func TestMemoryIsTidiedUpBehindABurstOfOpenings(t *testing.T) {
	m := newTidying()
	m.accepted() // one that takes its time
	m.open(tidyAfter)
	if m.isDue() {
		t.Error("due although somebody is about to open a session")
	}
	m.gone(false)
	if !m.isDue() {
		t.Error("not due when the last connection of the burst is no session")
	}
	m.open(tidyAfter - 1)
	if m.isDue() {
		t.Error("due for a few openings")
	}
}

func TestMemoryIsNotTidiedUpWhereTheRuntimeHasCollected(t *testing.T) {
	m := newTidying()
	for range 20 {
		m.open(tidyAfter / 2)
		m.cycle++
		m.leave(tidyAfter / 2)
	}
	if m.isDue() {
		t.Error("due, although the runtime collects by itself")
	}
}

func TestMemoryOfManySessionsIsTidiedUpRarely(t *testing.T) {
	m := newTidying()
	m.open(20 * tidyAfter)
	for m.isDue() {
	}
	m.open(4 * tidyAfter)
	if m.isDue() {
		t.Error("due for a fifth of the sessions")
	}
	m.open(3 * tidyAfter)
	if !m.isDue() {
		t.Error("not due for a third")
	}
}

func TestMemoryIsGivenBackWhenACrowdHasLeft(t *testing.T) {
	m := newTidying()
	m.open(4 * tidyAfter)
	m.isDue()
	m.leave(2*tidyAfter - 1)
	if m.isDue() {
		t.Error("due before half have gone")
	}
	m.leave(1)
	if !m.isDue() {
		t.Error("not due when half have gone")
	}
	m.leave(tidyAfter)
	if !m.isDue() {
		t.Error("not due when half of the rest has gone")
	}
}
