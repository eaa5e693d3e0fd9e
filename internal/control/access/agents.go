package access

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// seenEvery is how exactly it is known when an agent was last there. Each time it is written is a commit.
const seenEvery = time.Minute

// agentURI begins the name in an agent's certificate; its id follows.
const agentURI = "urn:pgmtls:agent:"

// AgentInfo is an enrolled agent: the one that delivers to one proxy of one database.
type AgentInfo struct {
	ID         string    `json:"id"` // UUID
	Database   string    `json:"database"`
	Proxy      string    `json:"proxy"`
	Serial     string    `json:"serial"` // of its certificate
	ExpiresAt  time.Time `json:"expires_at"`
	EnrolledAt time.Time `json:"enrolled_at"`
	LastSeen   time.Time `json:"last_seen_at,omitzero"` // to the minute
}

// agentRecord is what is stored.
type agentRecord struct {
	AgentInfo
	// Next is a renewed certificate that was not used yet. Until it is, the one before counts too: its holder may
	// never have got the answer.
	Next      string    `json:"next,omitempty"`
	NextUntil time.Time `json:"next_until,omitzero"`
}

func (r agentRecord) admits(serial string) bool {
	return serial != "" && (serial == r.Serial || serial == r.Next)
}

// Agents are the enrolled agents, in the store. Its methods may be called from any goroutine.
type Agents struct {
	docs    *docstore.Docs
	tokens  *Tokens
	control *Control
	now     func() time.Time
}

// Check returns the agent that has a certificate, which the TLS layer has verified against the control CA. The error is
// ErrUnknown, ErrExpired, or the store's.
func (a *Agents) Check(ctx context.Context, certificate *x509.Certificate) (Caller, error) {
	if len(certificate.URIs) != 1 {
		return Caller{}, ErrUnknown
	}
	id, ok := strings.CutPrefix(certificate.URIs[0].String(), agentURI)
	if !ok || !isAgentID(id) {
		return Caller{}, ErrUnknown
	}
	if !a.now().Before(certificate.NotAfter) {
		// The connection is older than that.
		return Caller{}, fmt.Errorf("%w at %s; make a token with \"pgmtls agents create\" and start the agent with it, which enrols it anew",
			ErrExpired, certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	serial := serialText(certificate)
	// What is written here is a side effect of whatever the agent asks. Others write it too, and then there is
	// nothing left to write.
	for range 3 {
		item, err := a.docs.Get(ctx, keyAgents+id)
		if errors.Is(err, store.ErrNotFound) {
			return Caller{}, ErrUnknown
		}
		if err != nil {
			return Caller{}, fmt.Errorf("look up agent: %w", err)
		}
		record, err := docstore.Decode[agentRecord](item)
		if err != nil {
			return Caller{}, err
		}
		if !record.admits(serial) {
			return Caller{}, ErrUnknown
		}
		if err := a.seen(ctx, item, record, serial); errors.Is(err, store.ErrConflict) {
			continue
		} else if err != nil {
			return Caller{}, err
		}
		return Caller{Kind: Agent, ID: id, Name: "agent:" + id, Database: record.Database, Proxy: record.Proxy,
			Until: certificate.NotAfter, serial: serial}, nil
	}
	return Caller{}, fmt.Errorf("look up agent: %w", store.ErrConflict)
}

// seen notes that an agent was there, and that a renewed certificate replaces the one before.
func (a *Agents) seen(ctx context.Context, item store.Item, record agentRecord, serial string) error {
	now := a.now()
	renewed := serial == record.Next
	if !renewed && now.Sub(record.LastSeen) < seenEvery {
		return nil
	}
	record.LastSeen = now.Truncate(time.Second)
	if renewed {
		record.Serial, record.ExpiresAt, record.Next, record.NextUntil = record.Next, record.NextUntil, "", time.Time{}
	}
	tx := new(store.Tx)
	tx.If(item.Key, item.Revision)
	if err := docstore.Put(tx, item.Key, record); err != nil {
		return err
	}
	_, err := a.docs.Commit(ctx, tx)
	return err
}

// Seen notes that an agent with an open stream is still there.
func (a *Agents) Seen(ctx context.Context, c Caller) error {
	item, err := a.docs.Get(ctx, keyAgents+c.ID)
	if errors.Is(err, store.ErrNotFound) {
		return ErrUnknown
	}
	if err != nil {
		return err
	}
	record, err := docstore.Decode[agentRecord](item)
	if err != nil {
		return err
	}
	if err := a.seen(ctx, item, record, c.serial); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil // somebody else has noted something just now
}

// List returns all agents, ordered by database and proxy.
func (a *Agents) List(ctx context.Context) ([]AgentInfo, error) {
	items, _, err := a.docs.List(ctx, keyAgents)
	if err != nil {
		return nil, fmt.Errorf("list agents: %w", err)
	}
	agents := make([]AgentInfo, 0, len(items))
	for _, item := range items {
		record, err := docstore.Decode[agentRecord](item)
		if err != nil {
			return nil, err
		}
		agents = append(agents, record.AgentInfo)
	}
	slices.SortFunc(agents, func(a, b AgentInfo) int {
		return cmp.Or(strings.Compare(a.Database, b.Database), strings.Compare(a.Proxy, b.Proxy), strings.Compare(a.ID, b.ID))
	})
	return agents, nil
}

// Revoke ends an agent: its certificates are good for nothing from now on, and its stream ends.
func (a *Agents) Revoke(ctx context.Context, id string) (AgentInfo, error) {
	for ctx.Err() == nil {
		item, err := a.docs.Get(ctx, keyAgents+id)
		if errors.Is(err, store.ErrNotFound) {
			return AgentInfo{}, problem.New(problem.NotFound, "there is no such agent")
		}
		if err != nil {
			return AgentInfo{}, fmt.Errorf("revoke agent: %w", err)
		}
		record, err := docstore.Decode[agentRecord](item)
		if err != nil {
			return AgentInfo{}, err
		}
		tx := new(store.Tx)
		tx.If(item.Key, item.Revision)
		tx.Delete(item.Key)
		tx.Delete(record.placeKey())
		if _, err = a.docs.Commit(ctx, tx); err == nil {
			return record.AgentInfo, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return AgentInfo{}, fmt.Errorf("revoke agent: %w", err)
		}
	}
	return AgentInfo{}, ctx.Err()
}

// RevokeFor ends the agents of one database that are not for one of the proxies: when proxies are removed, or the
// database is. It gives those that it ended.
func (a *Agents) RevokeFor(ctx context.Context, database string, proxies []string) ([]AgentInfo, error) {
	agents, err := a.List(ctx)
	if err != nil {
		return nil, err
	}
	var ended []AgentInfo
	for _, agent := range agents {
		if agent.Database != database || slices.Contains(proxies, agent.Proxy) {
			continue
		}
		if _, err := a.Revoke(ctx, agent.ID); err != nil && !problem.Is(err, problem.NotFound) {
			return ended, err
		}
		ended = append(ended, agent)
	}
	return ended, nil
}

// isAgentID keeps text of strangers from being a key of the store.
func isAgentID(id string) bool { return len(id) == 36 && consistsOf(id, hexDigits+"-") }

// placeKey is where the store says which agent a proxy has.
func (a AgentInfo) placeKey() string { return keyAgentOf + a.Database + "/" + a.Proxy }
