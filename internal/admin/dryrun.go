package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/session"
)

// maxListed bounds the lists of sessions and of certificates in an answer to POST /dry-run. The counts are of all.
const maxListed = 100

// dryRun is the answer to POST /dry-run with a policy that would come into force.
type dryRun struct {
	OK         bool    `json:"ok"` // true
	Generation string  `json:"generation"`
	Digest     string  `json:"digest"`    // that /status would show
	Unchanged  bool    `json:"unchanged"` // it is what is in force, byte for byte
	Changes    changes `json:"changes"`
	OnRemoval  string  `json:"on_removal"` // keep: no session would be ended

	LeftOut []string `json:"certificates_left_out,omitempty"` // that would not be served, with the reason

	Kept          int                `json:"sessions_kept"`
	Ended         int                `json:"sessions_ended"`
	ByReason      map[string]int     `json:"ended_by_reason"`
	ByRule        map[string]int     `json:"ended_by_rule"`        // id of the rule that they were let in by
	ByCertificate []certificateCount `json:"ended_by_certificate"` // most sessions first
	Sessions      []ending           `json:"sessions"`             // that would be ended, the oldest first
}

// refusedDraft is the answer about a policy that would be refused.
type refusedDraft struct {
	OK       bool      `json:"ok"` // false
	Problems []problem `json:"problems"`
}

// problem is why a policy would be refused.
type problem struct {
	Line  int    `json:"line,omitempty"`
	Field string `json:"field,omitempty"`
	Text  string `json:"text"` // file and line, what is wrong and what to do
}

type certificateCount struct {
	Serial   string `json:"serial"`
	Subject  string `json:"subject"`
	Sessions int    `json:"sessions"`
}

type ending struct {
	liveSession
	Reason string `json:"refusal"` // what it would be refused for
	Detail string `json:"detail,omitempty"`
}

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
	effect := dryRun{
		OK:         true,
		Generation: next.Generation,
		Digest:     next.Digest,
		Unchanged:  current != nil && current.Digest == next.Digest,
		Changes:    showChanges(policy.Diff(current, next)),
		OnRemoval:  string(next.OnRemoval),
		LeftOut:    leftOut(next),
	}
	effect.count(s.Sessions.Table().DryRun(next, time.Now()))
	return http.StatusOK, effect
}

func newRefusedDraft(err error) refusedDraft {
	out := refusedDraft{Problems: []problem{}}
	for _, p := range policy.ProblemsIn(err) {
		out.Problems = append(out.Problems, problem{p.Line, p.Field, p.Error()})
	}
	if len(out.Problems) == 0 {
		out.Problems = append(out.Problems, problem{Text: err.Error()})
	}
	return out
}

// count sorts the sessions that would be ended.
func (d *dryRun) count(effect session.Effect) {
	d.Kept, d.Ended = effect.Kept, len(effect.Ended)
	d.ByReason, d.ByRule = make(map[string]int), make(map[string]int)
	d.ByCertificate, d.Sessions = []certificateCount{}, []ending{}
	certificates := make(map[string]*certificateCount)
	for _, e := range effect.Ended {
		d.ByReason[e.Why.Reason.String()]++
		if e.Grant.Rule != nil {
			d.ByRule[e.Grant.Rule.ID]++
		}
		if id := e.Grant.Identity; id != nil {
			count := certificates[id.Serial]
			if count == nil {
				count = &certificateCount{Serial: id.Serial, Subject: id.Subject}
				certificates[id.Serial] = count
			}
			count.Sessions++
		}
		if len(d.Sessions) < maxListed {
			d.Sessions = append(d.Sessions, ending{show(e.Session), e.Why.Reason.String(), e.Why.Response("").Detail})
		}
	}
	for _, count := range certificates {
		d.ByCertificate = append(d.ByCertificate, *count)
	}
	slices.SortFunc(d.ByCertificate, func(a, b certificateCount) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(a.Serial, b.Serial))
	})
	d.ByCertificate = d.ByCertificate[:min(len(d.ByCertificate), maxListed)]
}
