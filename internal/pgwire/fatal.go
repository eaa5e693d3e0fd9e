package pgwire

import (
	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/refusal"
)

// Fatal encodes a response as an ErrorResponse of severity FATAL, the last message of a connection.
func Fatal(r refusal.Response) ([]byte, error) {
	message := pgproto3.ErrorResponse{
		Severity:            "FATAL",
		SeverityUnlocalized: "FATAL",
		Code:                r.SQLState,
		Message:             r.Message,
		Detail:              r.Detail,
		Hint:                r.Hint,
	}
	return message.Encode(nil)
}
