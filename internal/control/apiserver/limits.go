package apiserver

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimiters bounds how many callers are told apart. Beyond that those that have been quiet are forgotten, and if
// all are busy, new ones share one limit: a flood of addresses takes no memory.
const maxLimiters = 10_000

// limiters are rate limits by caller.
type limiters struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu     sync.Mutex
	of     map[string]*rate.Limiter
	others *rate.Limiter
	swept  time.Time
}

func newLimiters(perSecond float64, burst int, now func() time.Time) *limiters {
	return &limiters{rate: rate.Limit(perSecond), burst: burst, now: now,
		of: make(map[string]*rate.Limiter), others: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// allow takes one request off a caller's limit, and reports whether there was one left.
func (l *limiters) allow(caller string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	limiter := l.of[caller]
	if limiter == nil {
		if len(l.of) >= maxLimiters && now.Sub(l.swept) >= time.Second {
			l.sweep(now)
		}
		if limiter = l.others; len(l.of) < maxLimiters {
			limiter = rate.NewLimiter(l.rate, l.burst)
			l.of[caller] = limiter
		}
	}
	return limiter.AllowN(now, 1)
}

// sweep forgets those whose limit is full again: a new one would be the same.
func (l *limiters) sweep(now time.Time) {
	l.swept = now
	for caller, limiter := range l.of {
		if limiter.TokensAt(now) >= float64(l.burst) {
			delete(l.of, caller)
		}
	}
}
