package policysync

import (
	"context"
	"fmt"
	"pgmtls-proxy/internal/control/api"
	"time"
)

// When the proxy is asked. It lets 50 ms pass after a change, in case more follow, and reads its directory then.
const (
	firstPause  = 40 * time.Millisecond
	shortPause  = 5 * time.Millisecond
	shortFor    = 250 * time.Millisecond // after it the pauses grow with the time that has passed
	growth      = 20                     // as its fraction
	longPause   = time.Second
	unreachable = time.Second // a proxy that does not answer is not reported before this: it may be starting
)

// Await asks the proxy until a generation, or a later one, is applied and in force. It calls report, from its own
// goroutine, at both, or once if they come together; and when the proxy refuses what is in its directory, or has not
// answered for a second, once for each text of Error. It gives nil when the generation is in force, and otherwise the
// context's cause with what was last known.
//
// There is no other limit: a session that may end late, or a proxy that is down, keeps it waiting. Only what this
// courier has published, or found in its directory, counts.
func (c *Publisher) Await(ctx context.Context, generation int64, report func(api.Report)) error {
	if err := checkAdmin(c.Admin); err != nil && c.fetch == nil {
		return err
	}
	w := waiting{courier: c, generation: generation, report: report, answered: time.Now()}
	for began := time.Now(); ; {
		done := w.look(ctx)
		if done {
			return nil
		}
		if err := wait(ctx, w.pause(time.Since(began))); err != nil {
			return fmt.Errorf("wait for generation %d at the proxy: %w (%s)", generation, err, w.last)
		}
	}
}

// waiting is the state of an Await.
type waiting struct {
	courier    *Publisher
	generation int64
	report     func(api.Report)
	asked      bool
	answered   time.Time // the last answer, or the beginning
	applied    bool      // it was reported
	failure    string    // that was reported last
	last       string    // what is known, for people
}

// pause is how long to wait after a look.
func (w *waiting) pause(elapsed time.Duration) time.Duration {
	switch {
	case !w.asked:
		w.asked = true
		return firstPause
	case elapsed < shortFor:
		return shortPause
	}
	return min(elapsed/growth, longPause)
}

// look asks once, tells what is new, and reports whether the generation is in force.
func (w *waiting) look(ctx context.Context) (inForce bool) {
	s, err := w.courier.askStatus(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.last = err.Error()
			if time.Since(w.answered) >= unreachable {
				w.fail(api.Report{Error: clean(err.Error(), maxErrorText)})
			}
		}
		return false
	}
	w.answered = time.Now()
	r := w.courier.understand(s)
	switch {
	case r.Applied >= w.generation && r.InForce >= w.generation:
		w.tell(r)
		return true
	case r.Applied >= w.generation:
		w.last = "it is applied, and sessions that it refuses are still ending"
		if !w.applied {
			w.applied = true
			w.tell(r)
		}
	case r.Error != "" && w.courier.isNews(s):
		w.last = "the proxy refuses the policy: " + r.Error
		w.fail(r)
	default:
		w.last = "the proxy has not taken it up"
	}
	return false
}

func (w *waiting) fail(r api.Report) {
	if r.Error != w.failure {
		w.failure = r.Error
		w.tell(r)
	}
}

func (w *waiting) tell(r api.Report) {
	if w.report != nil {
		w.report(r)
	}
}

// isNews reports whether the proxy's last look at its directory was after the last change: an error from before is of
// what has been replaced.
func (c *Publisher) isNews(s *status) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.Reload.CheckedAt.After(c.published)
}

// understand makes a report of a status.
func (c *Publisher) understand(s *status) api.Report {
	if s.Policy != nil && c.generation(s.Policy.Digest) == 0 {
		c.learn(s.Policy.Digest)
	}
	return s.report(c.generation)
}

// generation is that of a digest, 0 for one that is none of ours.
func (c *Publisher) generation(digest string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for generation, known := range c.digests {
		if known == digest {
			return generation
		}
	}
	return 0
}

// learn reads the directory, once for each digest that the proxy shows and that nothing explains: this process may have
// just started, or another one published. What lies there under the number of a generation that is known, with other
// bytes, has been edited.
func (c *Publisher) learn(digest string) {
	c.mu.Lock()
	tried := c.unknown == digest
	c.unknown = digest
	c.mu.Unlock()
	if tried {
		return
	}
	dir, err := openDirectory(c.Dir)
	if err != nil {
		return
	}
	defer dir.close()
	p, err := dir.policy(c.Database)
	if err != nil || digestOf(p) != digest {
		return
	}
	c.mu.Lock()
	_, known := c.digests[p.Generation]
	known = known || p.Generation <= c.newest
	c.mu.Unlock()
	if !known {
		c.expect(p)
	}
}
