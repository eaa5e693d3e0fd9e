// Package problem is how the control plane refuses: with an id of a closed set, and a message that tells the caller what
// is wrong and what to do.
//
// It knows no HTTP: apiserver makes a status of the id. Every other error is a fault of the store or of this program,
// and is logged instead of being shown.
package problem

import (
	"errors"
	"fmt"

	"pgmtls-proxy/internal/safetext"
)

// Error is a refusal that the caller can do something about.
type Error struct {
	ID      string // one of the constants below
	Message string // what is wrong, and what to do
}

// The ids of errors.
const (
	NotFound      = "not_found"      // there is no such thing
	InvalidParams = "invalid_params" // a value that can't be used
	Conflict      = "conflict"       // it can't be done in the present state
	Unavailable   = "unavailable"    // try again
)

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// New returns an [*Error] with a formatted message.
func New(id, format string, args ...any) error {
	return &Error{ID: id, Message: fmt.Sprintf(format, args...)}
}

// Is reports whether an error is, or wraps, an [*Error] with the id.
func Is(err error, id string) bool {
	refusal, ok := errors.AsType[*Error](err)
	return ok && refusal.ID == id
}

// Quote returns a text of the caller's, quoted and cut to 64 bytes, fit to stand in a message.
func Quote(text string) string { return safetext.Quote(text, 64) }
