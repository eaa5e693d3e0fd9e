package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"pgmtls-proxy/bench/internal/dummy"
	"pgmtls-proxy/bench/internal/load"
	"pgmtls-proxy/bench/internal/report"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// measureWithPostgres measures pgbench and COPY, through every proxy and with PostgreSQL's own TLS.
func measureWithPostgres(ctx context.Context, b *bench) (err error) {
	if !b.wanted(report.PgbenchSimple, report.PgbenchPrepared, report.CopyOut, report.CopyIn) {
		return nil
	}
	server, err := b.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	// The proxies look for the socket by the name that it has without a TCP port.
	socket := filepath.Join(server.SocketDir, dummy.SocketName)
	if socket != server.SocketPath {
		if err := os.Symlink(server.SocketPath, socket); err != nil {
			return err
		}
	}
	proxies, err := b.startAll(ctx, scene{backend: server.SocketDir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll(proxies)) }()
	direct := &proxy{name: report.OwnTLS, target: b.through(server.Port)}
	agreed, err := direct.target.Try(ctx)
	if err != nil {
		return err
	}
	proxies = append(proxies, direct)
	b.found.Programs = append(b.found.Programs, report.Program{Name: report.OwnTLS, Version: b.found.Machine.PostgreSQL, TLS: agreed})
	var works []work
	for _, clients := range b.clients() {
		works = append(works,
			work{report.PgbenchSimple, clients, b.pgbench(load.Simple, clients)},
			work{report.PgbenchPrepared, clients, b.pgbench(load.Prepared, clients)})
	}
	// More rows than a window has time for.
	works = append(works, work{report.CopyOut, 1, b.down(strings.Repeat(dummy.Down+";", 200), 1)}, work{report.CopyIn, 1, b.copyIn(server)})
	return b.all(ctx, proxies, works)
}

// startPostgres runs a server with the tables of pgbench and of the copies.
func (b *bench) startPostgres(ctx context.Context) (*pgtest.Server, error) {
	server, err := pgtest.Launch(pgtest.Options{
		TCP: true, Cert: b.ecdsa.CertPEM, Key: b.ecdsa.KeyPEM, CA: b.ca.PEM(),
		HBA: "local all all trust\nhostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n",
		Settings: map[string]string{
			"ssl_min_protocol_version":  "TLSv1.3",
			"ssl_prefer_server_ciphers": "off", // then it is the one that all others have, too
			"shared_buffers":            "256MB",
			"autovacuum":                "off", // it would come and go between two rounds
		},
	})
	if err != nil {
		return nil, err
	}
	_, err = b.program(ctx, pgtest.Client{Program: "pgbench"}, "-i", "-q", "-s", "1", server.DSN())
	if err == nil {
		err = b.statements(ctx, server,
			"create table bulk as select repeat('x', 250) from generate_series(1, 200000)",
			"create unlogged table sink (line text)",
			"vacuum analyze")
	}
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return server, nil
}

// statements runs SQL past the proxies.
func (b *bench) statements(ctx context.Context, server *pgtest.Server, statements ...string) error {
	for _, statement := range statements {
		if _, err := b.program(ctx, pgtest.Client{}, server.DSN(), "-c", statement); err != nil {
			return err
		}
	}
	return nil
}

// program runs psql or pgbench and gives what it printed.
func (b *bench) program(ctx context.Context, client pgtest.Client, args ...string) (string, error) {
	result, err := client.Run(ctx, args...)
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", result.ExitCode, result.Stderr)
	}
	return result.Stdout, err
}

// copyIn sends rows, and empties the table behind them.
func (b *bench) copyIn(server *pgtest.Server) func(context.Context, *proxy) (report.Values, error) {
	return func(ctx context.Context, p *proxy) (report.Values, error) {
		values, err := b.up(1)(ctx, p)
		return values, errors.Join(err, b.statements(ctx, server, "truncate sink"))
	}
}

// pgbench runs pgbench -S. A window is at least its shortest time, a second.
func (b *bench) pgbench(mode load.Mode, clients int) func(context.Context, *proxy) (report.Values, error) {
	seconds := max(1, int(b.window.Round(time.Second).Seconds()))
	return func(ctx context.Context, p *proxy) (report.Values, error) {
		if p.target.Direct && b.libpq == "" {
			return nil, errors.New("it needs a client that begins with TLS, and there is no libpq of version 17 or later")
		}
		before, err := p.usage()
		if err != nil {
			return nil, err
		}
		printed, err := b.program(ctx, pgtest.Client{Program: "pgbench", LibDir: b.libpq, Env: b.libpqSettings(p)},
			"-n", "-S", "-M", string(mode), "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), "-T", strconv.Itoa(seconds))
		if err != nil {
			return nil, err
		}
		after, err := p.usage()
		if err != nil {
			return nil, err
		}
		values, transactions, err := readPgbench(printed)
		if err == nil && p.process != nil {
			values[report.CPU] = microseconds(after.Sub(before).CPU) / transactions
		}
		return values, err
	}
}

// libpqSettings are the environment of a client program that goes through the proxy.
func (b *bench) libpqSettings(p *proxy) []string {
	_, port, _ := strings.Cut(p.target.Address, ":")
	env := []string{
		"PGHOST=localhost", "PGHOSTADDR=127.0.0.1", "PGPORT=" + port,
		"PGUSER=" + p.target.User, "PGDATABASE=" + p.target.Database,
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + filepath.Join(b.dir, "ca.pem"),
		"PGSSLCERT=" + filepath.Join(b.dir, "client.crt"), "PGSSLKEY=" + filepath.Join(b.dir, "client.key"),
		"PGGSSENCMODE=disable", "OPENSSL_CONF=" + filepath.Join(b.dir, "openssl.cnf"),
	}
	if p.target.Direct {
		env = append(env, "PGSSLNEGOTIATION=direct")
	}
	return env
}

// pgbenchLine matches what pgbench prints about a run.
var pgbenchLine = regexp.MustCompile(`(?m)^(number of transactions actually processed: |latency average = |tps = )([0-9.]+)`)

// readPgbench reads what pgbench has printed.
func readPgbench(printed string) (values report.Values, transactions float64, err error) {
	found := map[string]float64{}
	for _, match := range pgbenchLine.FindAllStringSubmatch(printed, -1) {
		number, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			return nil, 0, fmt.Errorf("read what pgbench prints: %w", err)
		}
		found[match[1][:3]] = number
	}
	if transactions = found["num"]; transactions == 0 {
		return nil, 0, fmt.Errorf("pgbench has made no transactions: %s", printed)
	}
	return report.Values{report.Rate: found["tps"], report.Mean: found["lat"] * 1e3}, transactions, nil
}
