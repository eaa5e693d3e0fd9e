package policysync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pgmtls-proxy/internal/atomicfile"
	"pgmtls-proxy/internal/control/api"
)

// A store that was restored from a snapshot offers generations that the proxy has had, with other content or older. As
// long as the directory has what was published, that tells. If the directory was lost too, two more witnesses count
// before the first publication: the proxy, which still follows what it has in memory, and a file outside the directory.

const (
	// firstWord is how long the first publication into an empty directory waits for the proxy's word. A proxy that is not
	// running says so at once.
	firstWord = time.Second
	// maxAhead bounds how far a proxy can be ahead of what is offered: a number beyond it is of some other policy. The
	// registry has the same bound.
	maxAhead = 1 << 20
)

// hear takes the word of a proxy that follows a generation which neither the directory nor this publisher knows. Only before
// the first publication: afterwards this publisher knows better.
func (c *Publisher) hear(s *status, offered int64) {
	if s.Policy == nil || c.generation(s.Policy.Digest) != 0 {
		return
	}
	had, err := strconv.ParseInt(s.Policy.Generation, 10, 64)
	if err != nil || had <= offered || had > offered+maxAhead {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest == nil {
		c.newest, c.heard = max(c.newest, had), max(c.heard, had)
	}
}

// had is the newest generation of which only others know: the proxy, or the high-water mark. 0: there is none.
func (c *Publisher) had() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest != nil {
		return 0
	}
	return c.heard
}

// empty reports whether no policy lies in the directory, or there is no directory.
func (c *Publisher) empty() bool {
	_, err := os.Lstat(filepath.Join(c.Dir, api.PolicyFile))
	return errors.Is(err, fs.ErrNotExist)
}

// recall reads the high-water mark, once. The error is about the file: what it can't tell must not hold up what a policy
// takes away.
func (c *Publisher) recall() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.recalled || c.MarkFile == "" {
		return nil
	}
	c.recalled = true
	text, err := os.ReadFile(c.MarkFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	mark := int64(0)
	if err == nil {
		mark, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	}
	if err != nil {
		return fmt.Errorf("read the last published generation from %s: %w", c.MarkFile, err)
	}
	c.marked = mark
	if mark > c.newest && c.latest == nil {
		c.newest, c.heard = mark, max(c.heard, mark)
	}
	return nil
}

// mark keeps the generation outside the directory, unless it is there: the same one is published again when somebody has edited
// the directory. It comes behind the publication, which it must not hold up.
func (c *Publisher) mark(generation int64) error {
	c.mu.Lock()
	known := c.MarkFile == "" || c.marked == generation
	c.mu.Unlock()
	if known {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.MarkFile), 0o700); err != nil {
		return err
	}
	if err := atomicfile.Replace(c.MarkFile, []byte(strconv.FormatInt(generation, 10)+"\n"), 0o600); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marked = generation
	return nil
}

// queryProxy gets the proxy's word before the first publication into an empty directory.
func (t *syncLoop) queryProxy(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, t.since.Add(firstWord))
	defer cancel()
	s, err := t.route.Publisher.queryStatus(ctx)
	switch {
	case err == nil:
		t.route.Publisher.hear(s, t.policy.Generation)
		t.asked = true
	case ctx.Err() == nil || !time.Now().Before(t.since.Add(firstWord)):
		t.asked = true // nobody is there to go back
	}
}

// mustAsk reports whether the proxy's word is still to be had before the policy is published.
func (t *syncLoop) mustAsk(now time.Time) bool {
	if t.asked || !t.mustPublish() {
		return false
	}
	if !now.Before(t.since.Add(firstWord)) || !t.route.Publisher.empty() {
		t.asked = true
	}
	return !t.asked
}
