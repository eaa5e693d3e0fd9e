package access

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/store"
)

// Options make an [Access].
type Options struct {
	Docs  *docstore.Docs   // its ring seals the control CA's key
	Names []string         // DNS names and IP addresses of the API's certificate, besides those of loopback
	Now   func() time.Time // nil: the clock
}

// Access is all that decides who may ask. Its methods, and those of its parts, may be called from any goroutine.
type Access struct {
	Tokens  *Tokens
	Agents  *Agents
	Control *Control

	docs *docstore.Docs
	now  func() time.Time
}

// Open returns the access to one control plane. The control CA is made if there is none; of daemons that start together
// one makes it.
func Open(ctx context.Context, o Options) (*Access, error) {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	utc := func() time.Time { return now().UTC() }
	control, err := openControl(ctx, o, utc)
	if err != nil {
		return nil, fmt.Errorf("control CA: %w", err)
	}
	tokens := &Tokens{docs: o.Docs, now: utc}
	agents := &Agents{docs: o.Docs, tokens: tokens, control: control, now: utc}
	return &Access{Tokens: tokens, Agents: agents, Control: control, docs: o.Docs, now: utc}, nil
}

// Hold returns a context that ends as soon as the caller may not ask any more: the token or the agent was revoked, by
// whichever daemon, or has expired. It is for answers that go on. The cause is ErrUnknown, ErrExpired, the store's
// error, or that of the given ctx. Stop must be called, and waits for what Hold started.
func (a *Access) Hold(ctx context.Context, c Caller) (held context.Context, stop func()) {
	held, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { cancel(a.revoked(held, c)) })
	if c.Until.IsZero() {
		return held, func() { cancel(nil); watching.Wait() }
	}
	timer := time.AfterFunc(c.Until.Sub(a.now()), func() { cancel(ErrExpired) })
	return held, func() { timer.Stop(); cancel(nil); watching.Wait() }
}

// revoked returns ErrUnknown once the caller's record is gone, and the error of ctx or of the store before.
func (a *Access) revoked(ctx context.Context, c Caller) error {
	key := keyTokens + c.ID
	if c.Kind == Agent {
		key = keyAgents + c.ID
	}
	items, revision, err := a.docs.List(ctx, key)
	if err != nil {
		return err
	}
	if len(items) != 1 || !c.holds(items[0]) {
		return ErrUnknown
	}
	for events, err := range a.docs.Watch(ctx, key, revision) {
		if err != nil {
			return err
		}
		if last := events[len(events)-1]; last.Deleted || !c.holds(last.Item) {
			return ErrUnknown
		}
	}
	return context.Cause(ctx)
}

// holds reports whether a record still admits the caller. A token's admits while it is there, an agent's while the
// certificate is one of its own.
func (c Caller) holds(item store.Item) bool {
	if c.Kind != Agent {
		return true
	}
	record, err := docstore.Decode[agentRecord](item)
	return err == nil && record.admits(c.serial)
}
