package policysync

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
)

// The errors of [Publisher.Publish] that its callers distinguish.
var (
	// ErrOlder is returned for a policy that is older than one that this publisher, or the directory, has had.
	ErrOlder = errors.New("an older generation of the policy")
	// ErrForeign is returned when the directory has the policy.yaml of another database, or one that no publisher wrote.
	ErrForeign = errors.New("the policy directory belongs to another writer")
)

// Publisher serves one proxy of one database. Its exported fields are set before the first call; its methods may be called
// concurrently. Publishers of other processes on the same directory wait for each other.
//
// What Dir must be: a directory of the user that the proxy runs as, or of root with the proxy's group, that neither
// group nor others can write to (0750, 0755, 0700). Without being root, this process runs as that user. A directory that is
// not there is made with mode 0750, in a parent of which the same holds. Files that the publisher has not written stay
// as they are.
//
// Whose it is, policy.yaml says by its [policyformat.Header]. A directory without one is free. With another database's, or
// one without a header, as a person writes it, [Publisher.Publish] refuses with [ErrForeign] and touches nothing,
// whatever was there before: who replaces a policy by hand means it. TakeOver decides otherwise.
type Publisher struct {
	Database string         // id
	Dir      string         // the proxy's policy_dir
	Admin    config.Address // the proxy's admin address: loopback, or a unix socket

	// TakeOver replaces a policy.yaml that is not this database's, and keeps it as policy.yaml.replaced.
	TakeOver bool

	// MarkFile keeps the newest generation outside Dir, for the case that Dir is lost and the store is set back. Empty: there
	// is none.
	MarkFile string

	mu        sync.Mutex
	heard     int64                        // generation of which the proxy or MarkFile told before the first publication
	recalled  bool                         // MarkFile was read
	marked    int64                        // what MarkFile has, as far as it was read or written here
	newest    int64                        // generation that was published last, here or by what Dir holds
	latest    map[string][sha256.Size]byte // what was published last, by file name; keys are not kept
	published time.Time                    // when this publisher last changed Dir
	digests   map[int64]string             // of the last generations, as the proxy shows them
	unknown   string                       // digest that the proxy showed and Dir could not explain
	trials    map[string]int               // files that dry runs need, with how many of them

	fetch func(context.Context) (*status, error) // nil: over HTTP
}

// replacedFile is the copy of a policy.yaml that was taken over.
const replacedFile = api.PolicyFile + ".replaced"

// Publish brings a policy into the directory. The certificates, keys and lists come first, under names that nothing else
// has; the rename of policy.yaml is the one moment at which the policy changes. Then files of ours that it no longer names
// are removed. Killed at any point, it leaves the old policy whole or the new one, and the next call tidies up.
//
// Nothing is written when the directory holds the same already, and changed says whether anything was. What
// somebody has edited in it is put right, also with the same generation. [ErrOlder] and [ErrForeign] are refusals. An
// error with changed is about the removal of old files alone: the policy stands.
//
// It does not wait for the proxy: see [Publisher.Await]. The bytes of files are synced before their rename, so that a loss
// of power leaves no empty file behind a good name; the directory only before something relies on an entry in it. So
// the last change may be undone by such a loss, as a whole. The store has it, and it is published again.
func (c *Publisher) Publish(ctx context.Context, p api.Policy) (changed bool, err error) {
	if err := c.accepts(p); err != nil {
		return false, err
	}
	dir, err := c.open(ctx)
	if err != nil {
		return false, err
	}
	defer dir.close()
	present := dir.present()
	if err := c.mayReplace(present, p, dir.path); err != nil {
		return false, err
	}
	c.expect(p)
	if present.foreign(c.Database) && present.text != nil {
		if err := dir.write(replacedFile, present.text); err != nil {
			return false, fmt.Errorf("save the policy that is taken over: %w", err)
		}
	}
	changed, err = dir.bring(p)
	if err != nil {
		return false, fmt.Errorf("publish the %v in %s: %w", p, dir.path, err)
	}
	c.remember(p, changed)
	return changed, dir.sweep(c.keeps(p.Files))
}

