package notify

import (
	"context"
	"errors"
	"sync"
)

// Fan sends by all of its senders, at the same time. The error of Send is a [*FanError].
type Fan []Sender

// FanError is returned when some of a Fan's senders failed. It is [ErrPermanent] only when none of them is worth another
// attempt.
type FanError struct {
	// Rest are the senders to try again; telling them and not the whole Fan spares the others a double.
	Rest   Fan
	errors []error // of Rest, and those that are permanent
}

// Send sends by every sender, and returns when the last one is done.
func (f Fan) Send(ctx context.Context, n Notice) error {
	results := make([]error, len(f))
	var all sync.WaitGroup
	for i, s := range f {
		all.Go(func() { results[i] = s.Send(ctx, n) })
	}
	all.Wait()
	return fanError(f, results)
}

// fanError is nil when there is none. A sender that is a fan itself gives its own rest.
func fanError(f Fan, results []error) error {
	e := &FanError{}
	for i, err := range results {
		if err == nil {
			continue
		}
		e.errors = append(e.errors, err)
		inner, isFan := errors.AsType[*FanError](err)
		switch {
		case isFan:
			e.Rest = append(e.Rest, inner.Rest...)
		case !errors.Is(err, ErrPermanent):
			e.Rest = append(e.Rest, f[i])
		}
	}
	if len(e.errors) == 0 {
		return nil
	}
	return e
}

// Error is one line, with every sender that failed.
func (e *FanError) Error() string {
	text := ""
	for i, err := range e.errors {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return text
}

// Is answers for ErrPermanent.
func (e *FanError) Is(target error) bool { return target == ErrPermanent && len(e.Rest) == 0 }

// Unwrap returns the errors that matter for another attempt: without those that are permanent, as long as there are
// others.
func (e *FanError) Unwrap() []error {
	var matter []error
	for _, err := range e.errors {
		if len(e.Rest) == 0 || !errors.Is(err, ErrPermanent) {
			matter = append(matter, err)
		}
	}
	return matter
}
