package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/problem"
)

var digest = regexp.MustCompile(`^([0-9a-f]{64})?$`)

// held is the policy that an agent has, as far as this stream knows.
type held struct {
	generation int64
	digest     string // empty: of the generation that it was sent, or unknown
}

// streamAgent sends an agent the policies and the questions for its proxy.
func streamAgent(c *call) error {
	query := c.r.URL.Query()
	has := held{digest: query.Get("digest")}
	if text := query.Get("generation"); text != "" {
		var err error
		if has.generation, err = strconv.ParseInt(text, 10, 64); err != nil || has.generation < 0 {
			return invalid("generation must be a number from 0, not %s", problem.Quote(text))
		}
	}
	if !digest.MatchString(has.digest) {
		return invalid("digest must be a SHA-256 in hex")
	}
	if err := c.stillThere(); err != nil {
		return err
	}
	ctx, release := c.server.access.Hold(c.ctx(), c.caller)
	defer release()
	subscription, leave := c.server.hub.subscribe(c.caller.ID, c.caller.Database, c.caller.Proxy)
	defer leave()
	out, err := newStream(c, "application/x-ndjson")
	if err != nil {
		return nil // the agent has gone already
	}
	defer out.close()

	beat := time.NewTicker(c.server.beat)
	defer beat.Stop()
	line := api.StreamLine{Heartbeat: &api.Heartbeat{At: utc(c.server.now())}}
	subscription.wake() // what is there already counts as new
	for {
		if line != (api.StreamLine{}) {
			text, err := json.Marshal(line)
			if err != nil {
				return fmt.Errorf("encode a message to an agent: %w", err)
			}
			if out.write(append(text, '\n')) != nil {
				return nil // it will come again
			}
		}
		line = api.StreamLine{}
		select {
		case <-subscription.changed:
			if line, err = c.newest(ctx, &has); err != nil {
				return ended(ctx, err)
			}
		case asked := <-subscription.questions:
			line.Question = &api.Question{ID: asked.ID, Kind: asked.Kind, Policy: asked.Policy}
		case <-beat.C:
			line.Heartbeat = &api.Heartbeat{At: utc(c.server.now())}
			if err := c.server.access.Agents.Seen(ctx, c.caller); errors.Is(err, access.ErrUnknown) {
				return nil
			}
		case <-subscription.replaced:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// ended makes no error of a stream that ended because it had to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || failure(err).ID == api.NotFound {
		return nil
	}
	return err
}

// newest returns the line with the policy as it is now, an empty one when the agent has it. A generation that is behind
// the agent's is not sent: the agent would refuse it. It reports what it has, and the registry goes past that.
func (c *call) newest(ctx context.Context, has *held) (api.StreamLine, error) {
	if err := c.stillThere(); err != nil {
		return api.StreamLine{}, err
	}
	policy, err := c.server.registry.Policy(ctx, c.caller.Database)
	if refused, ok := errors.AsType[*problem.Error](err); ok && refused.ID == problem.NotFound {
		return api.StreamLine{}, nil // there was no mutual TLS yet
	}
	if err != nil {
		return api.StreamLine{}, err
	}
	if policy.Generation < has.generation || policy.Generation == has.generation && (has.digest == "" || has.digest == api.Digest(policy)) {
		return api.StreamLine{}, nil
	}
	*has = held{generation: policy.Generation}
	return api.StreamLine{Policy: &policy}, nil
}

// stillThere reports whether the agent's proxy is one of the database, and the agent's to deliver to.
func (c *call) stillThere() error {
	db, err := c.server.registry.Database(c.ctx(), c.caller.Database)
	if err != nil {
		return err
	}
	if db.WantsAgent(c.caller.Proxy) != nil {
		return &api.Error{ID: api.NotFound, Message: "the database has no proxy " + c.caller.Proxy + " with an agent; stop this agent"}
	}
	return nil
}
