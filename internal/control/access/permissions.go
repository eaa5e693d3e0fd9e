package access

import (
	"fmt"
	"strings"
	"time"
)

// Kind is what kind of caller it is: the scope of a token, or an agent with its certificate.
type Kind string

// The kinds of callers.
const (
	All       Kind = "all"      // a token for everything
	Read      Kind = "read"     // a token that sees everything but private keys, and changes nothing
	Database  Kind = "database" // a token for what belongs to one database
	Enrolment Kind = "agent"    // a one-time token for the enrolment of one agent
	Agent     Kind = "agent certificate"
)

// Caller identifies who sent a request. Its zero value may do nothing.
type Caller struct {
	Kind     Kind
	ID       string    // of the token or of the agent
	Name     string    // for the audit trail: the token's name, or "agent:" and its id
	Database string    // id; only with Database, Enrolment and Agent
	Proxy    string    // name; only with Enrolment and Agent
	Until    time.Time // when the token or the certificate ends; zero: never

	serial string // of the agent's certificate
}

// Action is what a request does. Every route of the API has one.
type Action string

// The actions. Those marked "of one database" are asked with its id.
const (
	Greet           Action = "greet"            // the version: anybody who is somebody
	ListDatabases   Action = "list databases"   // of which a caller of kind Database sees its own
	ReadDatabase    Action = "read database"    // of one database: all but private keys
	ReadKeys        Action = "read keys"        // of one database: its clients' private keys
	ChangeDatabase  Action = "change database"  // of one database: mutual TLS, rules, certificates
	ManageDatabases Action = "manage databases" // create and delete them, add and remove proxies
	ReadSpaces      Action = "read spaces"      // authorities and who uses them
	ManageSpaces    Action = "manage spaces"    // rotate, import and retire authorities
	ReadTrail       Action = "read trail"       // audit trail and events, of all databases
	ReadAccess      Action = "read access"      // list tokens and agents
	ManageAccess    Action = "manage access"    // create and revoke them
	ReadMetrics     Action = "read metrics"
	TakeSnapshot    Action = "take snapshot" // the whole store
	ManageStore     Action = "manage store"  // compact it, let it write again
	Enrol           Action = "enrol"         // as the agent of one database's proxy
	Deliver         Action = "deliver"       // of one database: get its policy, acknowledge it, renew the certificate
)

// grant is who may do an action.
type grant struct {
	kinds []Kind
	bound bool // callers of one database may do it to that database only
}

var grants = map[Action]grant{
	Greet:           {kinds: []Kind{All, Read, Database, Enrolment, Agent}},
	ListDatabases:   {kinds: []Kind{All, Read, Database}},
	ReadDatabase:    {kinds: []Kind{All, Read, Database}, bound: true},
	ReadKeys:        {kinds: []Kind{All, Database}, bound: true},
	ChangeDatabase:  {kinds: []Kind{All, Database}, bound: true},
	ManageDatabases: {kinds: []Kind{All}},
	ReadSpaces:      {kinds: []Kind{All, Read}},
	ManageSpaces:    {kinds: []Kind{All}},
	ReadTrail:       {kinds: []Kind{All, Read, Database}, bound: true},
	ReadAccess:      {kinds: []Kind{All, Read}},
	ManageAccess:    {kinds: []Kind{All}},
	ReadMetrics:     {kinds: []Kind{All, Read}},
	TakeSnapshot:    {kinds: []Kind{All}},
	ManageStore:     {kinds: []Kind{All}},
	Enrol:           {kinds: []Kind{Enrolment}, bound: true},
	Deliver:         {kinds: []Kind{Agent}, bound: true},
}

// May decides whether the caller may do the action: nil, or a *Refusal. The database is the id of the one that the
// action is about, empty when it is about none, or about one that does not exist. So a caller learns from the answer
// whether its kind suffices, and never whether somebody else's database exists.
func (c Caller) May(action Action, database string) error {
	grant, known := grants[action]
	if !known || !grant.has(c.Kind) {
		return &Refusal{Action: action, Kinds: grant.kinds}
	}
	if grant.bound && c.bound() && (c.Database == "" || c.Database != database) {
		return &Refusal{Action: action, Kinds: grant.kinds, Hidden: true}
	}
	return nil
}

func (g grant) has(kind Kind) bool {
	for _, k := range g.kinds {
		if k == kind {
			return true
		}
	}
	return false
}

// bound reports whether the caller is of one database alone.
func (c Caller) bound() bool { return c.Kind != All && c.Kind != Read }

// Refusal is returned when a caller may not do something.
type Refusal struct {
	Action Action
	Kinds  []Kind // that may
	Hidden bool   // the kind suffices, the database is not the caller's: say only that there is none
}

// Error names the scope that is needed, and reveals nothing of what exists.
func (r *Refusal) Error() string {
	if r.Hidden {
		return "there is no such database"
	}
	names := make([]string, len(r.Kinds))
	for i, kind := range r.Kinds {
		switch kind {
		case Agent:
			names[i] = "an agent's certificate"
		case Enrolment:
			names[i] = "an enrolment token of an agent"
		default:
			names[i] = fmt.Sprintf("a token of scope %s", kind)
		}
	}
	return fmt.Sprintf("permission denied; this needs %s", strings.Join(names, " or "))
}