// accepts refuses policies that are not this publisher's to bring.
func (c *Publisher) accepts(p api.Policy) error {
	if p.Database != c.Database {
		return fmt.Errorf("a policy for database %.80q was given to the proxy of database %.80q", p.Database, c.Database)
	}
	return policyformat.Check(p)
}

// open returns the directory, made if need be, and locked.
func (c *Publisher) open(ctx context.Context) (*directory, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := makeDirectory(c.Dir); err != nil {
		return nil, err
	}
	dir, err := openDirectory(c.Dir)
	if err != nil {
		return nil, err
	}
	if err := dir.lock(ctx); err != nil {
		dir.close()
		return nil, err
	}
	return dir, nil
}

// present is the policy.yaml that lies in a directory.
type present struct {
	there      bool
	text       []byte // nil if it can't be read
	err        error  // why
	database   string // of its header; empty: there is none
	generation int64
}

func (d *directory) present() present {
	f, err := d.read(api.PolicyFile)
	if err != nil {
		return present{there: !errors.Is(err, fs.ErrNotExist), err: err}
	}
	p := present{there: true, text: f.content}
	p.database, p.generation, _ = policyformat.ParseHeader(f.content)
	return p
}

func (p present) foreign(database string) bool { return p.there && p.database != database }

func (c *Publisher) mayReplace(there present, p api.Policy, path string) error {
	c.mu.Lock()
	newest := c.newest
	c.mu.Unlock()
	foreign := there.foreign(c.Database)
	if !foreign {
		newest = max(newest, there.generation)
	}
	switch {
	case foreign && !c.TakeOver && there.err != nil:
		return fmt.Errorf("%w: %s: %w; move it away", ErrForeign, path, there.err)
	case foreign && !c.TakeOver && there.database != "":
		return fmt.Errorf("%w: %s serves database %s; give each database's proxy its own directory, or remove its policy.yaml", ErrForeign, path, there.database)
	case foreign && !c.TakeOver:
		return fmt.Errorf("%w: another program wrote %s/%s; move it away, or allow the takeover", ErrForeign, path, api.PolicyFile)
	case foreign && there.err != nil:
		return fmt.Errorf("take over %s: %w; move it away", path, there.err)
	case p.Generation < newest:
		return fmt.Errorf("%w: generation %d for %s, which already had %d", ErrOlder, p.Generation, path, newest)
	}
	return nil
}

// bring writes what the directory lacks, policy.yaml last.
func (d *directory) bring(p api.Policy) (changed bool, err error) {
	for name, content := range p.Files {
		if name == api.PolicyFile || d.has(name, content) {
			continue
		}
		if err := d.write(name, content); err != nil {
			return false, err
		}
		changed = true
	}
	if changed { // the policy must not be on disk before the names that it relies on
		if err := d.sync(); err != nil {
			return false, err
		}
	}
	if d.has(api.PolicyFile, p.Files[api.PolicyFile]) {
		return changed, nil
	}
	return true, d.write(api.PolicyFile, p.Files[api.PolicyFile])
}

// maxDigests is how many generations are recognised in the proxy's answers; it keeps 32 receipts.
const maxDigests = 64

// expect makes the policy one that the proxy's answers are understood of. It comes before the rename: the proxy may be
// asked the moment after.
func (c *Publisher) expect(p api.Policy) {
	digest := policyformat.Digest(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.digests == nil {
		c.digests = make(map[int64]string)
	}
	c.digests[p.Generation] = digest
	c.unknown = ""
	for len(c.digests) > maxDigests {
		oldest := p.Generation
		for generation := range maps.Keys(c.digests) {
			oldest = min(oldest, generation)
		}
		delete(c.digests, oldest)
	}
}

// remember takes a policy for the one that is in the directory.
func (c *Publisher) remember(p api.Policy, changed bool) {
	latest := make(map[string][sha256.Size]byte, len(p.Files))
	for name, content := range p.Files {
		latest[name] = sha256.Sum256(content)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest, c.latest = p.Generation, latest
	if changed {
		c.published = time.Now()
	}
}

// keeps reports whether a sweep must leave a file: the policy's and those of dry runs.
func (c *Publisher) keeps(files map[string][]byte) func(name string) bool {
	return func(name string) bool {
		if _, used := files[name]; used {
			return true
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.trials[name] > 0
	}
}
