package config

import (
	"bytes"
	"net/netip"
	"time"
	"unicode"
	"unicode/utf8"

	"pgmtls-proxy/internal/safetext"
)

// File is a reference to a PEM file.
type File struct {
	Path     string // in a policy as written, local to the policy directory; in a proxy resolved
	Field    string // path of the key that names it
	Position Position
}

// ClientAuth specifies what a client certificate is needed for.
type ClientAuth string

const (
	ClientAuthRequired ClientAuth = "required" // nobody comes in without a valid one
	ClientAuthOptional ClientAuth = "optional" // one that is shown must be valid
	ClientAuthOff      ClientAuth = "off"      // none is asked for
)

// OnRemoval specifies what happens to a live session that a change of the policy no longer allows.
type OnRemoval string

const (
	OnRemovalEnd  OnRemoval = "end"  // it is ended at a message boundary
	OnRemovalKeep OnRemoval = "keep" // it goes on; only new connections meet the change
)

// Policy is a policy.yaml that is valid by itself. The files that it names have not been looked at.
type Policy struct {
	Generation   string // any text; empty when the control plane gives none
	ClientAuth   ClientAuth
	ClientCA     []File // empty only with ClientAuthOff
	ClientCRL    []File
	Revoked      []Serial
	Certificates []Certificate // at least one; exactly one is the default
	IPRules      []IPRule      // at most MaxIPRules, ids and networks unique; none lets nobody in
	Identities   []Identity    // none: any certificate of the CA may log in as any user
	OnRemoval    OnRemoval
	EndGrace     time.Duration // with OnRemovalEnd
}

// Certificate is a server certificate: its chain and its key.
type Certificate struct {
	Cert, Key File
	Default   bool // served to clients that name no server, or one that no certificate has
	Position  Position
}

// IPRule lets one network in.
type IPRule struct {
	ID          string
	CIDR        netip.Prefix // masked, not IPv4-mapped
	Description string
	ExpiresAt   time.Time // zero: never. A time that has passed is valid: the rule lets nobody in
	Position    Position
}

// Identity specifies which users the certificates of one name may log in as. Exactly one of SubjectCN, DNS, URI and Serial
// is set.
type Identity struct {
	SubjectCN, DNS, URI string
	Serial              *Serial
	Users               []string // at least one, or none with AnyUser
	AnyUser             bool
	Position            Position
}

// MaxIPRules is how many IP rules a database can have.
const MaxIPRules = 60

const (
	maxFiles      = 100  // of a kind in one policy: each is read and parsed at every reload
	maxIdentities = 1000 // compared one by one at every login
	maxRevoked    = 2000 // more belong into a revocation list

	// maxUser is NAMEDATALEN-1 of PostgreSQL's pg_config_manual.h: the server cuts longer names, so a longer
	// one here could never be the name that a session has.
	maxUser = 63
)

// ControlHeader begins the first line of every policy.yaml that the control plane writes. Such a file is complete
// only with "...", YAML's end of a document, as its last line.
const ControlHeader = "# written by pgmtls for database "

// nameHeader begins the second line of such a file, which has the database's name. Control planes before it left it out,
// and a reader that does not know it takes it for the comment that it is.
const nameHeader = "# name: "

// NameHeader returns the line of a policy.yaml that follows the [ControlHeader] and names the database, with its line end.
func NameHeader(database string) string { return nameHeader + database + "\n" }

// maxName is the longest name of a database, in bytes.
const maxName = 63

// HeaderName returns the name of the database in the text of a policy that the control plane wrote. It is empty for a policy
// that somebody else wrote, and for one of an older control plane.
func HeaderName(text []byte) string {
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	if !bytes.HasPrefix(safetext.WithoutMark(first), []byte(ControlHeader)) {
		return ""
	}
	second, _, ended := bytes.Cut(rest, []byte("\n"))
	name, named := bytes.CutPrefix(second, []byte(nameHeader))
	if !ended || !named || len(name) > maxName || !utf8.Valid(name) || bytes.ContainsFunc(name, notPrintable) {
		return ""
	}
	return string(name)
}

func notPrintable(r rune) bool { return !unicode.IsPrint(r) }

// ParsePolicy reads the text of a policy. File is the name that problems show. The error is Problems, with all that
// is wrong.
//
// No beginning of a policy lets in anybody whom the whole text would refuse: what restricts stands before what lets
// in, and the last line has an end.
func ParsePolicy(file string, text []byte) (*Policy, error) {
	d := &decoder{file: file, written: map[string]Position{}}
	root, ok := parseYAML(file, text, &d.problems)
	if !ok {
		return nil, d.problems.err()
	}
	p := &Policy{}
	v := value{node: root, d: d}
	decode(v, policyFields, p)
	checkEnd(v, text)
	checkOrder(v)
	p.checkTrust(v)
	p.checkDefault(v)
	p.checkRules(v)
	p.checkIdentities(v)
	if err := d.problems.err(); err != nil {
		return nil, err
	}
	return p, nil
}
