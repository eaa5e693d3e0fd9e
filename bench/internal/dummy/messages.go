package dummy

import (
	"bytes"

	"github.com/jackc/pgx/v5/pgproto3"
)

// rowSize is what one row of a bulk transfer has with its header.
const rowSize = 256

// Rows are CopyData messages of 64 KiB together, each a row of one column of text.
var Rows = bytes.Repeat(encode(&pgproto3.CopyData{Data: append(bytes.Repeat([]byte{'x'}, rowSize-6), '\n')}), bulkBuffer/rowSize)

var ready = &pgproto3.ReadyForQuery{TxStatus: 'I'}

// welcome has the parameters that PgBouncer and drivers ask for.
var welcome = encode(
	&pgproto3.AuthenticationOk{},
	&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"},
	&pgproto3.ParameterStatus{Name: "server_encoding", Value: "UTF8"},
	&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
	&pgproto3.ParameterStatus{Name: "DateStyle", Value: "ISO, MDY"},
	&pgproto3.ParameterStatus{Name: "TimeZone", Value: "Etc/UTC"},
	&pgproto3.ParameterStatus{Name: "integer_datetimes", Value: "on"},
	&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
	&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}},
	ready,
)

// What pgbench's "SELECT abalance FROM pgbench_accounts WHERE aid = …" is answered with.
var (
	columns = &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{
		Name: []byte("abalance"), TableOID: 16384, TableAttributeNumber: 3, DataTypeOID: 23, DataTypeSize: 4, TypeModifier: -1,
	}}}
	row      = &pgproto3.DataRow{Values: [][]byte{[]byte("0")}}
	selected = &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	oneRow   = encode(columns, row, selected, ready)
)

// extended answers the messages of the extended protocol. Describe is taken to ask for a portal.
var extended = map[byte][]byte{
	'P': encode(&pgproto3.ParseComplete{}),
	'B': encode(&pgproto3.BindComplete{}),
	'C': encode(&pgproto3.CloseComplete{}),
	'D': encode(columns),
	'E': encode(row, selected),
	'S': encode(ready),
}

var (
	copyOut = encode(&pgproto3.CopyOutResponse{ColumnFormatCodes: []uint16{0}})
	copyIn  = encode(&pgproto3.CopyInResponse{ColumnFormatCodes: []uint16{0}})
	copied  = encode(&pgproto3.CommandComplete{CommandTag: []byte("COPY 1")}, ready)
)

// encode puts messages one behind the other.
func encode(messages ...pgproto3.BackendMessage) []byte {
	var text []byte
	for _, message := range messages {
		var err error
		if text, err = message.Encode(text); err != nil {
			panic(err) // the messages are constants
		}
	}
	return text
}
