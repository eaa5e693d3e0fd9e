package registry

import "time"

// Word is what a proxy confirms of a generation.
type Word string

// The words of a proxy.
const (
	AppliedWord Word = "applied"  // new connections follow it
	InForceWord Word = "in_force" // and no session is left that it refuses
)

// awaited is the word of every proxy that ends a state. What lets somebody in waits until all proxies follow it; what
// keeps somebody out, until the last session has ended. States that are not here wait for nothing.
var awaited = map[Status]Word{
	Provisioning: AppliedWord, Authorizing: AppliedWord, Pending: AppliedWord,
	Deprovisioning: InForceWord, Deauthorizing: InForceWord, Disabling: InForceWord,
}

// says returns the generation for which a proxy has said a word.
func (a Acknowledgement) says(word Word) int64 {
	if word == InForceWord {
		return a.InForce
	}
	return a.Applied
}

// confirmed reports whether every proxy has said the word that ends a state, for a generation. A database without proxies
// confirms the same as one whose only proxy has never been there: nothing is in force nowhere.
func (db *Database) confirmed(status Status, generation int64) bool {
	word, waits := awaited[status]
	return waits && db.allSay(word, generation)
}

// allSay reports whether every proxy has said the word for a generation.
func (db *Database) allSay(word Word, generation int64) bool {
	if len(db.Proxies) == 0 {
		return generation <= 0
	}
	for _, p := range db.Proxies {
		if p.Acknowledged.says(word) < generation {
			return false
		}
	}
	return true
}

// Kind is what a change is of.
type Kind string

// The kinds of what can wait for the proxies.
const (
	KindMTLS        Kind = "tls_endpoint"
	KindRule        Kind = "ip_rule"
	KindCertificate Kind = "certificate"
	KindEnhanced    Kind = "enhanced_certificate"
)

// Waiting is a change that not every proxy has confirmed.
type Waiting struct {
	Kind       Kind
	ID         string // of the rule or certificate
	Name       string // for people
	Status     Status
	Generation int64
	Since      time.Time
	Until      Word     // of every proxy
	Proxies    []string // that have not said it
}

// Waiting returns the changes of the database that wait for its proxies, in the order in which they stand in the document.
func (db *Database) Waiting() []Waiting {
	var list []Waiting
	wait := func(word Word, w Waiting) {
		w.Until = word
		for _, p := range db.Proxies {
			if p.Acknowledged.says(word) < w.Generation {
				w.Proxies = append(w.Proxies, p.Name)
			}
		}
		list = append(list, w)
	}
	add := func(w Waiting) {
		if word, waits := awaited[w.Status]; waits {
			wait(word, w)
		}
	}
	if m := db.MTLS; m != nil {
		add(Waiting{Kind: KindMTLS, Name: db.Name, Status: m.Status, Generation: m.Generation, Since: m.UpdatedAt})
	}
	for _, r := range db.Rules {
		add(Waiting{Kind: KindRule, ID: r.ID, Name: r.CIDR, Status: r.Status, Generation: r.Generation, Since: r.UpdatedAt})
	}
	for _, c := range db.Certificates {
		add(Waiting{Kind: KindCertificate, ID: c.ID, Name: c.Name, Status: c.Status, Generation: c.Generation, Since: c.UpdatedAt})
	}
	if e := db.Enhanced; e != nil && (e.Status == Deprovisioning || e.Status == Provisioning && e.Leaf != nil) {
		wait(AppliedWord, Waiting{Kind: KindEnhanced, Name: e.Host, Status: e.Status, Generation: e.Generation, Since: e.UpdatedAt})
	}
	return list
}

// WaitingSince returns when the oldest change was made that is not in force everywhere. A database without proxies waits
// for nobody.
func (db *Database) WaitingSince() (since time.Time, waits bool) {
	return db.oldest(func(Waiting) bool { return true })
}

// RemovingSince is like [Database.WaitingSince], for changes that keep somebody out.
func (db *Database) RemovingSince() (since time.Time, waits bool) {
	return db.oldest(func(w Waiting) bool { return w.Until == InForceWord })
}

func (db *Database) oldest(counts func(Waiting) bool) (since time.Time, waits bool) {
	if len(db.Proxies) == 0 {
		return time.Time{}, false
	}
	for _, w := range db.Waiting() {
		if counts(w) && (!waits || w.Since.Before(since)) {
			since, waits = w.Since, true
		}
	}
	return since, waits
}
