package policysync

import (
	"maps"
	"pgmtls-proxy/internal/control/api"
	"time"
)

// How often the use of certificates is reported when nothing else is news. It changes with every session, each report
// of it is a write into the store, and a thousand proxies have sessions all the time.
const (
	useEvery    = time.Minute     // that a certificate came into use or out of it
	useAnyEvery = 5 * time.Minute // how many sessions have it, and when it was last seen
)

// lastReport is what was last reported.
type lastReport struct {
	any          bool // something was
	elsewhere    bool // it was that the proxy reads another directory
	report       api.Report
	certificates map[string]api.Usage // the last that were
}

// say reports what is news.
func (t *syncLoop) say(r api.Report) {
	if t.failure != "" {
		r.Error, r.ErrorKind = t.failure, api.ErrorUndeliverable
	}
	now := time.Now()
	if t.said.any && !t.again && sameButUse(r, t.said.report) && !t.useIsNews(r.Certificates, now) {
		return
	}
	t.said.any, t.said.report, t.said.elsewhere = true, r, r.ErrorKind == api.ErrorUndeliverable && t.failure == ""
	if r.Certificates != nil {
		t.said.certificates, t.usedAt = r.Certificates, now
	}
	t.mail.put(r)
}

// keepRefusal gives a report the refusal that was reported last, if there is one, or that the proxy reads another directory:
// whether that is so of what lies in the directory now is not known yet.
func (l *lastReport) keepRefusal(r *api.Report) {
	r.Error, r.ErrorKind = "", ""
	if l.report.ErrorKind == api.ErrorRefused || l.elsewhere {
		r.Error, r.ErrorKind = l.report.Error, l.report.ErrorKind
	}
}

// sameButUse reports whether two reports differ in nothing but the use of certificates.
func sameButUse(a, b api.Report) bool {
	return a.Applied == b.Applied && a.AppliedAt.Equal(b.AppliedAt) && a.InForce == b.InForce && a.InForceAt.Equal(b.InForceAt) &&
		maps.Equal(a.Ended, b.Ended) && a.Kept == b.Kept && a.Error == b.Error && a.ErrorKind == b.ErrorKind && a.OnDisk == b.OnDisk && a.Drift == b.Drift &&
		a.ProxyVersion == b.ProxyVersion && sameClock(a, b)
}

// clockMoved is by how much a proxy's clock has to be set until it is news.
const clockMoved = 30 * time.Second

// sameClock reports whether the proxy's clock has gone on since b as time has, or is not known now.
func sameClock(a, b api.Report) bool {
	if a.Time.IsZero() || b.Time.IsZero() {
		return a.Time.IsZero()
	}
	return (a.Time.Sub(b.Time) - a.ReadAt.Sub(b.ReadAt)).Abs() <= clockMoved
}

// useIsNews reports whether it is time to report who uses what.
func (t *syncLoop) useIsNews(now map[string]api.Usage, at time.Time) bool {
	passed := at.Sub(t.usedAt)
	if now == nil || passed < useEvery {
		return false
	}
	old := t.said.certificates
	if passed >= useAnyEvery {
		return !maps.EqualFunc(now, old, func(a, b api.Usage) bool {
			return a.Sessions == b.Sessions && a.LastSeen.Equal(b.LastSeen)
		})
	}
	return !maps.EqualFunc(now, old, func(a, b api.Usage) bool { return (a.Sessions > 0) == (b.Sessions > 0) })
}
