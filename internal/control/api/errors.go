package api

import (
	"net/http"
	"time"
)

// The ids of errors. Clients may act on them; the set is closed.
const (
	BadRequest       = "bad_request"        // 400: the body is not JSON, or has a field that nobody knows
	Unauthorized     = "unauthorized"       // 401: no token, or one that is unknown, expired or revoked
	Forbidden        = "forbidden"          // 403: the token's scope does not cover it
	NotFound         = "not_found"          // 404
	MethodNotAllowed = "method_not_allowed" // 405
	Conflict         = "conflict"           // 409: it can't be done in the present state
	TooLarge         = "too_large"          // 413: the body is over its bound
	InvalidParams    = "invalid_params"     // 422: a value that can't be used
	RateLimit        = "rate_limit"         // 429: see Retry-After
	Internal         = "internal"           // 500: a fault of the server; its log has it under the request id
	Unavailable      = "unavailable"        // 503: try again
)

// Error is the body of every answer that is not 2xx.
type Error struct {
	ID      string `json:"id"`
	Message string `json:"message"` // what is wrong and what to do, for people

	Status     int           `json:"-"` // HTTP status
	RequestID  string        `json:"-"` // from [RequestIDHeader]
	RetryAfter time.Duration `json:"-"` // when to try again, if the server said so
}

func (e *Error) Error() string { return e.Message }

// StatusOf returns the HTTP status that goes with the id of an error, 500 for an id that is not one.
func StatusOf(id string) int {
	if status, ok := statuses[id]; ok {
		return status
	}
	return http.StatusInternalServerError
}

var statuses = map[string]int{
	BadRequest:       http.StatusBadRequest,
	Unauthorized:     http.StatusUnauthorized,
	Forbidden:        http.StatusForbidden,
	NotFound:         http.StatusNotFound,
	MethodNotAllowed: http.StatusMethodNotAllowed,
	Conflict:         http.StatusConflict,
	TooLarge:         http.StatusRequestEntityTooLarge,
	InvalidParams:    http.StatusUnprocessableEntity,
	RateLimit:        http.StatusTooManyRequests,
	Internal:         http.StatusInternalServerError,
	Unavailable:      http.StatusServiceUnavailable,
}
