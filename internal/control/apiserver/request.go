package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/safetext"
)

// call is one request on its way.
type call struct {
	server *Server
	route  *route
	w      *responseRecorder
	r      *http.Request
	id     string // of the request
	addr   string // who sent it, without the port
	caller access.Caller
	db     registry.Database // that the path or the query names

	database string // id of the database that it is about; empty: none, or all
}

func (c *call) ctx() context.Context { return c.r.Context() }

// actor is the caller in the audit trail.
func (c *call) actor() audit.Actor {
	return audit.Actor{Name: c.caller.Name, Address: c.addr, RequestID: c.id}
}

// audit records in the audit trail what is not the registry's. It is done already and stays so: what can't be recorded
// is in the log instead.
func (c *call) audit(record audit.Record) {
	// A client that has gone away must not leave a hole in the trail.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), 5*time.Second)
	defer cancel()
	if err := c.server.trail.Note(ctx, c.actor(), record); err != nil {
		c.server.log.Error().Err(err).Str("request_id", c.id).Str("actor", c.caller.Name).Str("action", record.Action).
			Str("object", record.Object).Msg("not in the audit trail")
	}
}

// auditFirst records in the audit trail what is about to leave. If that fails, it must not leave: nobody would know that
// it did.
func (c *call) auditFirst(record audit.Record) error {
	if err := c.server.trail.Note(c.ctx(), c.actor(), record); err != nil {
		return fmt.Errorf("record %s in the audit trail: %w", record.Action, err)
	}
	return nil
}

// answer sends a value.
func (c *call) answer(status int, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	header := c.w.Header()
	header.Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(text, '\n')) // a client that is gone can't be told
	return nil
}

// done answers that there is nothing to say.
func (c *call) done() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// readBody is how long a body may take, from the end of its header. net/http reads what a handler leaves of it, under the same
// deadline.
const readBody = 15 * time.Second

var errEmptyBody = errors.New("empty body")

// read gets the JSON object of the body. Where the route allows it, an empty body is an object without fields.
func (c *call) read(into any) error {
	text, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, c.route.body))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &api.Error{ID: api.TooLarge, Message: fmt.Sprintf("the body has more than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return &api.Error{ID: api.BadRequest, Message: "the body did not arrive completely; send it again"}
	}
	// From here on reading only tells whether the client is still there.
	c.readUntil(time.Now().Add(requestTime))
	err = decode(text, into, !c.route.lenient)
	if errors.Is(err, errEmptyBody) && c.route.mayBeEmpty {
		return nil
	}
	if err != nil {
		return &api.Error{ID: api.BadRequest, Message: "invalid body: " + err.Error()}
	}
	return nil
}

// readUntil moves the deadline of reading. Where that can't be done, the bound of the whole request stands.
func (c *call) readUntil(deadline time.Time) {
	_ = http.NewResponseController(c.w).SetReadDeadline(deadline)
}

// decode reads one JSON object and nothing behind it. The error says what is wrong without showing the text: it may
// hold a key.
func decode(text []byte, into any, strict bool) error {
	text = safetext.WithoutMark(text)
	start := bytes.TrimLeft(text, " \t\r\n")
	if len(start) == 0 {
		return errEmptyBody
	}
	if start[0] != '{' {
		return errors.New("it must be a JSON object")
	}
	if err := checkJSON(text); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if strict {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(into); err != nil {
		return explain(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("there is data after the JSON object")
	}
	return nil
}

var unknownField = regexp.MustCompile(`^json: unknown field "([A-Za-z0-9_]{1,64})"$`)

// explain returns what is wrong with JSON, in words for whoever sent it.
func explain(err error) error {
	if wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrongType.Field != "" {
		return fmt.Errorf("%.64s can't be a JSON %.16s", wrongType.Field, wrongType.Value)
	}
	if _, ok := errors.AsType[*time.ParseError](err); ok {
		return errors.New("a time is not in the format of RFC 3339, such as 2027-01-31T12:00:00Z")
	}
	if match := unknownField.FindStringSubmatch(err.Error()); match != nil {
		return fmt.Errorf("unknown field %s", match[1])
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("it is not valid JSON at byte %d", syntax.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the JSON object is truncated")
	}
	return errors.New("it is not the expected JSON object")
}

// pathValue is what a path may name. Everything else names nothing.
var pathValue = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$`)

// address is the sender's, without the port.
func address(r *http.Request) string {
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return at.Addr().Unmap().String()
	}
	return "local"
}

// utc returns a time as it is answered. Zero stays zero, and is left out.
func utc(at time.Time) time.Time { return at.UTC() }
