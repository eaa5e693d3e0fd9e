// Package proxyquery asks proxies what a policy would do, and who uses which certificate now, wherever they are. A question lies in the store, sealed, for
// whoever delivers to the proxy: this daemon, another one, or an agent at one of them. The answer comes back the same
// way, and both are gone within seconds.
//
// It does not know how a proxy is reached: dispatch and apiserver take the questions.
package proxyquery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// Question is what is asked about a proxy.
type Question struct {
	Kind   string     `json:"kind,omitempty"`  // of package api, such as [api.AskReport]
	Policy api.Policy `json:"policy,omitzero"` // of a dry run: what would it do
}

// Answer is the answer.
type Answer struct {
	Kind   string      `json:"kind,omitempty"`   // the question's; a daemon or an agent that does not know of kinds leaves it out
	Effect api.Effect  `json:"effect"`           // of a dry run
	Report *api.Report `json:"report,omitempty"` // of [api.AskReport]
	Error  string      `json:"error,omitempty"`  // why there is none
}

// Asked is a question on its way.
type Asked struct {
	ID       string    `json:"id"`       // fit for a path of a URL
	Database string    `json:"database"` // id
	Proxy    string    `json:"proxy"`
	At       time.Time `json:"at"`
	Question
}

// Keys of the store.
const (
	keyQuestions = "questions/" // <id>: Asked, sealed
	keyAnswers   = "answers/"   // <id>: Answer
)

// Options make [Queries].
type Options struct {
	Docs *docstore.Docs
	Now  func() time.Time // nil: the clock
	Log  zerolog.Logger
}

// Queries are the questions in the store. Its methods may be called from any goroutine.
type Queries struct {
	docs *docstore.Docs
	now  func() time.Time
	log  zerolog.Logger
}

// New returns the questions of a store.
func New(o Options) *Queries {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Queries{docs: o.Docs, now: o.Now, log: o.Log}
}

// askTimeout bounds the wait for an answer, and so how long can't delete a query from the store.
const askTimeout = 5 * time.Second

// Ask asks about a proxy and waits for the answer, for five seconds at most. Without one the error is a
// [problem.Unavailable].
func (q *Queries) Ask(ctx context.Context, databaseID, proxy string, question Question) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	asked := Asked{Database: databaseID, Proxy: proxy, At: q.now().UTC(), Question: question}
	asked.ID = fmt.Sprintf("%s.%s.%s", databaseID, proxy, uuid.NewString())
	tx := new(store.Tx)
	if err := q.docs.PutSealed(tx, keyQuestions+asked.ID, asked); err != nil {
		return Answer{}, err
	}
	revision, err := q.docs.Commit(ctx, tx)
	if err != nil {
		return Answer{}, err
	}
	defer q.forget(asked.ID)
	for events, err := range q.docs.Watch(ctx, keyAnswers+asked.ID, revision) {
		if err != nil {
			if ctx.Err() == nil {
				return Answer{}, err
			}
			break
		}
		for _, event := range events {
			if !event.Deleted {
				return docstore.Decode[Answer](event.Item)
			}
		}
	}
	return Answer{}, problem.New(problem.Unavailable, "proxy %s did not answer within %s; is it running, and its agent connected?", proxy, askTimeout)
}

// forget removes a question and its answer.
func (q *Queries) forget(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	tx := new(store.Tx)
	tx.Delete(keyQuestions + id)
	tx.Delete(keyAnswers + id)
	if _, err := q.docs.Commit(ctx, tx); err != nil {
		q.log.Warn().Err(err).Str("question", id).Msg("can't delete a query from the store")
	}
}

// Questions yields the questions about all proxies as they come, until ctx ends or the caller stops. One that can't be
// read is an error, and the next one follows; an error of the store is the last.
func (q *Queries) Questions(ctx context.Context) iter.Seq2[Asked, error] {
	return func(yield func(Asked, error) bool) {
		revision, err := q.docs.Revision(ctx)
		if err != nil {
			yield(Asked{}, err)
			return
		}
		for events, err := range q.docs.Watch(ctx, keyQuestions, revision) {
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
				err := q.docs.Open(event.Item, &asked)
				if !yield(asked, err) {
					return
				}
			}
		}
	}
}

// Reply answers a question. Nobody may be waiting any more; then nothing happens.
func (q *Queries) Reply(ctx context.Context, id string, a Answer) error {
	item, err := q.docs.Get(ctx, keyQuestions+id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	tx := new(store.Tx)
	tx.If(item.Key, item.Revision)
	if err := docstore.Put(tx, keyAnswers+id, a); err != nil {
		return err
	}
	if _, err := q.docs.Commit(ctx, tx); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}
