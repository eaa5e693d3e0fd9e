package session

import (
	"sync"

	"golang.org/x/time/rate"

	"pgmtls-proxy/internal/refusal"
)

// Each refusal reason has this many log events, and so have the clients that were lost before they had a session; the
// rest are counted in the next event's "suppressed". Metrics count all of them.
const refusalEventsPerSecond, refusalEventsBurst = 10, 50

// sampler thins out floods of refusals in the log, each reason for itself. The reason 0 is a client that was lost. The
// zero value is ready.
type sampler struct {
	mu      sync.Mutex
	reasons map[refusal.Reason]*sampled
}

type sampled struct {
	limit      *rate.Limiter
	suppressed int
}

// pass reports whether an event of the reason is to be logged, and how many before it were not.
func (s *sampler) pass(reason refusal.Reason) (suppressed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reasons == nil {
		s.reasons = make(map[refusal.Reason]*sampled)
	}
	state := s.reasons[reason]
	if state == nil {
		state = &sampled{limit: rate.NewLimiter(refusalEventsPerSecond, refusalEventsBurst)}
		s.reasons[reason] = state
	}
	if !state.limit.Allow() {
		state.suppressed++
		return 0, false
	}
	suppressed, state.suppressed = state.suppressed, 0
	return suppressed, true
}
