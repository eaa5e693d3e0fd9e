package proxyquery

import (
	"context"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

func newQueries(t *testing.T) *Queries {
	t.Helper()
	return New(Options{Docs: docstoretest.Open(t), Log: docstoretest.Log(t)})
}

// left wants nothing to be in the store any more.
func (q *Queries) left(t *testing.T) {
	t.Helper()
	for _, prefix := range []string{keyQuestions, keyAnswers} {
		if left, _, err := q.docs.List(t.Context(), prefix); err != nil || len(left) != 0 {
			t.Errorf("%d records are left under %s, %v", len(left), prefix, err)
		}
	}
}

func TestQuestionIsAnsweredByWhoeverDelivers(t *testing.T) {
	q := newQueries(t)
	policy := api.Policy{Database: "db-1", Generation: 7, Files: map[string][]byte{"server.key": []byte("secret")}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for asked, err := range q.Questions(ctx) {
			if err != nil || asked.Database != "db-1" || asked.Proxy != "edge" || asked.Policy.Generation != 7 || string(asked.Policy.Files["server.key"]) != "secret" {
				t.Errorf("asked %+v, %v", asked, err)
			}
			if err := q.Reply(ctx, asked.ID, Answer{Effect: api.Effect{OK: true, Ended: 3}}); err != nil {
				t.Error(err)
			}
		}
	}()
	var answer Answer
	for answer.Effect.Ended == 0 { // a question that was asked before somebody listened has no answer
		var err error
		short, stop := context.WithTimeout(ctx, time.Second)
		answer, err = q.Ask(short, "db-1", "edge", Question{Policy: policy})
		stop()
		if err != nil && !problem.Is(err, problem.Unavailable) {
			t.Fatal(err)
		}
	}
	if !answer.Effect.OK || answer.Effect.Ended != 3 {
		t.Errorf("got %+v", answer)
	}
	cancel()
	<-ended
	q.left(t)
}

func TestQuestionThatNobodyAnswersLeavesNothingBehind(t *testing.T) {
	q := newQueries(t)
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := q.Ask(short, "db-1", "edge", Question{}); !problem.Is(err, problem.Unavailable) {
		t.Errorf("got %v", err)
	}
	q.left(t)
}

func TestAnswerToNobodyIsDropped(t *testing.T) {
	q := newQueries(t)
	if err := q.Reply(t.Context(), "db-1.edge.gone", Answer{}); err != nil {
		t.Error(err)
	}
	q.left(t)
}

// A policy holds private keys, and nothing in the store may show one.
func TestQuestionIsSealedInTheStore(t *testing.T) {
	q := newQueries(t)
	other := New(Options{Docs: docstoretest.Open(t), Log: docstoretest.Log(t)}) // another master key
	tx := new(store.Tx)
	if err := q.docs.PutSealed(tx, keyQuestions+"x", Asked{ID: "x", Proxy: "edge"}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.docs.Commit(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	item, err := q.docs.Get(t.Context(), keyQuestions+"x")
	if err != nil {
		t.Fatal(err)
	}
	var asked Asked
	if err := other.docs.Open(item, &asked); err == nil {
		t.Errorf("it was opened with another key: %+v", asked)
	}
	item.Key = keyQuestions + "y"
	if err := q.docs.Open(item, &asked); err == nil {
		t.Errorf("it was opened under another key of the store: %+v", asked)
	}
	item.Key = keyQuestions + "x"
	if err := q.docs.Open(item, &asked); err != nil || asked.Proxy != "edge" {
		t.Errorf("got %+v, %v", asked, err)
	}
}
