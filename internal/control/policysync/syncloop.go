package policysync

import (
	"context"
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/retry"
)

const (
	defaultObserveEvery = 10 * time.Second
	downEvery           = time.Second // how often a proxy that does not answer is asked
	firstPublishGap     = 200 * time.Millisecond
	lastPublishGap      = 15 * time.Second
)

// syncLoop is what a running [Syncer] is at. It is one loop: it does one thing at a time, the most urgent first, and says
// when the next is due.
type syncLoop struct {
	route *Syncer
	mail  *reportQueue

	policy  *api.Policy // the newest that was offered
	since   time.Time   // the route began
	asked   bool        // the proxy's word was had before the first publication, or waited for
	brought bool        // it is in the directory, as far as is known
	retryAt time.Time
	gap     retry.Backoff // between tries to publish
	told    string        // the failure that was logged last
	failure string        // of the last try, to be reported; empty: it went well, or what lies there is newer

	waiting  bool      // for the policy to be in force
	began    time.Time // when waiting did
	lookAt   time.Time
	answered time.Time // the last answer while waiting, or the beginning

	again     bool // the next observation is reported in any case
	observeAt time.Time
	drifted   bool // the last observation found a drift
	down      bool // the proxy did not answer it

	said   lastReport
	usedAt time.Time // when the certificates were last reported
}

// step does what is most urgent, and gives the time of what is next.
func (t *syncLoop) step(ctx context.Context) time.Time {
	ctx, done, orders := t.route.receive(ctx)
	defer done()
	now := time.Now()
	if orders.policy != t.policy {
		t.policy, t.brought, t.retryAt = orders.policy, false, now
		t.gap = retry.Backoff{First: firstPublishGap, Last: lastPublishGap}
	}
	t.again = t.again || orders.again
	switch {
	case t.mustAsk(now):
		t.queryProxy(ctx)
	case t.mustPublish() && !now.Before(t.retryAt):
		t.publish(ctx)
	case t.again || !now.Before(t.observeAt):
		t.observe(ctx)
	case t.waiting && !now.Before(t.lookAt):
		t.poll(ctx)
	}
	return t.due()
}

func (t *syncLoop) mustPublish() bool { return t.policy != nil && !t.brought }

func (t *syncLoop) due() time.Time {
	due := t.observeAt
	if t.again {
		due = time.Time{}
	}
	if t.mustPublish() && t.retryAt.Before(due) {
		due = t.retryAt
	}
	if t.waiting && t.lookAt.Before(due) {
		due = t.lookAt
	}
	return due
}

// publish tries to bring the policy into the directory.
func (t *syncLoop) publish(ctx context.Context) {
	c := t.route.Publisher
	if err := c.recall(); err != nil {
		t.route.Log.Warn().Err(err).Msg("can't tell whether the proxy had a newer policy")
	}
	changed, err := c.Publish(ctx, *t.policy)
	switch now := time.Now(); {
	case err == nil:
		t.arrived(now)
	case changed || c.stands(t.policy.Generation):
		t.route.Log.Warn().Str("dir", c.Dir).Err(err).Msg("the policy is in place, but the files that it replaced can't be removed")
		t.arrived(now)
	case ctx.Err() != nil: // something newer was offered, or the end
	default:
		t.retryAt = now.Add(t.gap.Next())
		text := failureText(err)
		if text == t.told {
			return
		}
		t.told = text
		t.route.Log.Warn().Str("dir", c.Dir).Int64("generation", t.policy.Generation).Err(err).Msg("can't publish the policy; trying again")
		if errors.Is(err, ErrOlder) {
			t.failure, t.again = "", true // what lies there tells the control plane which generation to go beyond
			return
		}
		t.failure = text
		report := t.said.report // the proxy follows what it had
		report.Certificates = nil
		t.say(report)
	}
}

// arrived is behind a success of publish.
func (t *syncLoop) arrived(now time.Time) {
	t.brought, t.told, t.failure = true, "", ""
	t.gap.Reset()
	t.await(now)
	if err := t.route.Publisher.mark(t.policy.Generation); err != nil {
		t.route.Log.Warn().Err(err).Msg("can't record the newest generation outside the policy directory")
	}
}

// await begins to wait until the policy is in force. Who waits already goes on asking when it would have: offers that
// keep coming do not put the answer off.
func (t *syncLoop) await(now time.Time) {
	next := now.Add(firstPause)
	if t.waiting && t.lookAt.Before(next) {
		next = t.lookAt
	}
	t.waiting, t.began, t.answered, t.lookAt = true, now, now, next
}

