package e2e

import (
	"fmt"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/pgtest"
)

func limited(limits map[string]any) options {
	return options{Config: map[string]any{"limits": limits}}
}

func TestIdleAndOldSessionsEndReadably(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		limit, message, detail, reason string
	}{
		"idle": {"idle_timeout", "terminating connection due to idle-session timeout", "A session may be idle for 2s.", "session_idle"},
		"old":  {"session_lifetime", "terminating connection due to session lifetime limit", "A session may last 2s.", "session_lifetime"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := server(t)
			p := start(t, limited(map[string]any{row.limit: "2s"}))
			w := dial(t, p).negotiate(t, clientTLS("app"))
			w.login(t, asPostgres())
			e := w.fatal(t)
			if e.Code != "57P05" || withoutID(e.Message) != row.message || e.Detail != row.detail {
				t.Errorf("the client reads %s %s %s", e.Code, e.Message, e.Detail)
			}
			if logged := p.connection(t, idOf(t, e.Message)); logged.text("outcome") != "served" || logged.text("refusal") != row.reason {
				t.Errorf("the log has %v", logged)
			}
			waitQuery(t, s, "nothing of "+p.port(), 0)
		})
	}
}

// A query and a transaction are longer than either limit, and end well; what comes behind them is the end.
func TestLimitsOfAgeWaitForTheEndOfATransaction(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"idle_timeout", "session_lifetime"} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			p := start(t, limited(map[string]any{limit: "2s"}))
			result := p.run(t, pgtest.Client{}, "", "-c", "begin", "-c", "select pg_sleep(3)", "-c", "select 'in time'", "-c", "commit")
			if !strings.Contains(result.Stdout, "in time\nCOMMIT\n") {
				t.Errorf("psql prints %q %s", result.Stdout, result.Stderr)
			}
		})
	}
}

func TestHandshakesBeyondTheirRateAreTurnedAway(t *testing.T) {
	t.Parallel()
	p := start(t, limited(map[string]any{"handshakes_per_second": 2}))
	p.succeeds(t, "")
	w := dial(t, p)
	w.send(t, sslRequest)
	e := w.fatal(t)
	if e.Code != "53300" || withoutID(e.Message) != "sorry, too many clients already" {
		t.Errorf("the client reads %s %s", e.Code, e.Message)
	}
	eventually.OK(t, patience, func() error { // until there is a token again
		_, err := p.visit(clientTLS("app"))
		return err
	})
}

func TestUnfinishedConnectionsOfOneAddressLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	p := start(t, limited(map[string]any{"unfinished_per_address": 20}))
	for range 20 {
		dialFrom(t, p, "127.0.0.2")
	}
	p.waitMetric(t, "pgmtls_unfinished_connections", 20)
	late := dialFrom(t, p, "127.0.0.2")
	if e := late.fatal(t); e.Code != "53300" {
		t.Errorf("the client reads %s %s", e.Code, e.Message)
	}
	p.succeeds(t, "")
	if n := p.metric(t, `pgmtls_refusals_total{reason="rate_limited"}`); n != 1 {
		t.Error(fmt.Sprint(n, " refused"))
	}
}
