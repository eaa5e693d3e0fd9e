package policysync

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/retry"
)

// dryRunPause is the one between two tries at a proxy that has another dry run under way.
const dryRunPause = 50 * time.Millisecond

// DryRun asks the proxy what a policy would do, without changing anything. Files that the directory lacks are put there for
// the time of the question, where only this policy names them. It takes up to 45 seconds when the directory keeps
// changing, and usually milliseconds.
func (c *Publisher) DryRun(ctx context.Context, p api.Policy) (api.Effect, error) {
	if err := c.accepts(p); err != nil {
		return api.Effect{}, err
	}
	if err := checkAdmin(c.Admin); err != nil {
		return api.Effect{}, err
	}
	staged, err := c.stage(ctx, p)
	if err != nil {
		return api.Effect{}, err
	}
	effect, err := c.try(ctx, p.Files[api.PolicyFile])
	c.need(p, -1)
	if tidied := c.tidy(context.WithoutCancel(ctx), staged); err == nil && tidied != nil {
		err = tidied
	}
	return effect, err
}

// stage puts the policy's files into the directory, without its policy.yaml, and says which it lacked. They are needed
// until need says otherwise, unless there is an error.
func (c *Publisher) stage(ctx context.Context, p api.Policy) (staged []string, err error) {
	dir, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	if there := dir.present(); there.foreign(c.Database) && !c.TakeOver {
		return nil, fmt.Errorf("%w: %s/%s belongs to another database", ErrForeign, dir.path, api.PolicyFile)
	}
	c.need(p, 1)
	for name, content := range p.Files {
		if name == api.PolicyFile || dir.has(name, content) {
			continue
		}
		if err := dir.write(name, content); err != nil {
			c.need(p, -1)
			return nil, err
		}
		staged = append(staged, name)
	}
	return staged, nil
}

// need keeps the policy's files from being swept, or no longer does.
func (c *Publisher) need(p api.Policy, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trials == nil {
		c.trials = make(map[string]int)
	}
	for name := range p.Files {
		if c.trials[name] += n; c.trials[name] <= 0 {
			delete(c.trials, name)
		}
	}
}

// tidy removes what a dry run has put into the directory, unless a policy that was published meanwhile, or another dry
// run, needs it. What it leaves behind, as when the process is killed, goes with the next [Publisher.Publish].
func (c *Publisher) tidy(ctx context.Context, staged []string) error {
	if len(staged) == 0 {
		return nil
	}
	dir, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer dir.close()
	there := dir.present()
	if there.there && there.err != nil {
		return nil // what it names is not known
	}
	needed := c.keeps(nil)
	for _, name := range staged {
		if needed(name) || bytes.Contains(there.text, []byte(name)) {
			continue
		}
		if err := ignoreMissing(dir.root.Remove(name)); err != nil {
			return fmt.Errorf("remove the files of a dry run: %w", err)
		}
	}
	return nil
}

// try asks, again while another dry run is under way.
func (c *Publisher) try(ctx context.Context, text []byte) (api.Effect, error) {
	for {
		code, body, err := query(ctx, c.Admin, adminapi.Request{Method: http.MethodPost, Path: "/dry-run", Body: text, Timeout: dryRunTimeout})
		switch {
		case err != nil:
			return api.Effect{}, err
		case code == http.StatusTooManyRequests:
			if err := retry.Sleep(ctx, dryRunPause); err != nil {
				return api.Effect{}, fmt.Errorf("wait for another dry run of the proxy: %w", err)
			}
		case code == http.StatusOK || code == http.StatusUnprocessableEntity:
			return parseEffect(body)
		default:
			return api.Effect{}, fmt.Errorf("%s answers /dry-run with status %d: is that a proxy's admin address?", c.Admin.Address, code)
		}
	}
}

const maxListed = 100

// parseEffect reads the answer to POST /dry-run, and bounds and cleans what it says.
func parseEffect(body []byte) (api.Effect, error) {
	var d adminapi.Verdict
	if err := json.Unmarshal(body, &d); err != nil {
		return api.Effect{}, fmt.Errorf("read the answer to /dry-run: %w", err)
	}
	e := api.Effect{
		OK: d.OK, Unchanged: d.Unchanged, Kept: addCounts(0, d.Kept), Ended: addCounts(0, d.Ended),
		ByReason: counts(d.ByReason), ByRule: counts(d.ByRule), ByCertificate: map[string]int{},
	}
	for _, p := range d.Problems[:min(len(d.Problems), maxListed)] {
		e.Problems = append(e.Problems, clean(p.Text, maxErrorText))
	}
	for _, c := range d.ByCertificate[:min(len(d.ByCertificate), maxListed)] {
		serial := clean(c.Serial, maxShortText)
		e.ByCertificate[serial] = addCounts(e.ByCertificate[serial], c.Sessions)
	}
	for _, s := range d.Sessions[:min(len(d.Sessions), maxListed)] {
		out := api.Session{Connection: s.Connection, Addr: s.Addr, Since: s.Since, User: s.User, Database: s.Database, Rule: s.Rule, Refusal: s.Reason}
		if s.Certificate != nil {
			out.Serial = s.Certificate.Serial
		}
		out.Since = plausible(out.Since)
		for _, text := range []*string{&out.Connection, &out.Addr, &out.User, &out.Database, &out.Rule, &out.Serial, &out.Refusal} {
			*text = clean(*text, maxShortText)
		}
		e.Sessions = append(e.Sessions, out)
	}
	if len(e.ByCertificate) == 0 {
		e.ByCertificate = nil
	}
	return e, nil
}
