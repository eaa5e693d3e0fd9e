package policy

import (
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// How long ahead the log warns, at most: of a certificate in the last third of its life, of a list in its last quarter. The metrics
// have the dates themselves, for alerts that the operator chooses.
const (
	certificateAhead = 14 * 24 * time.Hour
	crlAhead         = 3 * 24 * time.Hour
	warnAgain        = 24 * time.Hour
)

// warnings reports what runs out soon, each once a day and once more when it has run out, and what is not valid yet. The zero value is ready. One
// goroutine at a time.
type warnings struct {
	snapshot *Snapshot
	said     map[string]time.Time
}

func (w *warnings) check(s *Snapshot, now time.Time, log zerolog.Logger) {
	if w.snapshot != s {
		w.snapshot, w.said = s, make(map[string]time.Time)
	}
	for _, c := range s.Certificates {
		w.warn("server certificate "+c.Leaf.Subject.String(), c.NotAfter(), ahead(c.NotBefore(), c.NotAfter()), now, log,
			"clients that verify it refuse to connect")
		w.early("server certificate "+c.Leaf.Subject.String(), c.NotBefore(), now, log, "clients that verify it refuse to connect until then")
	}
	for _, ca := range s.Trust.CAs() {
		w.warn("client CA "+ca.Subject, ca.NotAfter, ahead(ca.NotBefore, ca.NotAfter), now, log, "its client certificates are refused")
		w.early("client CA "+ca.Subject, ca.NotBefore, now, log, "its client certificates are refused until then")
	}
	for _, list := range s.Trust.CRLs() {
		w.warn("CRL of "+list.Issuer, list.NextUpdate, min(crlAhead, list.NextUpdate.Sub(list.ThisUpdate)/4), now, log,
			"the client certificates of its issuer are refused")
		w.early("CRL of "+list.Issuer, list.ThisUpdate, now, log, "it counts already, and the clock of its issuer is ahead or the clock of this host behind")
	}
}

// ahead is how long before its end a certificate is warned of. A certificate of six days must not be about to end all its life.
func ahead(begin, end time.Time) time.Duration { return min(certificateAhead, end.Sub(begin)/3) }

// early warns of what begins only later: the clock of its issuer is wrong, or that of this host.
func (w *warnings) early(what string, begin, now time.Time, log zerolog.Logger, then string) {
	if !now.Before(begin) || !w.due(fmt.Sprint(what, begin, "early"), now) {
		return
	}
	log.Warn().Time("valid_from", begin).Str("ahead", begin.Sub(now).Round(time.Second).String()).
		Msgf("the %s is not valid yet: %s. Compare the clocks of this host and of the issuer", what, then)
}

// due reports whether something was not said within the last day, and takes it as said.
func (w *warnings) due(key string, now time.Time) bool {
	if last, said := w.said[key]; said && now.Sub(last) < warnAgain {
		return false
	}
	w.said[key] = now
	return true
}

func (w *warnings) warn(what string, end time.Time, ahead time.Duration, now time.Time, log zerolog.Logger, then string) {
	if end.IsZero() || now.Before(end.Add(-ahead)) {
		return
	}
	over := now.After(end)
	if !w.due(fmt.Sprint(what, end, over), now) {
		return
	}
	if over {
		log.Error().Time("expired_at", end).Msgf("the %s has expired: %s", what, then)
		return
	}
	log.Warn().Time("expires_at", end).Str("left", end.Sub(now).Round(time.Minute).String()).
		Msgf("the %s expires soon; then %s", what, then)
}
