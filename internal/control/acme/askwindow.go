package acme

import (
	"context"
	"time"

	"pgmtls-proxy/internal/control/store"
)

// queryWindow asks when the authority wants a leaf renewed, and keeps the answer if it is another than before. No answer
// is none: the leaf is renewed by its lifetime then.
func (m *Manager) queryWindow(ctx context.Context, j *job, cert *Certificate, now time.Time) (outcome, error) {
	j.askAt = cert.Leaf.nextAsk(cert.ID, now)
	a := m.authority(cert.Leaf.CA)
	if a == nil {
		return goOn, nil
	}
	if _, ok := a.budget.enter(); !ok {
		return goOn, nil
	}
	w, waitTill, err := a.client.window(ctx, cert.Leaf.ARI)
	if err := a.budget.leave(ctx, err); err != nil {
		return outcome{}, err
	}
	if err != nil {
		if ctx.Err() != nil {
			return outcome{}, ctx.Err()
		}
		m.log.Debug().Err(err).Str("certificate", cert.ID).Str("ca", a.Name).Msg("no renewal information")
		return goOn, nil
	}
	every := min(max(waitTill.Sub(now), 0).Round(time.Hour), 24*time.Hour)
	if old := cert.Leaf.Window; old != nil && *old == w && cert.Leaf.AskEvery == every {
		return goOn, nil
	}
	leaf := *cert.Leaf
	if old := leaf.Window; old == nil || !old.Start.Equal(w.Start) || !old.End.Equal(w.End) {
		leaf.SelectedAt = w.draw()
	}
	leaf.Window, leaf.AskEvery = &w, every
	cert.Leaf, cert.UpdatedAt = &leaf, now
	tx := new(store.Tx)
	if err := put(tx, keyCertificates+cert.ID, cert.revision, cert); err != nil {
		return outcome{}, err
	}
	m.log.Info().Str("certificate", cert.ID).Time("renew_at", cert.RenewAt()).Str("why", w.URL).Msg("the certificate authority says when to renew")
	_, err = m.docs.Commit(ctx, tx)
	return goOn, err
}
