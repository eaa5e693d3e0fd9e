package refusal

import (
	"fmt"

	"pgmtls-proxy/internal/safetext"
)

// maxText bounds a text that is shown to a client or logged, in bytes before escaping.
const maxText = 1024

// Refusal is one no to one client: a [Reason] and the facts of the case. It is an error, whose text is for
// the log; what the client reads is [Refusal.Response].
//
// Message, Detail and Hint may hold text that a client chose. They are cleaned when they are shown.
type Refusal struct {
	Reason  Reason
	Message string // in place of the reason's own; without the connection id
	Detail  string // what was seen: the certificate's subject, the reason behind the reason
	Hint    string // in place of the reason's own
	Cause   error  // for the log only: it may name paths and backends
}

// New refuses for the reason with a detail for the client, formatted as by [fmt.Sprintf].
func New(reason Reason, detail string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(detail, args...)}
}

// Because refuses for the reason with a cause that only the log sees.
func Because(reason Reason, cause error) *Refusal {
	return &Refusal{Reason: reason, Cause: cause}
}

// Error is the text for the log: the name, then the detail or the cause.
func (r *Refusal) Error() string {
	text := r.Reason.String()
	if r.Detail != "" {
		text += ": " + safetext.Escape(r.Detail, maxText)
	}
	if r.Cause != nil {
		text += ": " + r.Cause.Error()
	}
	return text
}

// Unwrap returns the cause to [errors.Is] and [errors.As].
func (r *Refusal) Unwrap() error { return r.Cause }

// Response is what a client is told: the fields of a PostgreSQL ErrorResponse of severity FATAL.
type Response struct {
	SQLState, Message, Detail, Hint string
}

// Response returns the client's view. The connection id stands in the message itself, since several drivers
// show nothing else (pgx, node-pg), and is the same as in the log event of the connection.
func (r *Refusal) Response(connection string) Response {
	known := table[0]
	if r.Reason < reasons {
		known = table[r.Reason]
	}
	message, hint := known.message, known.hint
	if r.Message != "" {
		message = safetext.Escape(r.Message, maxText)
	}
	if r.Hint != "" {
		hint = safetext.Escape(r.Hint, maxText)
	}
	if connection != "" {
		message += " (connection " + connection + ")"
	}
	return Response{known.sqlState, message, safetext.Escape(r.Detail, maxText), hint}
}
