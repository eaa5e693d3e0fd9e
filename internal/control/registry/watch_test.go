package registry

import (
	"context"
	"errors"
	"pgmtls-proxy/internal/control/api"
	"slices"
	"testing"
	"time"
)

func TestFollowersSeeEveryDatabaseAndEveryChange(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	ctx, cancel := context.WithCancel(w.ctx)
	hub := NewHub(w.Registry, w.log)
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the hub ended with %v", err)
		}
	}()
	step := 0
	for change := range hub.FollowAll(ctx) {
		switch step++; step {
		case 1:
			if change.Database.Name != "orders" || change.Database.MTLS.Status != Operational {
				t.Fatalf("got %+v first", change)
			}
			w.rule("orders", "192.0.2.0/24")
		case 2:
			if len(change.Database.Rules) != 1 {
				t.Fatalf("got %+v for a new rule", change)
			}
			w.database("other")
		case 3:
			if change.Database.Name != "other" {
				t.Fatalf("got %+v for a new database", change)
			}
			if err := w.DeleteDatabase(ctx, admin, "other"); err != nil {
				t.Fatal(err)
			}
		case 4:
			if !change.Deleted {
				t.Fatalf("got %+v for a deleted database", change)
			}
			cancel()
		}
	}
	if step != 4 {
		t.Errorf("%d changes were seen", step)
	}
	if len(hub.all)+len(hub.followers) != 0 {
		t.Error("followers are left")
	}
}

// As after a compaction, or when the store was away: the new list says what is gone.
func TestDatabaseThatWasDeletedWhileNobodyWatchedIsGone(t *testing.T) {
	w := newWorld(t)
	gone, stays := w.database("gone"), w.database("stays")
	hub := NewHub(w.Registry, w.log)
	watch := func(until func(Change) bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(w.ctx)
		ended := make(chan error, 1)
		go func() { ended <- hub.Run(ctx) }()
		for change := range hub.FollowAll(ctx) {
			if until(change) {
				break
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the hub ended with %v", err)
		}
	}
	watch(func(change Change) bool { return change.Database.ID == gone.ID })
	w.done(nil, w.DeleteDatabase(w.ctx, admin, "gone"))
	watch(func(change Change) bool { return change.Database.ID == gone.ID && change.Deleted })
	if len(hub.databases) != 1 || hub.databases[stays.ID].Name != "stays" {
		t.Errorf("the hub has %+v", hub.databases)
	}
}

func TestQuestionIsAnsweredByWhoeverDelivers(t *testing.T) {
	w := newWorld(t)
	db := w.operational("orders")
	rule := w.rule("orders", "192.0.2.0/24")
	without, err := w.WithoutRule(w.ctx, "orders", rule.ID)
	w.done(without, err)

	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		close(ready)
		for asked, err := range w.QuestionsOf(ctx, db.ID, "edge") {
			if err != nil || asked.Policy.Generation != without.Generation {
				t.Errorf("asked %+v, %v", asked, err)
			}
			if err := w.Reply(ctx, asked.ID, Answer{Effect: api.Effect{OK: true, Ended: 3}}); err != nil {
				t.Error(err)
			}
		}
	}()
	<-ready
	var answer Answer
	for answer.Effect.Ended == 0 { // a question that was asked before somebody listened has no answer
		short, stop := context.WithTimeout(ctx, time.Second)
		answer, err = w.Ask(short, db.ID, "edge", Question{Policy: without})
		stop()
		if w.ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if !answer.Effect.OK || answer.Effect.Ended != 3 {
		t.Errorf("got %+v", answer)
	}
	cancel()
	<-ended
	short, stop := context.WithTimeout(w.ctx, time.Second)
	defer stop()
	_, err = w.Ask(short, db.ID, "edge", Question{Policy: without})
	refused(t, err, Unavailable, "did not answer")
	for _, prefix := range []string{keyQuestions, keyAnswers} {
		if left, _, err := w.store.List(w.ctx, prefix); err != nil || len(left) != 0 {
			t.Errorf("%d records are left under %s, %v", len(left), prefix, err)
		}
	}
}

func TestEventsGoOnBehindTheLastOneSeen(t *testing.T) {
	w := newWorld(t)
	w.operational("orders")
	records, err := w.Audit(w.ctx, AuditQuery{Limit: 1000})
	w.done(records, err)
	slices.Reverse(records)
	var got []string
	for record, err := range w.Events(w.ctx, records[1].ID) {
		w.done(record, err)
		got = append(got, record.ID)
		if len(got) == len(records)-2 {
			w.rule("orders", "192.0.2.0/24")
		}
		if record.Action == "ip_rule.create" {
			break
		}
	}
	for i, record := range records[2:] {
		if got[i] != record.ID {
			t.Fatalf("event %d is %s, want %s", i, got[i], record.ID)
		}
	}
	for _, err := range w.Events(w.ctx, "x") {
		refused(t, err, InvalidParams, "no id of an event")
	}
}
