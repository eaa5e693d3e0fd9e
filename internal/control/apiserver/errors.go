package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// idOf has the API's id for each of the domain's.
var idOf = map[string]string{
	problem.NotFound:      api.NotFound,
	problem.InvalidParams: api.InvalidParams,
	problem.Conflict:      api.Conflict,
	problem.Unavailable:   api.Unavailable,
}

// failure makes the answer of an error. What is not known to be fit for strangers is not shown to them; the log has it.
func failure(err error) *api.Error {
	if said, ok := errors.AsType[*api.Error](err); ok {
		return said
	}
	if refused, ok := errors.AsType[*problem.Error](err); ok {
		if id, known := idOf[refused.ID]; known {
			return &api.Error{ID: id, Message: refused.Message}
		}
	}
	if refused, ok := errors.AsType[*access.Refusal](err); ok {
		if refused.Hidden {
			return &api.Error{ID: api.NotFound, Message: refused.Error()}
		}
		return &api.Error{ID: api.Forbidden, Message: refused.Error()}
	}
	switch {
	case errors.Is(err, access.ErrUnknown), errors.Is(err, access.ErrExpired):
		return &api.Error{ID: api.Unauthorized, Message: err.Error()}
	case errors.Is(err, store.ErrFull):
		return &api.Error{ID: api.Unavailable, Message: "nothing was changed: " + store.FullText(err)}
	case errors.Is(err, store.ErrFailed):
		return &api.Error{ID: api.Unavailable, Message: "the control plane can't write to its disk and is stopping; check whether the change was made when it is back"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrConflict):
		return &api.Error{ID: api.Unavailable, Message: "the control plane can't do this now, or can't tell whether it was done; check, and try again"}
	}
	return &api.Error{ID: api.Internal, Message: "internal error; the control plane's log has the details under this request's id"}
}

// fail sends an error, unless an answer has begun: that one is cut off, so that nobody takes it for whole.
func (c *call) fail(err error) {
	said := failure(err)
	if said.ID == api.Internal && c.w.status == 0 && c.server.healthy(c.ctx()) != nil {
		said = failure(store.ErrClosed) // the store's trouble has many names
	}
	c.w.failure = said.ID
	if said.ID == api.Internal || said.ID == api.Unavailable {
		c.w.internalErr = err
	}
	if c.w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	header := c.w.Header()
	switch said.ID {
	case api.Unauthorized:
		header.Add("WWW-Authenticate", `Bearer realm="pgmtls"`)
		header.Add("WWW-Authenticate", `Basic realm="pgmtls", charset="UTF-8"`)
	case api.RateLimit, api.Unavailable:
		header.Set("Retry-After", "1")
	}
	if err := c.answer(api.StatusOf(said.ID), said); err != nil {
		panic(err) // two strings always encode
	}
}

func invalid(format string, args ...any) error {
	return &api.Error{ID: api.InvalidParams, Message: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &api.Error{ID: api.NotFound, Message: fmt.Sprintf(format, args...)}
}

// noDatabase is the answer about a database that does not exist, and about one that does not for the caller: word by
// word the same.
func noDatabase(name string) error { return notFound("there is no database %s", problem.Quote(name)) }
