package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/store"
)

// requestTime bounds a request whose answer does not go on: reading, doing and writing.
const requestTime = time.Minute

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// serve does what is the same for all requests, around their route.
func (s *Server) serve(route *route, w http.ResponseWriter, r *http.Request) {
	started := s.now()
	c := &call{server: s, route: route, w: &responseRecorder{ResponseWriter: w}, r: r, addr: address(r), id: r.Header.Get(api.RequestIDHeader)}
	if !requestID.MatchString(c.id) {
		c.id = uuid.NewString()
	}
	header := w.Header()
	header.Set(api.RequestIDHeader, c.id)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	defer func() {
		problem := recover()
		if problem != nil && problem != http.ErrAbortHandler {
			c.w.internalErr = fmt.Errorf("panic: %v", problem)
			s.log.Error().Str("request_id", c.id).Str("route", route.path).Interface("panic", problem).Bytes("stack", debug.Stack()).Msg("panic while serving a request")
			if c.w.status == 0 {
				c.fail(c.w.internalErr)
				problem = nil
			} else {
				problem = http.ErrAbortHandler // net/http would log the stack once more
			}
		}
		s.finish(c, s.now().Sub(started))
		if problem != nil {
			panic(problem)
		}
	}()
	if route.stream {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.streams, cancel)()
		c.r = r.WithContext(ctx)
	} else {
		ctx, cancel := context.WithTimeout(r.Context(), requestTime)
		defer cancel()
		c.r = r.WithContext(ctx)
		control := http.NewResponseController(w)
		started := time.Now()
		reading := requestTime // without a body, reading only tells whether the client is still there
		if r.ContentLength != 0 {
			reading = readBody
		}
		if err := errors.Join(control.SetReadDeadline(started.Add(reading)), control.SetWriteDeadline(started.Add(requestTime+readBody))); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return // the connection is gone
		}
	}
	if err := c.admit(); err != nil {
		c.fail(err)
		return
	}
	if err := route.do(c); err != nil {
		c.fail(err)
	}
}

// admit finds out who asks, and whether they may.
func (c *call) admit() error {
	if c.route.open {
		if !c.server.anonymous.allow(c.addr) {
			return tooMany()
		}
		return nil
	}
	caller, err := c.authenticate()
	if err != nil {
		// Who shows nothing good gets tired. It is counted by address and after the look-up, so that nobody can shut
		// out somebody else who has a good token behind the same address.
		if failure(err).ID == api.Unauthorized && !c.server.anonymous.allow(c.addr) {
			return tooMany()
		}
		return err
	}
	c.caller = caller
	if !c.server.callers.allow(string(caller.Kind) + caller.ID) {
		return tooMany()
	}
	database, err := c.route.about(c)
	if err != nil {
		return err
	}
	c.database = database
	err = caller.May(c.route.action, database)
	if refused, ok := errors.AsType[*access.Refusal](err); ok && refused.Hidden {
		return noDatabase(c.asked())
	}
	if err == nil && c.route.gives {
		// A store that does not answer says so when it is asked.
		if _, room := c.server.checkStore(c.ctx()); errors.Is(room, store.ErrFull) {
			return room
		}
	}
	return err
}

func tooMany() error {
	return &api.Error{ID: api.RateLimit, Message: "too many requests; slow down, then try again"}
}

// scope returns the id of the database that a request is about, empty when there is none.
type scope func(*call) (string, error)

func aboutNone(*call) (string, error) { return "", nil }

// scopeOwn is for callers that stand for one database: it is their own.
func scopeOwn(c *call) (string, error) { return c.caller.Database, nil }

// aboutPath is the database of the path. It is an error of a caller who may not do this to any database, or of one to
// whom it does not exist, only after May has been asked: see [call.admit].
func aboutPath(c *call) (string, error) {
	db, err := c.find(c.asked())
	if err == nil {
		c.db = db
		return db.ID, nil
	}
	if failure(err).ID != api.NotFound {
		return "", err
	}
	if refusal := c.caller.May(c.route.action, ""); refusal != nil {
		return "", c.unlessHidden(refusal)
	}
	return "", err
}

