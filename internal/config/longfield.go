package config

import (
	"strconv"
	"strings"
	"time"
)

// day is 24 hours. Certificates don't know daylight saving time.
const day = 24 * time.Hour

// longField is a duration that people count in days: a whole number with d, or a Go duration.
func longField[T any](k Key, bounds longBounds, to func(*T) *time.Duration) field[T] {
	k.Type = "duration"
	k.Bounds = bounds.String()
	return field[T]{k, func(v value, into *T) {
		if !v.is(scalar) {
			return
		}
		d, ok := parseLong(v.text)
		switch {
		case !ok && allDigits(v.text):
			v.refuse(complaint{"has no unit", "write " + shown(v.text) + "d for days, or " + shown(v.text) + "h for hours"})
		case !ok:
			v.refuse(complaint{"is not a duration", "write a number with a unit: 90d, 36h"})
		case d < bounds.min || d > bounds.max:
			v.refuse(complaint{"is out of bounds", "write a duration from " + k.Bounds})
		default:
			*to(into) = d
		}
	}}
}

// maxDays keeps a number of days within a time.Duration, far beyond any bound.
const maxDays = 100_000

func parseLong(text string) (time.Duration, bool) {
	if digits, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(digits)
		if err != nil || !allDigits(digits) {
			return 0, allDigits(digits) // a number beyond any is out of bounds, as 0 is
		}
		return time.Duration(min(n, maxDays)) * day, true
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

type longBounds struct{ min, max time.Duration } // min is above 0

func (b longBounds) String() string { return inDays(b.min) + " to " + inDays(b.max) }

// inDays writes a duration as a person would: 75d, 36h.
func inDays(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	return brief(d)
}