// poll asks the proxy how far it is.
func (t *syncLoop) poll(ctx context.Context) {
	c := t.route.Publisher
	s, err := c.queryStatus(ctx)
	if ctx.Err() != nil {
		return // at once again, and perhaps for something newer
	}
	now := time.Now()
	t.lookAt = now.Add(awaitPause(now.Sub(t.began)))
	if err != nil {
		if now.Sub(t.answered) >= unreachable {
			t.say(api.Report{Error: clean(err.Error(), maxErrorText), ErrorKind: api.ErrorUnreachable, OnDisk: t.said.report.OnDisk})
		}
		return
	}
	t.answered = now
	r := c.understand(s)
	r.Certificates = nil // they change all the time, and are observed
	if t.brought {
		r.OnDisk = t.policy.Generation
	}
	if r.Error != "" && !c.isNews(s) || t.said.elsewhere && !t.inForce(r) && !c.sawWhatLies(s) {
		t.said.keepRefusal(&r) // it is of what has been replaced, or may be
	}
	t.say(r)
	if t.brought && t.inForce(r) {
		t.waiting = false
		t.route.Log.Debug().Int64("generation", r.InForce).Dur("after", now.Sub(t.began)).Msg("the policy is in force")
	}
}

// When the proxy is asked. It lets 50 ms pass after a change, in case more follow, and reads its directory then.
const (
	firstPause  = 40 * time.Millisecond
	shortPause  = 5 * time.Millisecond
	shortFor    = 250 * time.Millisecond // after it the pauses grow with the time that has passed
	growth      = 20                     // as its fraction
	longPause   = time.Second
	unreachable = time.Second // a proxy that does not answer is not reported before this: it may be starting
)

// awaitPause is how long to wait after a look.
func awaitPause(elapsed time.Duration) time.Duration {
	if elapsed < shortFor {
		return shortPause
	}
	return min(elapsed/growth, longPause)
}

func (t *syncLoop) inForce(r api.Report) bool {
	return t.policy == nil || r.Applied >= t.policy.Generation && r.InForce >= t.policy.Generation
}

// observe looks at the proxy and its directory, and has a drift put right.
func (t *syncLoop) observe(ctx context.Context) {
	c := t.route.Publisher
	r, err := c.Observe(ctx)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	t.observeAt = now.Add(t.observePause(err != nil))
	t.noticeDown(err)
	if err == nil && t.waiting && r.ErrorKind != api.ErrorUndeliverable {
		t.said.keepRefusal(&r) // whether it is of what was just published, look knows
	}
	t.say(r)
	t.again = false
	drifted := t.drifted
	t.drifted = r.Drift != ""
	switch {
	case t.policy == nil || !t.brought:
	case t.drifted:
		t.route.Log.Warn().Str("dir", c.Dir).Str("drift", r.Drift).Msg("the policy directory was changed; restoring it")
		t.brought, t.retryAt = false, now
		if !drifted { // seen right again at once, but somebody who keeps editing is not raced
			t.observeAt = now
		}
	case err == nil && !t.waiting && !t.inForce(r):
		t.await(now)
	}
}

func (t *syncLoop) observePause(down bool) time.Duration {
	every := t.route.ObserveEvery
	if every <= 0 {
		every = defaultObserveEvery
	}
	every += time.Duration((rand.Float64() - 0.5) / 5 * float64(every)) // a thousand routes that begin together drift apart
	if down {
		return min(every, downEvery)
	}
	return every
}

func (t *syncLoop) noticeDown(err error) {
	switch {
	case err != nil && !t.down:
		t.route.Log.Warn().Err(err).Msg("the proxy does not answer")
	case err == nil && t.down:
		t.route.Log.Info().Msg("the proxy answers again")
	}
	t.down = err != nil
}

// stands reports whether a generation was published and lies there as it should.
func (c *Publisher) stands(generation int64) bool {
	c.mu.Lock()
	newest := c.newest
	c.mu.Unlock()
	if newest != generation {
		return false
	}
	onDisk, drift := c.drift()
	return onDisk == generation && drift == ""
}

// temporaryNames are those in the errors of the system. They differ with every try.
var temporaryNames = regexp.MustCompile(`\.pgmtls-[0-9a-f]{16}\.tmp`)

// failureText is the same text for the same failure.
func failureText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ") // of joined errors
	return clean(temporaryNames.ReplaceAllString(text, "a temporary file"), maxErrorText)
}
