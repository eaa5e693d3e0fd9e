package acme

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"time"
)

// Window is when an authority wants a certificate renewed (RFC 9773).
type Window struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	URL   string    `json:"url,omitempty"` // of a page that explains it
}

var errNoRenewalInfo = errors.New("the authority has no renewal information")

// readWindow reads an answer. One whose end is not after its start is none (RFC 9773, section 4.2).
func readWindow(answer *http.Response) (Window, error) {
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if answer.StatusCode != http.StatusOK || kind != "application/json" {
		return Window{}, fmt.Errorf("renewal information: %s, %q", answer.Status, kind)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return Window{}, err
	}
	var document struct {
		SuggestedWindow struct{ Start, End time.Time }
		ExplanationURL  string
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return Window{}, fmt.Errorf("renewal information: %w", err)
	}
	w := Window{Start: document.SuggestedWindow.Start.UTC(), End: document.SuggestedWindow.End.UTC(), URL: clean(document.ExplanationURL)}
	if w.Start.IsZero() || !w.End.After(w.Start) {
		return Window{}, errors.New("renewal information: its window does not end after its start")
	}
	return w, nil
}

// draw picks the moment of a renewal in a window. It is drawn once and kept: drawn at each look, it would be the
// earliest of many draws, and everybody's renewals would crowd at the start.
func (w Window) draw() time.Time {
	return w.Start.Add(rand.N(w.End.Sub(w.Start)))
}

// young is the part of its life for which a certificate is not renewed, whatever a window says: one that was meant for
// its predecessor, taken for this one's, would order in a loop.
const young = 10

// shortLife is the lifetime below which half of it is kept in reserve, not a third.
const shortLife = 10 * 24 * time.Hour

// renewAt returns when a leaf is to be renewed. Seed spreads certificates that were issued together.
//
// It is the moment drawn in the authority's window, if one is known that lies before the end, and else two thirds into
// the life of the leaf, a little earlier for some.
func (l *Leaf) renewAt(seed string) time.Time {
	life := l.NotAfter.Sub(l.NotBefore)
	reserve := life / 3
	if life < shortLife {
		reserve = life / 2
	}
	at := l.NotAfter.Add(-reserve - time.Duration(spread(seed+l.ID, int64(life/30)+1)))
	if w := l.Window; w != nil && l.SelectedAt.Before(l.NotAfter.Add(-life/20)) {
		at = l.SelectedAt
	}
	if earliest := l.NotBefore.Add(life / young); at.Before(earliest) {
		return earliest
	}
	return at
}

// askInterval is how often renewal information is asked for: at least twice a day (Let's Encrypt's integration guide),
// more often so that a mass revocation is noticed in time.
const askInterval = 6 * time.Hour

// nextAsk returns when renewal information of a leaf is asked for next: each certificate has its own place in the
// interval, so that a restart asks nothing that was not due, and nothing need be written down.
func (l *Leaf) nextAsk(seed string, now time.Time) time.Time {
	interval := max(askInterval, l.AskEvery)
	place := time.Duration(spread(seed, int64(interval)))
	at := now.Truncate(interval).Add(place)
	if !at.After(now) {
		at = at.Add(interval)
	}
	return at
}

// spread returns a number below n that is always the same for a seed.
func spread(seed string, n int64) int64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(seed)) // it never fails
	return int64(hash.Sum64() % uint64(n))
}

// backoff is how long a certificate waits after so many failures in a row.
func backoff(failures int) time.Duration {
	steps := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}
	return steps[min(max(failures, 1), len(steps))-1]
}
