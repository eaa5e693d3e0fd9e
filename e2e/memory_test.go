package e2e

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/pgtest"
)

// Clients that ask for a gigabyte each and then read nothing: what they don't take stays in the sockets and in PostgreSQL,
// and the proxy keeps to its buffers (threat 26).
func TestStalledReadersTakeNoMemory(t *testing.T) {
	t.Parallel()
	const readers, bound = 100, 32 << 20
	s := pgtest.Start(t, pgtest.Options{})
	p := prepared(t, t.TempDir(), options{Backend: "unix:" + s.SocketPath, ExitCode: 3, Config: drained(map[string]any{"grace": "0s"})})
	p.execute(t, exec.Command(shipped(t), "--config", p.configFile()))
	p.learnAddresses(t)
	eventually.OK(t, patience, p.ready)
	p.comesIn(t, "app")
	before := p.resident(t, "VmRSS")

	var clients []*wire
	for range readers {
		w := dial(t, p).negotiate(t, clientTLS("app"))
		w.SetDeadline(time.Now().Add(5 * patience)) // it waits for all the others
		w.login(t, asPostgres())
		clients = append(clients, w)
	}
	idle := p.resident(t, "VmRSS")
	for _, w := range clients {
		w.send(t, query("select repeat('x', 10000), generate_series(1, 100000)"))
	}
	p.waitStalled(t)
	waitQuery(t, s, "repeat", readers)
	peak, passed := p.resident(t, "VmHWM"), p.metric(t, `pgmtls_bytes_total{direction="to_client"}`)
	t.Logf("before %s, %d idle sessions %s, stalled readers %s at most; %.0f MiB have passed",
		mebibytes(before), readers, mebibytes(idle), mebibytes(peak), passed/(1<<20))
	if peak > before+bound {
		t.Errorf("%d stalled readers took %s", readers, mebibytes(peak-before))
	}
	p.comesIn(t, "app")
}

func mebibytes(n int) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
