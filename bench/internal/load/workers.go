package load

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Mode is how a query is sent.
type Mode string

// The modes have pgbench's names.
const (
	Simple   Mode = "simple"
	Prepared Mode = "prepared"
)

// query is what pgbench -S asks.
const query = "SELECT abalance FROM pgbench_accounts WHERE aid = "

// Queries is a session that asks for one row again and again.
func (t Target) Queries(mode Mode) Worker {
	return func(ctx context.Context, begin func(), r *Recorder) error {
		conn, err := t.Open(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		request, err := conn.prepare(mode)
		if err != nil {
			return err
		}
		begin()
		for {
			began := time.Now()
			if err := conn.Exchange(request); err != nil {
				return err
			}
			r.Done(began)
		}
	}
}

// prepare gives the bytes of one query.
func (c *Conn) prepare(mode Mode) ([]byte, error) {
	if mode == Simple {
		return encode(&pgproto3.Query{String: query + "4711"})
	}
	parse, err := encode(&pgproto3.Parse{Name: "P0_1", Query: query + "$1"}, &pgproto3.Sync{})
	if err != nil {
		return nil, err
	}
	if err := c.Exchange(parse); err != nil {
		return nil, err
	}
	return encode(
		&pgproto3.Bind{PreparedStatement: "P0_1", Parameters: [][]byte{[]byte("4711")}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
}

func encode(messages ...pgproto3.FrontendMessage) ([]byte, error) {
	var text []byte
	for _, message := range messages {
		var err error
		if text, err = message.Encode(text); err != nil {
			return nil, err
		}
	}
	return text, nil
}

const bulkBuffer = 64 << 10

// Down is a session that takes the rows of a statement (COPY TO STDOUT) as fast as they come.
func (t Target) Down(statement string) Worker {
	return func(ctx context.Context, begin func(), r *Recorder) error {
		conn, err := t.copying(ctx, statement, 'H')
		if err != nil {
			return err
		}
		defer conn.Close()
		begin()
		buffer := make([]byte, bulkBuffer)
		for {
			n, err := conn.in.Read(buffer) // past its own small buffer
			if err != nil {
				return err
			}
			r.Moved(n)
		}
	}
}

// Up is a session that sends rows (whole CopyData messages) to a statement (COPY FROM STDIN) as fast as they are taken. It
// breaks off, so that nothing of it stays in the table.
func (t Target) Up(statement string, rows []byte) Worker {
	return func(ctx context.Context, begin func(), r *Recorder) error {
		conn, err := t.copying(ctx, statement, 'G')
		if err != nil {
			return err
		}
		defer conn.Close()
		begin()
		for {
			n, err := conn.Write(rows)
			if err != nil {
				return err
			}
			r.Moved(n)
		}
	}
}

// copying opens a session, sends the statement and reads the one message that says that rows may flow.
func (t Target) copying(ctx context.Context, statement string, wanted byte) (*Conn, error) {
	conn, err := t.Open(ctx)
	if err != nil {
		return nil, err
	}
	request, err := encode(&pgproto3.Query{String: statement})
	if err == nil {
		_, err = conn.Write(request)
	}
	var kind byte
	if err == nil {
		kind, err = conn.skip()
	}
	if err == nil && kind != wanted {
		err = fmt.Errorf("the answer to %.40q is a message %q, not %q", statement, kind, wanted)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Churn opens a session, says goodbye, and does it again: each a full mutual handshake, since nothing is resumed.
func (t Target) Churn() Worker {
	return func(ctx context.Context, begin func(), r *Recorder) error {
		begin()
		for {
			began := time.Now()
			// A context of its own: one that lives longer would remember every connection until its end.
			sessionCtx, cancel := context.WithCancel(ctx)
			conn, err := t.Open(sessionCtx)
			if err == nil {
				r.Done(began)
				err = conn.Goodbye()
			}
			cancel()
			if err != nil {
				return err
			}
		}
	}
}
