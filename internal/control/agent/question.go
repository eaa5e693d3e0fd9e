package agent

import (
	"context"
	"errors"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/safetext"
)

const (
	maxAnswers   = 16               // questions that are answered at the same time; the control plane has no more wait
	answerWithin = 15 * time.Second // whoever asks waits no longer
)

// startAnswer begins to answer a question. One too many is not answered: it is asked again, or nobody waits.
func (a *agent) startAnswer(ctx context.Context, q api.Question) {
	select {
	case a.asking <- struct{}{}:
	default:
		a.log.Warn().Msg("too many queries at once; dropped one")
		return
	}
	a.answers.Go(func() {
		defer func() { <-a.asking }()
		ctx, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		answer := a.route.Answer(ctx, q)
		answer.Error = safetext.Cut(answer.Error, maxSaid)
		if answer.Report != nil {
			report := bounded(*answer.Report)
			answer.Report = &report
		}
		a.answer(ctx, q.ID, answer)
	})
}

func (a *agent) answer(ctx context.Context, question string, answer api.Answer) {
	a.mu.Lock()
	client := a.client
	a.mu.Unlock()
	err := client.Answer(ctx, question, answer)
	if refused, ok := errors.AsType[*api.Error](err); ok && refused.ID == api.NotFound {
		return // nobody waits any more
	}
	if err != nil && ctx.Err() == nil {
		a.log.Warn().Err(err).Msg("can't deliver the answer to a query")
	}
}
