package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseUntil reads the end of something: a day, a moment in RFC 3339, or how long from now. A day is over with its
// last second, in UTC.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return future(text, day.AddDate(0, 0, 1), now)
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return future(text, at.UTC(), now)
	}
	duration, err := parseDuration(text)
	if err != nil {
		return time.Time{}, usage(fmt.Errorf("%q is not a time: write a day (2027-01-31), a time (2027-01-31T18:00:00Z), or a duration from now (12h, 30d)", text))
	}
	return future(text, now.Add(duration).UTC().Truncate(time.Second), now)
}

func future(text string, at, now time.Time) (time.Time, error) {
	if !at.After(now) {
		return time.Time{}, usage(fmt.Errorf("%s is in the past", text))
	}
	return at, nil
}

// maxDays is about 100 years; what is longer is a slip.
const maxDays = 36500

// parseDuration reads what time.ParseDuration does, and whole days: 30d.
func parseDuration(text string) (time.Duration, error) {
	var duration time.Duration
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n > maxDays {
			return 0, usage(fmt.Errorf("%q is not a duration: write 90m, 24h or 30d", text))
		}
		duration = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			return 0, usage(fmt.Errorf("%q is not a duration: write 90m, 24h or 30d", text))
		}
	}
	if duration <= 0 {
		return 0, usage(fmt.Errorf("%q is not a positive duration", text))
	}
	return duration, nil
}
