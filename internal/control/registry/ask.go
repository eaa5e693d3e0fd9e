package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/store"
)

// Question is what the daemon asks whoever delivers to a proxy.
type Question struct {
	Policy api.Policy `json:"policy"` // what would it do
}

// Answer is the answer.
type Answer struct {
	Effect api.Effect `json:"effect"`
	Error  string     `json:"error,omitempty"`
}

// Asked is a question on its way.
type Asked struct {
	ID       string    `json:"id"`       // fit for a path of a URL
	Database string    `json:"database"` // id
	Proxy    string    `json:"proxy"`
	At       time.Time `json:"at"`
	Question
}

// questionsOf is the beginning of the ids of all questions for one proxy.
func questionsOf(databaseID, proxy string) string { return fmt.Sprintf("%s.%s.", databaseID, proxy) }

// askTimeout bounds the wait for an answer, and so how long a question stays in the store.
const askTimeout = 5 * time.Second

// Ask asks whoever delivers to a proxy, this daemon or another or an agent at one of them, and waits for the answer.
func (r *Registry) Ask(ctx context.Context, databaseID, proxy string, q Question) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	asked := Asked{Database: databaseID, Proxy: proxy, At: r.now(), Question: q}
	asked.ID = questionsOf(databaseID, proxy) + newID()
	text, err := r.sealDocument(keyQuestions+asked.ID, asked)
	if err != nil {
		return Answer{}, err
	}
	tx := new(store.Tx)
	tx.Put(keyQuestions+asked.ID, text)
	revision, err := r.store.Commit(ctx, tx)
	if err != nil {
		return Answer{}, err
	}
	defer r.forget(asked.ID)
	for events, err := range r.store.Watch(ctx, keyAnswers+asked.ID, revision) {
		if err != nil {
			if ctx.Err() == nil {
				return Answer{}, err
			}
			break
		}
		for _, event := range events {
			if !event.Deleted {
				return decode[Answer](event.Item)
			}
		}
	}
	return Answer{}, newError(Unavailable, "proxy %s did not answer within %s; is it running, and its agent connected?", proxy, askTimeout)
}

// forget removes a question and its answer.
func (r *Registry) forget(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	tx := new(store.Tx)
	tx.Delete(keyQuestions + id)
	tx.Delete(keyAnswers + id)
	if _, err := r.store.Commit(ctx, tx); err != nil {
		r.log.Warn().Err(err).Str("question", id).Msg("a question stays in the store")
	}
}

// Questions gives the questions for all proxies as they come, until ctx ends or the caller stops.
func (r *Registry) Questions(ctx context.Context) iter.Seq2[Asked, error] {
	return r.questions(ctx, keyQuestions)
}

// QuestionsOf gives those for one proxy.
func (r *Registry) QuestionsOf(ctx context.Context, databaseID, proxy string) iter.Seq2[Asked, error] {
	return r.questions(ctx, keyQuestions+questionsOf(databaseID, proxy))
}

func (r *Registry) questions(ctx context.Context, prefix string) iter.Seq2[Asked, error] {
	return func(yield func(Asked, error) bool) {
		revision, err := r.revision(ctx)
		if err != nil {
			yield(Asked{}, err)
			return
		}
		for events, err := range r.store.Watch(ctx, prefix, revision) {
			if err != nil {
				if ctx.Err() == nil {
					yield(Asked{}, err)
				}
				return
			}
			for _, event := range events {
				if event.Deleted {
					continue
				}
				var asked Asked
				err := r.openDocument(event.Item, &asked)
				if !yield(asked, err) {
					return
				}
			}
		}
	}
}

// Reply answers a question. Nobody may be waiting any more; then nothing happens.
func (r *Registry) Reply(ctx context.Context, id string, a Answer) error {
	item, err := r.store.Get(ctx, keyQuestions+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	tx := new(store.Tx)
	tx.If(item.Key, item.Revision)
	if err := putDocument(tx, keyAnswers+id, a); err != nil {
		return err
	}
	if _, err := r.store.Commit(ctx, tx); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}
