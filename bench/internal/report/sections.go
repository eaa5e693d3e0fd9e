package report

import (
	"slices"

	"pgmtls-proxy/bench/internal/peers"
)

// OwnTLS is the entry of PostgreSQL without a proxy, with its own TLS.
const OwnTLS = "PostgreSQL's own TLS"

// section is one table of the report.
type section struct {
	title, text string
	scenarios   []Scenario
	scenario    string // the heading of the column that tells several scenarios apart
	size        string // the heading of the column with the size; empty: there is one size
	reference   string // what the ratios are to; empty: there are none
	columns     []column
}

// column is one figure of a table.
type column struct {
	metric  Metric
	heading string
	digits  int
	ratio   bool // and its ratio to the reference
}

// perOperation are the columns of closed loops of small operations.
var perOperation = []column{
	{metric: Rate, heading: "per second", ratio: true},
	{metric: P50, heading: "p50 µs"},
	{metric: P99, heading: "p99 µs", ratio: true},
	{metric: CPU, heading: "CPU µs", digits: 1, ratio: true},
}

var perByte = []column{
	{metric: Throughput, heading: "MB/s", ratio: true},
	{metric: BulkCPU, heading: "CPU s/GB", digits: 2, ratio: true},
	{metric: BulkSwitches, heading: "switches/GB"},
}

// sections are the report, in its order.
var sections = []section{
	{
		title: "Transactions of pgbench", text: "`pgbench -S` (libpq) against PostgreSQL. CPU is the proxy's per transaction, the opening of the sessions included.",
		scenarios: []Scenario{PgbenchSimple, PgbenchPrepared}, scenario: "protocol", size: "clients", reference: peers.PgBouncer,
		columns: []column{
			{metric: Rate, heading: "tps", ratio: true},
			{metric: Mean, heading: "mean µs"},
			{metric: CPU, heading: "CPU µs", digits: 1, ratio: true},
		},
	},
	{
		title: "Small queries, the proxy alone", text: "The bench's own client, one query at a time in each session, and a dummy database that answers at once. Switches are context switches of the proxy's threads per query.",
		scenarios: []Scenario{QueriesSimple, QueriesPrepared}, scenario: "protocol", size: "clients", reference: peers.PgBouncer,
		columns: append(slices.Clone(perOperation), column{metric: Switches, heading: "switches", digits: 2}),
	},
	{
		title: "Bulk, the proxy alone", text: "Rows of 256 bytes, a dummy database that streams or sinks them. Down is to the clients, up to the server.",
		scenarios: []Scenario{BulkDown, BulkUp}, scenario: "direction", size: "sessions", reference: peers.Nginx, columns: perByte,
	},
	{
		title: "COPY of PostgreSQL", text: "One session, `COPY TO STDOUT` and `COPY FROM STDIN` of rows of 250 characters, the bench's own client.",
		scenarios: []Scenario{CopyOut, CopyIn}, scenario: "direction", reference: OwnTLS, columns: perByte,
	},
	{
		title: "Openings of sessions", text: "TCP, a full mutual handshake, startup packet, ReadyForQuery, goodbye, again and again. PgBouncer keeps its connections to the database meanwhile; the others open one each time.",
		scenarios: []Scenario{HandshakesECDSA, HandshakesRSA}, scenario: "key", size: "clients", reference: peers.Nginx, columns: perOperation,
	},
	{
		title: "Small queries beside a bulk copy", text: "Small simple queries while one more session of the same proxy receives rows at full speed; dummy database. MB/s is that session's.",
		scenarios: []Scenario{Mixed}, size: "clients", reference: peers.Nginx,
		columns: []column{
			{metric: Rate, heading: "per second", ratio: true},
			{metric: P50, heading: "p50 µs"},
			{metric: P99, heading: "p99 µs", ratio: true},
			{metric: Throughput, heading: "MB/s", ratio: true},
		},
	},
	{
		title: "Memory of idle sessions", text: "The proportional set size (/proc/PID/smaps_rollup) of a fresh process and its children with so many idle sessions, less that of the process before, by session. " +
			"It is read a second after all are open; for the Go programs once more when their runtime has collected by itself, 150 s later. The kernel's memory for sockets is not in it.",
		scenarios: []Scenario{Idle}, size: "sessions", reference: peers.Nginx,
		columns: []column{{metric: PerSession, heading: "KiB", digits: 1, ratio: true}, {metric: Rested, heading: "KiB after GC", digits: 1}},
	},
	{
		title: "Half of the sessions lose their permission", text: "A policy is written that revokes the certificate of half of the idle sessions, while others ask small queries one by one. Ended is the time from the write to the " +
			"last client's end of stream. The queries' slowest are those of a second and a half without and with the removal; clients and proxy share the cores.",
		scenarios: []Scenario{Removal}, size: "sessions",
		columns: []column{{metric: Ended, heading: "ended ms"}, {metric: Worst, heading: "slowest query µs"}, {metric: WorstDuring, heading: "meanwhile µs"}, {metric: Stall, heading: "added µs"}},
	},
}
