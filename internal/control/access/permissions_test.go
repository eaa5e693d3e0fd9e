package access

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// permissions has every action with every kind of caller, for the caller's own database, another one, and none.
// y: may; n: needs another scope; h: the database is hidden. all and read have no own database.
const permissions = `
                   all  read  database  agent(token)  agent(certificate)
                        own/other/none  in each column
greet              yyy  yyy   yyy       yyy           yyy
list databases     yyy  yyy   yyy       nnn           nnn
read database      yyy  yyy   yhh       nnn           nnn
read keys          yyy  nnn   yhh       nnn           nnn
change database    yyy  nnn   yhh       nnn           nnn
manage databases   yyy  nnn   nnn       nnn           nnn
read spaces        yyy  yyy   nnn       nnn           nnn
manage spaces      yyy  nnn   nnn       nnn           nnn
read trail         yyy  yyy   yhh       nnn           nnn
read access        yyy  yyy   nnn       nnn           nnn
manage access      yyy  nnn   nnn       nnn           nnn
read metrics       yyy  yyy   nnn       nnn           nnn
take snapshot      yyy  nnn   nnn       nnn           nnn
manage store       yyy  nnn   nnn       nnn           nnn
enrol              nnn  nnn   nnn       yhh           nnn
deliver            nnn  nnn   nnn       nnn           yhh
`

func TestEveryKindOfCallerMayDoWhatTheTableSays(t *testing.T) {
	kinds := []Kind{All, Read, Database, Enrolment, Agent}
	databases := []string{"own", "other", ""}
	left := maps.Clone(grants)
	for _, line := range strings.Split(strings.TrimSpace(permissions), "\n")[2:] {
		fields := strings.Fields(line)
		action := Action(strings.Join(fields[:len(fields)-len(kinds)], " "))
		if _, known := left[action]; !known {
			t.Fatalf("there is no action %q, or it stands there twice", action)
		}
		delete(left, action)
		for i, kind := range kinds {
			caller := Caller{Kind: kind, ID: "1", Name: "n"}
			if kind != All && kind != Read {
				caller.Database = "own"
			}
			for j, database := range databases {
				want := fields[len(fields)-len(kinds)+i][j]
				err := caller.May(action, database)
				refusal, refused := errors.AsType[*Refusal](err)
				got := byte('y')
				switch {
				case err != nil && !refused:
					t.Fatalf("got the error %v", err)
				case refused && refusal.Hidden:
					got = 'h'
				case refused:
					got = 'n'
				}
				if got != want {
					t.Errorf("%s by %s of database %q: got %c, want %c", action, kind, database, got, want)
				}
			}
		}
	}
	for action := range left {
		t.Errorf("the table does not have the action %q", action)
	}
}

func TestNobodyMayDoNothing(t *testing.T) {
	for _, action := range append(slices.Collect(maps.Keys(grants)), "", "rule the world") {
		if err := (Caller{}).May(action, ""); err == nil {
			t.Errorf("the zero caller may %s", action)
		}
	}
	for kind := range map[Kind]bool{All: true, Read: true, Database: true} {
		if err := (Caller{Kind: kind, Database: "own"}).May("rule the world", "own"); err == nil {
			t.Errorf("%s may do what nobody knows", kind)
		}
		// A token of one database that was stored without it must not be one of all.
		if err := (Caller{Kind: Database}).May(ReadDatabase, ""); err == nil {
			t.Error("a token of no database reads what has no database")
		}
	}
}

func TestRefusalNamesTheScopeAndNoDatabase(t *testing.T) {
	err := Caller{Kind: Read}.May(ChangeDatabase, "secret-id")
	if got := err.Error(); !strings.Contains(got, "a token of scope all or a token of scope database") || strings.Contains(got, "secret-id") {
		t.Errorf("got %q", got)
	}
	other := Caller{Kind: Database, Database: "own"}.May(ReadDatabase, "other")
	none := Caller{Kind: Database, Database: "own"}.May(ReadDatabase, "")
	if other.Error() != none.Error() {
		t.Errorf("another's database says %q, and one that does not exist %q", other, none)
	}
}
