package policysync

import (
	"os"
	"path/filepath"
	"time"

	"pgmtls-proxy/internal/control/api"
)

// lookedSince is how long after a change a look at the directory must have ended to be one that began after the change, too.
const lookedSince = 5 * time.Second

// elsewhere returns what to say of a proxy that does not read the directory that its policy is written to; empty: it does, or
// that is not known.
//
// Paths prove nothing: links, mounts and containers give one directory several names, and several directories one name. What
// proves it is the policy. A proxy that looked at its directory after the policy was written, and does not follow it, has seen
// another directory, unless it refuses what it saw there.
func (c *Publisher) elsewhere(s *status, r api.Report) string {
	c.mu.Lock()
	newest, latest := c.newest, c.latest
	c.mu.Unlock()
	if s.PolicyDir == "" || latest == nil || r.Applied >= newest || !c.sawWhatLies(s) {
		return ""
	}
	reads, writes := clean(s.PolicyDir, maxPathText), clean(absolute(c.Dir), maxPathText)
	var text string
	switch {
	case !sameDirectory(s.PolicyDir, c.Dir):
		text = "it reads its policy from " + reads + ", and its policy is written to " + writes + ": set policy_dir: " + writes +
			" in its proxy.yaml and restart it, or have the policy written to " + reads + " (--policy-dir)"
	case s.Reload.Error != "":
		return "" // of this directory, as far as anybody can tell
	default:
		text = "it reads its policy from a directory that has the path " + reads + " where it runs, and its policy is written to " + writes +
			" here, which is another one: share the directory with its container"
	}
	if s.Reload.Error != "" {
		text += "; it says: " + s.Reload.Error
	}
	return clean(text, maxErrorText)
}

// sawWhatLies reports whether the proxy's last look at its directory began after the last change, as far as the clock tells.
func (c *Publisher) sawWhatLies(s *status) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.Reload.CheckedAt.After(c.published.Add(lookedSince))
}

// maxPathText bounds a path in a report, in bytes.
const maxPathText = 1 << 10

// sameDirectory reports whether two paths lead to one directory, as far as this process sees.
func sameDirectory(a, b string) bool {
	if absolute(a) == absolute(b) {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// absolute returns a path that begins at the root, as far as the working directory is known.
func absolute(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path
}
