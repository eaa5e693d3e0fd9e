package policysync

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/policyformat"
)

// Observe reports the current state of the proxy and its directory. When the proxy can't be asked, the report has what the directory
// shows, and the error is also its Error.
//
// Drift is judged against what this publisher published last. Before it has published anything, a directory is held against
// itself: whether policy.yaml is ours, and whether the files that it names have the content of their names.
func (c *Publisher) Observe(ctx context.Context) (api.Report, error) {
	onDisk, drift := c.drift()
	s, err := c.queryStatus(ctx)
	if err != nil {
		return api.Report{Error: clean(err.Error(), maxErrorText), ErrorKind: api.ErrorUnreachable, OnDisk: max(onDisk, c.had()), Drift: drift}, err
	}
	r := c.understand(s)
	r.OnDisk, r.Drift = max(onDisk, c.had()), drift
	return r, nil
}

// askReportTimeout bounds [Publisher.Report]: whoever asks waits five seconds, the way to the proxy and back included.
const askReportTimeout = 3 * time.Second

// Report asks the proxy how it is now, for three seconds at most. It does not look into the directory, so OnDisk and
// Drift are left out.
func (c *Publisher) Report(ctx context.Context) (api.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, askReportTimeout)
	defer cancel()
	s, err := c.queryStatus(ctx)
	if err != nil {
		return api.Report{}, errors.New(clean(err.Error(), maxErrorText))
	}
	return c.understand(s), nil
}

// maxDrift bounds the list of differences.
const maxDrift = 5

func (c *Publisher) drift() (onDisk int64, text string) {
	c.mu.Lock()
	newest, latest := c.newest, c.latest // never changed in place
	c.mu.Unlock()
	dir, err := openDirectory(c.Dir)
	if latest == nil && errors.Is(err, fs.ErrNotExist) {
		return 0, "" // the first policy makes it
	}
	if err != nil {
		return 0, clean(err.Error(), maxErrorText)
	}
	defer dir.close()
	there := dir.present()
	if !there.foreign(c.Database) {
		onDisk = there.generation
	}
	var found []string
	if latest != nil {
		found = dir.differences(latest)
	}
	switch {
	case !there.there && latest == nil:
		return 0, "" // nothing was ever published
	case there.foreign(c.Database) && there.database != "":
		found = []string{fmt.Sprintf("%s belongs to database %s", api.PolicyFile, there.database)}
	case there.foreign(c.Database):
		found = []string{api.PolicyFile + " was written by another program"}
	case there.there && latest != nil && onDisk != newest:
		found = []string{fmt.Sprintf("%s has generation %d, but %d was published", api.PolicyFile, onDisk, newest)}
	case latest == nil:
		if _, err := dir.policy(c.Database); err != nil {
			found = []string{err.Error()}
		}
	}
	if more := len(found) - maxDrift; more > 0 {
		found = append(found[:maxDrift:maxDrift], fmt.Sprintf("and %d more", more))
	}
	return onDisk, clean(strings.Join(found, "; "), maxErrorText)
}

// differences lists how the directory differs from what was published.
func (d *directory) differences(published map[string][sha256.Size]byte) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(published)) {
		f, err := d.read(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			found = append(found, name+" is missing")
		case err != nil:
			found = append(found, err.Error())
		case sha256.Sum256(f.content) != published[name]:
			found = append(found, name+" differs from what was published")
		default:
			if wrong := d.misfit(name, f); wrong != "" {
				found = append(found, name+" "+wrong)
			}
		}
	}
	return found
}

// policy reads back what was published for a database. It fails when the files do not fit together: they are being
// replaced, or somebody has edited them.
func (d *directory) policy(database string) (api.Policy, error) {
	there := d.present()
	if there.err != nil {
		return api.Policy{}, there.err
	}
	if there.foreign(database) {
		return api.Policy{}, ErrForeign
	}
	p := api.Policy{Database: database, Generation: there.generation, Files: map[string][]byte{api.PolicyFile: there.text}}
	parsed, err := config.ParsePolicy(api.PolicyFile, there.text)
	if err != nil {
		return api.Policy{}, err
	}
	for name := range policyformat.References(parsed) {
		f, err := d.read(name)
		if err != nil {
			return api.Policy{}, err
		}
		p.Files[name] = f.content
	}
	return p, policyformat.Check(p)
}
