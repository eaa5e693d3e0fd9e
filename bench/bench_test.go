package main

import (
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/bench/internal/report"
)

func TestWhatPgbenchPrintsIsRead(t *testing.T) {
	const printed = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: select only>
number of transactions actually processed: 43210
number of failed transactions: 0 (0.000%)
latency average = 0.557 ms
initial connection time = 12.345 ms
tps = 14367.123456 (without initial connection time)
`
	values, transactions, err := readPgbench(printed)
	if err != nil || transactions != 43210 || values[report.Rate] != 14367.123456 || values[report.Mean] != 557 {
		t.Errorf("%v of %v transactions, %v", values, transactions, err)
	}
}

func TestPgbenchWithoutTransactionsIsAnError(t *testing.T) {
	for _, printed := range []string{"", "number of transactions actually processed: 0\ntps = 0.0\n"} {
		if _, _, err := readPgbench(printed); err == nil {
			t.Errorf("%q is no error", printed)
		}
	}
}

func TestAQuickRunIsShorterUnlessTold(t *testing.T) {
	long, err := optionsFrom(nil)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := optionsFrom([]string{"-quick", "-window", "2s"})
	if err != nil {
		t.Fatal(err)
	}
	if quick.rounds >= long.rounds || quick.idle >= long.idle || len(quick.clients()) >= len(long.clients()) || quick.window != 2*time.Second {
		t.Errorf("quick is %+v, long is %+v", quick, long)
	}
	for _, args := range [][]string{{"-only", "("}, {"something"}, {"-rounds", "x"}} {
		if _, err := optionsFrom(args); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

func TestVersionOfPostgreSQLIsFound(t *testing.T) {
	for text, want := range map[string]string{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": "15.18",
		"postgres (PostgreSQL) 18.4\n":                           "18.4",
		"":                                                       "unknown",
	} {
		if got := lastWordBefore(text, "("); got != want {
			t.Errorf("of %q it is %q", strings.TrimSpace(text), got)
		}
	}
}
