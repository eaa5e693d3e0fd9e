package audit

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/docstore/docstoretest"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

var (
	start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	admin = Actor{Name: "admin", Address: "192.0.2.7", RequestID: "r-1"}
)

func newTrail(t *testing.T) *Trail {
	t.Helper()
	return New(docstoretest.Open(t), func() time.Time { return start })
}

func note(t *testing.T, trail *Trail, record Record) {
	t.Helper()
	if err := trail.Note(t.Context(), admin, record); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, trail *Trail, q Query) []Record {
	t.Helper()
	records, err := trail.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestRecordSaysWhoAskedAndFromWhere(t *testing.T) {
	trail := newTrail(t)
	note(t, trail, Record{Action: "token.create", Database: "db-1", Object: "t-1", Detail: map[string]string{"name": "ci"}})
	records := list(t, trail, Query{})
	if len(records) != 1 {
		t.Fatalf("%d records", len(records))
	}
	got := records[0]
	if got.Actor != "admin" || got.Address != "192.0.2.7" || got.RequestID != "r-1" || !got.At.Equal(start) ||
		got.Action != "token.create" || got.Database != "db-1" || got.Object != "t-1" || got.Detail["name"] != "ci" {
		t.Errorf("got %+v", got)
	}
}

// The clock stands still here, and records must not change places because of it.
func TestRecordsOfOneMomentKeepTheirOrder(t *testing.T) {
	trail := newTrail(t)
	for n := range 20 {
		note(t, trail, Record{Action: "a", Object: fmt.Sprint(n)})
	}
	records := list(t, trail, Query{})
	for i, record := range records {
		if want := fmt.Sprint(19 - i); record.Object != want {
			t.Fatalf("record %d is of %s, want %s", i, record.Object, want)
		}
	}
}

func TestQuerySelectsRecords(t *testing.T) {
	trail := newTrail(t)
	for _, record := range []Record{
		{Action: "ip_rule.create", Database: "one"}, {Action: "ip_rule.delete", Database: "two"}, {Action: "ca.rotate", Database: "one"},
	} {
		note(t, trail, record)
	}
	tx := new(store.Tx)
	if err := trail.Add(tx, System, start, Record{Action: "ip_rule.expired", Database: "one"}); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.docs.Commit(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	second := list(t, trail, Query{})[2] // ip_rule.delete
	for _, test := range []struct {
		query Query
		want  []string
	}{
		{Query{}, []string{"ip_rule.expired", "ca.rotate", "ip_rule.delete", "ip_rule.create"}},
		{Query{Database: "one"}, []string{"ip_rule.expired", "ca.rotate", "ip_rule.create"}},
		{Query{Action: "ip_rule."}, []string{"ip_rule.expired", "ip_rule.delete", "ip_rule.create"}},
		{Query{Action: "ip_rule"}, nil},
		{Query{Action: "ca.rotate"}, []string{"ca.rotate"}},
		{Query{Actor: "system"}, []string{"ip_rule.expired"}},
		{Query{Before: second.ID}, []string{"ip_rule.create"}},
		{Query{Limit: 2}, []string{"ip_rule.expired", "ca.rotate"}},
	} {
		var got []string
		for _, record := range list(t, trail, test.query) {
			got = append(got, record.Action)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v gives %q, want %q", test.query, got, test.want)
		}
	}
	for _, bad := range []string{"x", "00000000000000000000-0000000g", "00000000000000000000:00000000"} {
		if _, err := trail.List(t.Context(), Query{Before: bad}); !problem.Is(err, problem.InvalidParams) {
			t.Errorf("before %s gives %v", bad, err)
		}
	}
}

func TestEventsGoOnBehindTheLastOneSeen(t *testing.T) {
	trail := newTrail(t)
	for n := range 5 {
		note(t, trail, Record{Action: "a", Object: fmt.Sprint(n)})
	}
	records := list(t, trail, Query{})
	slices.Reverse(records)
	var got []string
	for record, err := range trail.Events(t.Context(), records[1].ID) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, record.Object); record.Object == "5" {
			break
		}
		if len(got) == 3 {
			note(t, trail, Record{Action: "a", Object: "5"})
		}
	}
	if want := []string{"2", "3", "4", "5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, err := range trail.Events(t.Context(), "x") {
		var refusal *problem.Error
		if !errors.As(err, &refusal) || refusal.ID != problem.InvalidParams {
			t.Errorf("an id that is none gives %v", err)
		}
	}
}

// More than one transaction holds, so that the page and its end are crossed.
func TestPruneDeletesWhatIsOldAndNothingElse(t *testing.T) {
	trail := newTrail(t)
	at := start
	trail.now = func() time.Time { return at }
	for range 230 {
		note(t, trail, Record{Action: "old"})
	}
	at = start.Add(time.Hour)
	note(t, trail, Record{Action: "new"})
	if err := trail.Prune(t.Context(), start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if left := list(t, trail, Query{Limit: 1000}); len(left) != 1 || left[0].Action != "new" {
		t.Errorf("%d records are left: %+v", len(left), left)
	}
}
