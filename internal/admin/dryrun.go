package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/session"
)

// maxListed bounds the lists of sessions and of certificates in an answer to POST /dry-run. The counts are of all.
const maxListed = 100

func (s *Server) dryRun(w http.ResponseWriter, r *http.Request) {
	content, ok := s.body(w, r)
	if !ok {
		return
	}
	code, out := s.try(r.Context(), policy.Draft{Name: cmp.Or(r.URL.Query().Get("name"), "policy.yaml"), Text: content})
	if code == http.StatusTooManyRequests {
		text(w, code, "another dry run is in progress; try again")
		return
	}
	answerWith(w, code, out)
}

// try finds out what a draft would change, or what is wrong with it; one draft at a time. It writes no answer: a client that reads
// none keeps nobody from the next.
func (s *Server) try(ctx context.Context, draft policy.Draft) (code int, out any) {
	if !s.trying.TryLock() {
		return http.StatusTooManyRequests, nil
	}
	defer s.trying.Unlock()
	next, err := s.Try(ctx, draft)
	if err != nil {
		return http.StatusUnprocessableEntity, newRefusedDraft(err)
	}
	current := s.Policy.Current()
	effect := adminapi.DryRun{
		OK:         true,
		Generation: next.Generation,
		Digest:     next.Digest,
		Unchanged:  current != nil && current.Digest == next.Digest,
		Changes:    showChanges(policy.Diff(current, next)),
		OnRemoval:  string(next.OnRemoval),
		LeftOut:    leftOut(next),
	}
	count(&effect, s.Sessions.Table().DryRun(next, time.Now()))
	return http.StatusOK, effect
}

func newRefusedDraft(err error) adminapi.RefusedDraft {
	out := adminapi.RefusedDraft{Problems: []adminapi.Problem{}}
	for _, p := range policy.ProblemsIn(err) {
		out.Problems = append(out.Problems, adminapi.Problem{Line: p.Line, Field: p.Field, Text: p.Error()})
	}
	if len(out.Problems) == 0 {
		out.Problems = append(out.Problems, adminapi.Problem{Text: err.Error()})
	}
	return out
}

// count sorts the sessions that would be ended.
func count(d *adminapi.DryRun, effect session.Effect) {
	d.Kept, d.Ended = effect.Kept, len(effect.Ended)
	d.ByReason, d.ByRule = make(map[string]int), make(map[string]int)
	d.ByCertificate, d.Sessions = []adminapi.CertificateCount{}, []adminapi.Ending{}
	certificates := make(map[string]*adminapi.CertificateCount)
	for _, e := range effect.Ended {
		d.ByReason[e.Why.Reason.String()]++
		if e.Grant.Rule != nil {
			d.ByRule[e.Grant.Rule.ID]++
		}
		if id := e.Grant.Identity; id != nil {
			count := certificates[id.Serial]
			if count == nil {
				count = &adminapi.CertificateCount{Serial: id.Serial, Subject: id.Subject}
				certificates[id.Serial] = count
			}
			count.Sessions++
		}
		if len(d.Sessions) < maxListed {
			d.Sessions = append(d.Sessions, adminapi.Ending{Session: show(e.Session), Reason: e.Why.Reason.String(), Detail: e.Why.Response("").Detail})
		}
	}
	for _, count := range certificates {
		d.ByCertificate = append(d.ByCertificate, *count)
	}
	slices.SortFunc(d.ByCertificate, func(a, b adminapi.CertificateCount) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(a.Serial, b.Serial))
	})
	d.ByCertificate = d.ByCertificate[:min(len(d.ByCertificate), maxListed)]
}
