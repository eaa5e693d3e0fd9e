package outbox

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/store"
)

// world is an outbox on a real store, with a clock that stands until it is moved.
type world struct {
	*Outbox
	t  *testing.T
	at time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, at: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	now := func() time.Time { return w.at }
	docs := docstoretest.Open(t)
	w.Outbox = New(Options{Docs: docs, Audit: audit.New(docs, now), Now: now, Log: docstoretest.Log(t)})
	return w
}

func (w *world) add(database string) {
	w.t.Helper()
	tx := new(store.Tx)
	err := w.Add(tx, Notice{Kind: CertificateSuccessor, At: w.at, Space: "acme", Database: database, DatabaseID: "id-" + database})
	if err == nil {
		_, err = w.docs.Commit(w.t.Context(), tx)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pending() []Notice {
	w.t.Helper()
	notices, err := w.Pending(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return notices
}

// mark says how telling the one notice that is pending went.
func (w *world) mark(failure error, pointless bool) {
	w.t.Helper()
	notices := w.pending()
	if len(notices) != 1 {
		w.t.Fatalf("%d notices are pending: %+v", len(notices), notices)
	}
	if err := w.MarkSent(w.t.Context(), notices[0], failure, pointless); err != nil {
		w.t.Fatal(err)
	}
}

// last is the newest audit record.
func (w *world) last() audit.Record {
	w.t.Helper()
	records, err := w.trail.List(w.t.Context(), audit.Query{Limit: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(records) == 0 {
		return audit.Record{}
	}
	return records[0]
}

func TestNoticeIsTriedAgainUntilItWasTold(t *testing.T) {
	w := newWorld(t)
	w.add("orders")
	w.mark(context.DeadlineExceeded, false)
	if again := w.pending(); len(again) != 0 {
		t.Errorf("a notice is tried again at once: %+v", again)
	}
	w.at = w.at.Add(time.Minute)
	if notices := w.pending(); len(notices) != 1 || notices[0].Attempts != 1 {
		t.Fatalf("got %+v", notices)
	}
	w.mark(nil, false)
	w.at = w.at.Add(24 * time.Hour)
	if again := w.pending(); len(again) != 0 {
		t.Errorf("told, and tried again: %+v", again)
	}
	if got := w.last(); got.Action != "notice.sent" || got.Database != "id-orders" || got.Detail["kind"] != "certificate.successor" {
		t.Errorf("got %+v", got)
	}
}

func TestNoticeIsGivenUpAfterTwoWeeksOrWhenItIsPointless(t *testing.T) {
	w := newWorld(t)
	began := w.at
	w.add("orders")
	for len(w.pending()) == 1 {
		w.mark(errors.New(strings.Repeat("ä", 400)), false)
		if notices, _, err := w.docs.List(t.Context(), keyNotices); err != nil {
			t.Fatal(err)
		} else if len(notices) == 0 {
			break
		}
		w.at = w.at.Add(24 * time.Hour)
	}
	if tried := w.at.Sub(began); tried != 23*24*time.Hour { // a day is waited each time here, once is tried at the beginning
		t.Errorf("it was tried for %s", tried)
	}
	if got := w.last(); got.Action != "notice.given_up" || len(got.Detail["error"]) > 510 {
		t.Errorf("got %+v", got)
	}
	w.add("other")
	w.mark(errors.New("no such mailbox"), true)
	if got := w.last(); got.Action != "notice.given_up" || got.Database != "id-other" || got.Detail["error"] != "no such mailbox" {
		t.Errorf("got %+v", got)
	}
}

func TestOldestNoticeComesFirst(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"first", "second", "third"} {
		w.add(name)
		w.at = w.at.Add(time.Second)
	}
	for i, n := range w.pending() {
		if want := []string{"first", "second", "third"}[i]; n.Database != want {
			t.Errorf("notice %d is of %s, want %s", i, n.Database, want)
		}
	}
}

// A release before this one kept whole documents of certificates in its notices.
func TestNoticeOfAnOlderReleaseIsStillTold(t *testing.T) {
	w := newWorld(t)
	text := `{"id":"n","kind":"certificate.successor","at":"2026-11-22T09:00:00Z","space":"acme","database":"orders","database_id":"d",
		"certificate":{"id":"c1","name":"app","serial":"0a","ca":"x","status":"ready","generation":3,"expires_at":"2027-01-01T00:00:00Z","successor":"c2","own_key":true},
		"successor":{"id":"c2","name":"app","serial":"0b","predecessor":"c1","expires_at":"2028-01-01T00:00:00Z"},
		"expires_at":"2027-01-01T00:00:00Z","attempts":2,"next_at":"2026-11-22T09:30:00Z"}`
	if _, err := w.docs.Commit(t.Context(), new(store.Tx).Put(keyNotices+"n", []byte(text))); err != nil {
		t.Fatal(err)
	}
	notices := w.pending()
	if len(notices) != 1 {
		t.Fatalf("%d notices", len(notices))
	}
	old, successor := notices[0].Certificate, notices[0].Successor
	if old == nil || old.ID != "c1" || old.Serial != "0a" || !old.OwnKey || successor == nil || successor.ID != "c2" || successor.ExpiresAt.Year() != 2028 {
		t.Errorf("got %+v and %+v", old, successor)
	}
}

func TestNoticeThatWasToldLeavesTheStore(t *testing.T) {
	w := newWorld(t)
	w.add("orders")
	ctx, cancel := context.WithCancel(t.Context())
	ended, told := make(chan error, 1), make(chan Notice)
	go func() {
		ended <- w.Run(ctx, func(_ context.Context, n Notice) (bool, error) { told <- n; return false, nil })
	}()
	if n := <-told; n.Kind != CertificateSuccessor || n.Database != "orders" {
		t.Errorf("got %+v", n)
	}
	for record, err := range w.trail.Events(t.Context(), "00000000000000000000-00000000") { // those before are given too
		if err != nil {
			t.Fatal(err)
		}
		if record.Action == "notice.sent" {
			break
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if left, _, err := w.docs.List(t.Context(), keyNotices); err != nil || len(left) != 0 {
		t.Errorf("%d notices are left, %v", len(left), err)
	}
}
