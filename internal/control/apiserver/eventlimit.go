package apiserver

import "sync"

// maxEventStreamsPerToken bounds the event streams of one token, so that no token holds those of all. Agents' streams are
// not among them: each agent has one, which nobody else can take.
const maxEventStreamsPerToken = 16

// perCaller bounds what one caller holds at a time. It remembers callers that hold something, and no others.
type perCaller struct {
	most int

	mu   sync.Mutex
	held map[string]int
}

func newPerCaller(most int) *perCaller { return &perCaller{most: most, held: make(map[string]int)} }

// enter takes one place of a caller's, and reports whether there was one. Leave gives it back, and is called once.
func (p *perCaller) enter(caller string) (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[caller] >= p.most {
		return nil, false
	}
	p.held[caller]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.held[caller]--; p.held[caller] == 0 {
			delete(p.held, caller)
		}
	}, true
}
