package registry

import "fmt"

// Error is a refusal that the caller can do something about. Everything else is an error of the store.
type Error struct {
	ID      string // closed set, below; it is the API's error id
	Message string // what is wrong, and what to do
}

// The ids of errors.
const (
	NotFound      = "not_found"      // there is no such thing
	InvalidParams = "invalid_params" // a value that can't be used
	Conflict      = "conflict"       // it can't be done in the present state
	Unavailable   = "unavailable"    // try again
)

func (e *Error) Error() string { return e.Message }

func newError(id, format string, args ...any) error {
	return &Error{ID: id, Message: fmt.Sprintf(format, args...)}
}
