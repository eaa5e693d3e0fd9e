package backend

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgproto3"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/safetext"
)

// ErrNoTLS is a server that answers SSLRequest with N. Nothing is sent to it in plaintext instead.
var ErrNoTLS = errors.New("the server does not offer TLS; set ssl = on there, or tls: off here if the network to it is trusted")

// maxServerText bounds what is read of the error that a server sends in place of an answer.
const maxServerText = 4096

// sslRequest is the packet (PostgreSQL documentation, "Message Formats").
var sslRequest = binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, pgwire.SSLRequestCode)

// secure negotiates TLS on a fresh connection, which stays the caller's to close on an error.
func (t *Target) secure(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	release := watch(ctx, conn)
	defer func() { _ = release() }() // by then the outcome is known
	answer, err := requestTLS(conn)
	if err != nil {
		return nil, failed(ctx, "SSLRequest", err)
	}
	if answer == 'N' {
		return nil, ErrNoTLS
	}
	secured := tls.Client(conn, t.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, failed(ctx, "TLS handshake", explainHandshake(err))
	}
	if err := release(); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secured, nil
}

// requestTLS sends SSLRequest and reads the answer, S or N.
//
// It reads exactly one byte. What a man in the middle puts behind it is then the first input of the TLS handshake,
// where it fails, and never taken for the server's speech inside TLS (CVE-2021-23222). No buffer may stand between.
func requestTLS(conn net.Conn) (byte, error) {
	if _, err := conn.Write(sslRequest); err != nil {
		return 0, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return 0, fmt.Errorf("the server closed the connection without an answer; check that it is PostgreSQL: %w", err)
		}
		return 0, err
	}
	switch answer[0] {
	case 'S', 'N':
		return answer[0], nil
	case 'E':
		return 0, fmt.Errorf("the server reports: %s", safetext.Escape(readServerError(conn), 300))
	default:
		return 0, fmt.Errorf("the server answered %q, which PostgreSQL does not; check the address", answer[0])
	}
}

// readServerError reads the rest of an error that a server sends before TLS, which it does when it can't even start a
// process (report_fork_failure_to_client in postmaster.c: a text up to a zero byte), and servers before 7.4 or
// poolers do as well, the latter with the fields of today's ErrorResponse. Anybody on the way could have written it:
// it is for the log (libpq shows it no more, CVE-2024-10977).
func readServerError(conn net.Conn) string {
	body := make([]byte, 0, 256)
	for len(body) < maxServerText && !complete(body) {
		var chunk [256]byte
		n, err := conn.Read(chunk[:])
		body = append(body, chunk[:n]...)
		if err != nil {
			break
		}
	}
	if length, ok := fieldsLength(body); ok && len(body) >= length {
		var message pgproto3.ErrorResponse
		if err := message.Decode(body[4:length]); err == nil {
			return strings.TrimSpace(message.Severity + ": " + message.Message + " (SQLSTATE " + message.Code + ")")
		}
	}
	text, _, _ := strings.Cut(string(body), "\x00")
	if text = strings.TrimSpace(text); text == "" {
		return "an error that can't be read"
	}
	return text
}

// complete reports whether body holds the whole of an error in one of its two forms.
func complete(body []byte) bool {
	if len(body) < 4 {
		return false
	}
	if length, ok := fieldsLength(body); ok {
		return len(body) >= length
	}
	return strings.IndexByte(string(body), 0) >= 0
}

// fieldsLength is the length word of an ErrorResponse with fields. Text can't begin so: its first byte is not zero.
func fieldsLength(body []byte) (int, bool) {
	if len(body) < 4 || body[0] != 0 {
		return 0, false
	}
	length := int(binary.BigEndian.Uint32(body))
	return length, length > 4 && length <= maxServerText
}

// explainHandshake returns an explanation of the two errors that don't explain themselves.
func explainHandshake(err error) error {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("the server, or an attacker on the way, sent plaintext where TLS begins: %w", err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the server closed the connection; its log says why: %w", err)
	}
	return err
}
