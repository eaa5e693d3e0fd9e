package policysync

import (
	"context"
	"errors"
	"fmt"
	"pgmtls-proxy/internal/control/api"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// moment is what a proxy shows from some time on.
type moment struct {
	at               time.Duration
	applied, inForce int64 // generation, by its digest
	failure          string
	checkedBefore    bool // its last look was before the policy was published
	unreachable      bool
}

// playing is a courier of a proxy that shows one moment after the other.
func playing(moments []moment) *Publisher {
	began := time.Now()
	c := &Publisher{Database: database, published: began, digests: map[int64]string{1: "d1", 2: "d2", 3: "d3"}, unknown: "d0"}
	c.fetch = func(context.Context) (*status, error) {
		now := moments[0]
		for _, m := range moments {
			if time.Since(began) >= m.at {
				now = m
			}
		}
		if now.unreachable {
			return nil, errors.New("connection refused")
		}
		text := fmt.Sprintf(`{"policy":{"digest":"d%d"},"receipts":[{"digest":"d%d","in_force_at":"2026-01-01T00:00:00Z"}]}`, now.applied, now.inForce)
		s, err := parseStatus([]byte(text))
		if err == nil {
			s.Reload.Error, s.Reload.CheckedAt = now.failure, time.Now()
			if now.checkedBefore {
				s.Reload.CheckedAt = began.Add(-time.Second)
			}
		}
		return s, err
	}
	return c
}

func TestEachStepIsReportedOnceAndInTime(t *testing.T) {
	for name, c := range map[string]struct {
		moments []moment
		want    []string
	}{
		"in force at once":             {[]moment{{applied: 2, inForce: 2}}, []string{"0s 2/2 "}},
		"a later one is":               {[]moment{{applied: 3, inForce: 3}}, []string{"0s 3/3 "}},
		"in force with the second ask": {[]moment{{applied: 1, inForce: 1}, {at: 30 * time.Millisecond, applied: 2, inForce: 2}}, []string{"40ms 2/2 "}},
		"applied, then in force": {[]moment{{applied: 1, inForce: 1}, {at: 52 * time.Millisecond, applied: 2, inForce: 1}, {at: 101 * time.Millisecond, applied: 2, inForce: 2}},
			[]string{"55ms 2/1 ", "105ms 2/2 "}},
		"refused, and then not": {[]moment{{applied: 1, inForce: 1}, {at: 52 * time.Millisecond, applied: 1, inForce: 1, failure: "broken"}, {at: 102 * time.Millisecond, applied: 2, inForce: 2}},
			[]string{"55ms 1/1 broken", "105ms 2/2 "}},
		"an error from before": {[]moment{{applied: 1, inForce: 1, failure: "broken", checkedBefore: true}, {at: 52 * time.Millisecond, applied: 2, inForce: 2}},
			[]string{"55ms 2/2 "}},
		"down for a moment": {[]moment{{unreachable: true}, {at: 900 * time.Millisecond, applied: 2, inForce: 2}}, []string{"in time 2/2 "}},
		"down for long":     {[]moment{{unreachable: true}, {at: time.Minute, applied: 2, inForce: 2}}, []string{"in time 0/0 connection refused", "in time 2/2 "}},
		"late":              {[]moment{{applied: 1, inForce: 1}, {at: time.Hour, applied: 2, inForce: 2}}, []string{"in time 2/2 "}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var got []string
				must(t, playing(c.moments).Await(t.Context(), 2, func(r api.Report) {
					at := time.Since(began).String()
					if strings.HasPrefix(c.want[0], "in time") {
						at = "in time"
					}
					got = append(got, fmt.Sprintf("%s %d/%d %s", at, r.Applied, r.InForce, r.Error))
				}))
				if !slices.Equal(got, c.want) {
					t.Errorf("got  %q\nwant %q", got, c.want)
				}
				if late := time.Since(began) - c.moments[len(c.moments)-1].at; late > longPause {
					t.Errorf("it took %v more than it must", late)
				}
			})
		})
	}
}

func TestTheEndOfWaitingSaysWhatWasKnown(t *testing.T) {
	for want, m := range map[string]moment{
		"has not taken it up":      {applied: 1, inForce: 1},
		"are still ending":         {applied: 2, inForce: 1},
		"refuses the policy: torn": {applied: 1, inForce: 1, failure: "torn"},
		"connection refused":       {unreachable: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			enough := errors.New("enough")
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, enough)
			defer cancel()
			reports := 0
			err := playing([]moment{m}).Await(ctx, 2, func(api.Report) { reports++ })
			if !errors.Is(err, enough) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want something with %q", err, want)
			}
			if reports > 1 {
				t.Errorf("%d reports of one state", reports)
			}
		})
	}
}

func TestALongWaitAsksSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := playing([]moment{{applied: 1, inForce: 1}, {at: 10 * time.Minute, applied: 2, inForce: 2}})
		inner, asked := c.fetch, 0
		c.fetch = func(ctx context.Context) (*status, error) { asked++; return inner(ctx) }
		must(t, c.Await(t.Context(), 2, nil))
		if asked > 800 {
			t.Errorf("it was asked %d times in ten minutes", asked)
		}
	})
}
