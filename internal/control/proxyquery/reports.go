package proxyquery

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
)

// Proxy names a proxy.
type Proxy struct {
	Database string // id
	Name     string
}

// Reported is what a proxy has said when it was asked for its report.
type Reported struct {
	Report api.Report
	Err    error // why there is no report
}

// Bounds of [Queries.Reports].
const (
	maxReports     = 32               // proxies that are asked at the same time; a node answers twice as many
	reportsTimeout = 10 * time.Second // for all of them: two rounds in which nobody answers
)

// Reports asks proxies for their present reports, 32 at a time, for ten seconds at most. Each has an entry in the answer.
func (q *Queries) Reports(ctx context.Context, proxies []Proxy) map[Proxy]Reported {
	ctx, cancel := context.WithTimeout(ctx, reportsTimeout)
	defer cancel()
	said := make([]Reported, len(proxies))
	var asking errgroup.Group
	asking.SetLimit(maxReports)
	for i, proxy := range proxies {
		asking.Go(func() error {
			said[i].Report, said[i].Err = q.report(ctx, proxy)
			return nil
		})
	}
	_ = asking.Wait() // it is always nil
	all := make(map[Proxy]Reported, len(proxies))
	for i, proxy := range proxies {
		all[proxy] = said[i]
	}
	return all
}

// report asks one proxy. An answer of another kind is that of a program which took the question for a dry run.
func (q *Queries) report(ctx context.Context, proxy Proxy) (api.Report, error) {
	if ctx.Err() != nil {
		return api.Report{}, problem.New(problem.Unavailable, "there was no time left to ask it: others did not answer")
	}
	answer, err := q.Ask(ctx, proxy.Database, proxy.Name, Question{Kind: api.AskReport})
	switch {
	case err != nil && ctx.Err() != nil:
		return api.Report{}, problem.New(problem.Unavailable, "it did not answer in the time that was left")
	case err != nil:
		return api.Report{}, err
	case answer.Kind != api.AskReport:
		return api.Report{}, problem.New(problem.Unavailable, "the agent or daemon beside it is too old to be asked; upgrade it")
	case answer.Error != "":
		return api.Report{}, problem.New(problem.Unavailable, "%s", answer.Error)
	case answer.Report == nil:
		return api.Report{}, problem.New(problem.Unavailable, "it answered without a report")
	}
	return *answer.Report, nil
}
