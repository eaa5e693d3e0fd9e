package api

import "fmt"

// PolicyFile is the one file of a policy whose name is given; it names the others.
const PolicyFile = "policy.yaml"

// Policy is all that a proxy is to have in its policy directory. It travels to agents as JSON, with the contents in
// base64. It holds private keys: it prints as its name alone.
type Policy struct {
	Database   string `json:"database"`   // id of the database
	Generation int64  `json:"generation"` // from 1; the same generation of a database always has the same bytes

	// Files are the contents by file name: [PolicyFile], and exactly the files that it names, under names that policysync
	// gives them.
	Files map[string][]byte `json:"files"`
}

// String names the policy, without what it holds.
func (p Policy) String() string {
	return fmt.Sprintf("policy of database %s, generation %d, %d files", p.Database, p.Generation, len(p.Files))
}

// GoString is String: no verb prints the keys.
func (p Policy) GoString() string { return p.String() }
