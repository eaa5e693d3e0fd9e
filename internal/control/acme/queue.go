package acme

import (
	"container/heap"
	"time"
)

// job is what the leader has in memory of a certificate.
type job struct {
	id       string
	cert     *Certificate // as it was read last
	ordering bool         // it has an order
	running  bool         // a worker has it
	changed  int64        // revision of the last change while a worker had it

	warn  bool      // somebody is to be warned, whatever its authority allows
	due   time.Time // when it is to be looked at; in a queue by that
	turn  int64     // of a new certificate, among the spaces
	place int       // in the heap that it is in; -1: in none

	// What one leader needs to know between two steps only.
	askAt     time.Time       // when renewal information is asked for next; zero: not known yet
	accepted  map[string]bool // challenges that the authority was told of
	uncleaned int             // failures in a row to remove the records
}

// rank orders what is due: orders that have begun, renewals that authorities do not count, other renewals, and new ones.
func (j *job) rank(ca string) int {
	switch {
	case j.ordering || j.warn || j.cert.RevokeNow || j.cert.dueAt().IsZero():
		return rankBegun
	case j.cert.Leaf == nil:
		return rankNew
	case j.cert.replaces(ca) == "":
		return rankRenewal
	}
	return rankExempt
}

const (
	rankBegun = iota
	rankExempt
	rankRenewal
	rankNew
	ranks
)

// jobs is a heap of jobs, by an order of its own.
type jobs struct {
	list []*job
	less func(a, b *job) bool
}

func (q *jobs) Len() int           { return len(q.list) }
func (q *jobs) Less(i, j int) bool { return q.less(q.list[i], q.list[j]) }
func (q *jobs) Swap(i, j int) {
	q.list[i], q.list[j] = q.list[j], q.list[i]
	q.list[i].place, q.list[j].place = i, j
}
func (q *jobs) Push(x any) {
	j := x.(*job)
	j.place = len(q.list)
	q.list = append(q.list, j)
}
func (q *jobs) Pop() any {
	last := len(q.list) - 1
	j := q.list[last]
	q.list[last] = nil
	q.list = q.list[:last]
	j.place = -1
	return j
}

func (q *jobs) first() *job {
	if len(q.list) == 0 {
		return nil
	}
	return q.list[0]
}

// bySooner is the order of jobs that wait for their time.
func bySooner(a, b *job) bool { return a.due.Before(b.due) }

// byNeed is the order of jobs that are due: what ends first comes first, and new ones come by their turn.
func byNeed(a, b *job) bool {
	if a.cert.Leaf != nil && b.cert.Leaf != nil {
		return a.cert.Leaf.NotAfter.Before(b.cert.Leaf.NotAfter)
	}
	if a.turn != b.turn {
		return a.turn < b.turn
	}
	return a.due.Before(b.due)
}

// queue decides which certificate comes next. It is one goroutine's.
type queue struct {
	m       *Manager
	jobs    map[string]*job
	waiting jobs                        // for their time
	ready   map[*authority]*[ranks]jobs // for a worker, and for what the authority allows
	in      map[*job]*jobs              // the heap that a job is in

	warned time.Time // when all were last looked at for warnings

	turn  int64            // the greatest one that was given out and came up
	turns map[string]int64 // the last one of each space
}

func newQueue(m *Manager) *queue {
	q := &queue{m: m, jobs: map[string]*job{}, waiting: jobs{less: bySooner}, ready: map[*authority]*[ranks]jobs{},
		in: map[*job]*jobs{}, turns: map[string]int64{}}
	for _, a := range m.authorities {
		heaps := new([ranks]jobs)
		for i := range heaps {
			heaps[i].less = byNeed
		}
		q.ready[a] = heaps
	}
	return q
}

// set notes a certificate as it is now, and when it is to be looked at.
func (q *queue) set(j *job, due time.Time) {
	q.leave(j)
	if due.IsZero() {
		return
	}
	j.due = due
	q.put(j, &q.waiting)
}

func (q *queue) put(j *job, h *jobs) {
	heap.Push(h, j)
	q.in[j] = h
}

func (q *queue) leave(j *job) {
	if h := q.in[j]; h != nil {
		heap.Remove(h, j.place)
		delete(q.in, j)
	}
}

// forget drops a job whose certificate is gone.
func (q *queue) forget(j *job) {
	q.leave(j)
	delete(q.jobs, j.id)
}

// ripen makes the jobs ready whose time has come.
func (q *queue) ripen(now time.Time) {
	if now.Before(q.warned) || now.Sub(q.warned) >= lookAtMost {
		q.warned = now
		for _, j := range q.jobs {
			if !j.running && j.cert.warning(now) > j.cert.Warned {
				j.warn = true
				q.set(j, now)
			}
		}
	}
	for j := q.waiting.first(); j != nil && !j.due.After(now); j = q.waiting.first() {
		q.leave(j)
		a := q.m.choose(j.cert, now)
		rank := j.rank(a.Name)
		if rank == rankNew {
			// Each space's certificates stand in a line of their own, and the lines move on together.
			j.turn = max(q.turn, q.turns[j.cert.Space]+1)
			q.turns[j.cert.Space] = j.turn
		}
		q.put(j, &q.ready[a][rank])
	}
	if len(q.turns) > len(q.jobs) {
		clear(q.turns) // of spaces that are no more
	}
}

// next takes the job that a worker should do now; nil: none, and then sooner is when there may be one.
func (q *queue) next(now time.Time) (j *job, sooner time.Time) {
	q.ripen(now)
	if first := q.waiting.first(); first != nil {
		sooner = first.due
	}
	earlier := func(t time.Time) {
		if sooner.IsZero() || t.Before(sooner) {
			sooner = t
		}
	}
	for rank := range ranks {
		for _, a := range q.m.authorities {
			h := &q.ready[a][rank]
			for first := h.first(); first != nil; first = h.first() {
				wait, own := a.budget.gate(first.cert.Names, rank)
				if wait == 0 {
					q.leave(first)
					q.turn = max(q.turn, first.turn)
					return first, time.Time{}
				}
				if !own {
					earlier(now.Add(wait))
					break // all of the rank wait for the same
				}
				q.set(first, now.Add(wait))
				earlier(now.Add(wait))
			}
		}
	}
	return nil, sooner
}

// gate returns how long a job of a rank has to wait for what its authority allows; own: the others of the rank need not.
func (b *budgetOf) gate(names []string, rank int) (wait time.Duration, own bool) {
	if rank == rankBegun {
		return 0, false // its own steps ask; removing records does not need the authority
	}
	b.mu.Lock()
	until := b.state.OpenUntil
	probing := b.state.Failures > 0 && b.probing
	b.mu.Unlock()
	now := b.m.now()
	switch {
	case now.Before(until):
		return until.Sub(now), false
	case probing:
		return breakerFirst, false
	case rank == rankExempt:
		return 0, false
	}
	order, domain := b.tokens(names, rank == rankRenewal)
	if order > 0 {
		return order, false
	}
	return domain, true
}