// aboutQuery is the database that a query names, all of them when it names none. To a caller of one database that is
// its own. A database that is gone still has a past: it goes by its id.
func aboutQuery(c *call) (string, error) {
	name := c.asked()
	if name == "" {
		return c.caller.Database, nil
	}
	id, err := aboutPath(c)
	if err != nil && failure(err).ID == api.NotFound && c.caller.May(c.route.action, "") == nil && uuid.Validate(name) == nil {
		return name, nil
	}
	return id, err
}

// asked is the database that the request names.
func (c *call) asked() string {
	if name := c.r.PathValue("database"); name != "" {
		return name
	}
	return c.r.URL.Query().Get("database")
}

func (c *call) unlessHidden(err error) error {
	if refused, ok := errors.AsType[*access.Refusal](err); ok && refused.Hidden {
		return noDatabase(c.asked())
	}
	return err
}

// find gets a database by name or id. That there is none is always said in the same words.
func (c *call) find(name string) (registry.Database, error) {
	if !pathValue.MatchString(name) {
		return registry.Database{}, noDatabase(name)
	}
	db, err := c.server.registry.Database(c.ctx(), name)
	if err != nil && failure(err).ID == api.NotFound {
		return registry.Database{}, noDatabase(name)
	}
	return db, err
}

// finish counts a request and logs it, in one line, without anything that was in it.
func (s *Server) finish(c *call, took time.Duration) {
	if c.w.status == 0 {
		c.w.status = statusGone
	}
	s.counts.request(c, took)
	level := zerolog.InfoLevel
	switch {
	case c.w.internalErr != nil && !errors.Is(c.w.internalErr, context.Canceled):
		level = zerolog.ErrorLevel
	case c.w.status == http.StatusTooManyRequests, // whoever floods must not flood the log too; they are counted
		c.w.status < 400 && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead): // clients poll
		level = zerolog.DebugLevel
	}
	event := s.log.WithLevel(level).Str("request_id", c.id).Str("method", method(c.r.Method)).Str("route", c.route.path).
		Int("status", c.w.status).Int64("bytes", c.w.bytes).Dur("took", took).Str("addr", c.addr)
	if c.caller.ID != "" {
		event = event.Str("caller", c.caller.Name).Str("caller_id", c.caller.ID)
	}
	if c.db.ID != "" {
		event = event.Str("database", c.db.Name)
	}
	if c.w.failure != "" {
		event = event.Str("error_id", c.w.failure)
	}
	if c.w.internalErr != nil {
		event = event.Err(c.w.internalErr)
	}
	event.Msg("request")
}

// statusGone is what is logged of a request that nobody waited for, as nginx does.
const statusGone = 499

// method is one of a closed set.
func method(name string) string {
	switch name {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodPut, http.MethodPatch, http.MethodOptions:
		return name
	}
	return "other"
}

// cleanPath reports whether a path is written in the one way that the routes are. The mux would redirect to it, with an
// answer that is no JSON, and to a place that the client did not ask for.
func cleanPath(p string) bool { return p == path.Clean(p) }

// withoutFinalSlash returns the request for the path without the slash that many clients put at its end.
func withoutFinalSlash(r *http.Request) *http.Request {
	if len(r.URL.Path) < 2 || !strings.HasSuffix(r.URL.Path, "/") {
		return r
	}
	short := new(http.Request)
	*short = *r
	short.URL = new(url.URL)
	*short.URL = *r.URL
	short.URL.Path = strings.TrimSuffix(r.URL.Path, "/")
	short.URL.RawPath = strings.TrimSuffix(r.URL.RawPath, "/")
	return short
}

// responseRecorder remembers what was answered.
type responseRecorder struct {
	http.ResponseWriter
	status      int
	bytes       int64
	failure     string // id of the error
	internalErr error  // that strangers are not told
}

func (a *responseRecorder) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *responseRecorder) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets [http.ResponseController] reach what is below.
func (a *responseRecorder) Unwrap() http.ResponseWriter { return a.ResponseWriter }
