package metrics

import (
	"time"

	"pgmtls-proxy/internal/refusal"
)

// ConnectionOpened counts a connection that is accepted.
func (m *Metrics) ConnectionOpened() {
	m.connections.Inc()
	m.openConnections.Add(1)
}

// ConnectionClosed is the end of a connection that ConnectionOpened has counted, whatever became of it.
func (m *Metrics) ConnectionClosed() { m.openConnections.Add(-1) }

// Probed counts a connection that ended before its first byte.
func (m *Metrics) Probed() { m.probes.Inc() }

// Refused counts a refusal, or a session that the proxy ended. A reason that is none counts as internal_error.
func (m *Metrics) Refused(reason refusal.Reason) {
	if reason == 0 || int(reason) >= len(m.refusals) {
		reason = refusal.InternalError
	}
	m.refusals[reason].Inc()
}

// Handshaken counts a TLS handshake with a client that took this long and ended with err.
func (m *Metrics) Handshaken(took time.Duration, err error) {
	result := 0
	if err == nil {
		result = 1
	}
	m.handshakes[result].Observe(took.Seconds())
}

// Dialed counts a dial of PostgreSQL that took this long and ended with err.
func (m *Metrics) Dialed(took time.Duration, err error) {
	if err != nil {
		m.dialErrors.Inc()
		return
	}
	m.dials.Observe(took.Seconds())
}

// SessionEnded counts a session that was relayed and is over, and how long it was since its accept.
func (m *Metrics) SessionEnded(lasted time.Duration) { m.sessionSeconds.Observe(lasted.Seconds()) }

// PolicyInForce counts a policy that is in force for every session, and how long that took.
func (m *Metrics) PolicyInForce(took time.Duration) { m.policyInForce.Observe(took.Seconds()) }

// CancelForwarded counts a cancel request that PostgreSQL has got.
func (m *Metrics) CancelForwarded() { m.cancelsForwarded.Inc() }

// CancelDenied counts a cancel request that was not let through.
func (m *Metrics) CancelDenied() { m.cancelsDenied.Inc() }

// CancelFailed counts a cancel request that was let through and did not reach PostgreSQL.
func (m *Metrics) CancelFailed() { m.cancelsFailed.Inc() }

// AcceptFailed counts a failed accept.
func (m *Metrics) AcceptFailed() { m.acceptErrors.Inc() }

// Panicked counts a connection whose code broke.
func (m *Metrics) Panicked() { m.panics.Inc() }

// DrainBegan says that the process is shutting down.
func (m *Metrics) DrainBegan() { m.draining.Set(1) }

// ReloadResult is how a look at the policy directory ended.
type ReloadResult string

// The results.
const (
	ReloadApplied   ReloadResult = "applied"   // a new policy is in force
	ReloadUnchanged ReloadResult = "unchanged" // what is on disk is in force already
	ReloadRefused   ReloadResult = "refused"   // what is on disk is wrong; the last good policy stays
)

// PolicyReloaded counts a look at the policy directory. A new policy is told to PolicyApplied as well.
func (m *Metrics) PolicyReloaded(result ReloadResult) {
	m.reloads[result].Inc()
	if result == ReloadRefused {
		m.reloadSuccess.Set(0)
	} else {
		m.reloadSuccess.Set(1)
	}
}
