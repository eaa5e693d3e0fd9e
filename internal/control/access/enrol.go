package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"pgmtls-proxy/internal/control/authority"
	"pgmtls-proxy/internal/control/docstore"
	"pgmtls-proxy/internal/control/problem"
	"pgmtls-proxy/internal/control/store"
)

// enrolWithin is how long an enrolment token is good for.
const enrolWithin = time.Hour

// Certified is an agent's certificate.
type Certified struct {
	Agent          AgentInfo
	CertificatePEM string
	RenewAt        time.Time
	ExpiresAt      time.Time
}

// Place is what an agent delivers to.
type Place struct {
	Database string // id
	Proxy    string // name
}

// Invite makes the one-time token with which an agent of the proxy can enrol within an hour.
func (a *Agents) Invite(ctx context.Context, p Place, by string) (Token, string, error) {
	var random = uuid.New()
	return a.tokens.Create(ctx, NewToken{
		Name: fmt.Sprintf("enrol-%x", random[:6]),
		Kind: Enrolment, Database: p.Database, Proxy: p.Proxy,
		ExpiresAt: a.now().Add(enrolWithin).Truncate(time.Second), CreatedBy: by,
	})
}

// Enrol makes an agent of who came with an enrolment token, for the key of the request, a CSR. The token is used up
// by the transaction that records the agent: of two that come with it one gets in. An agent that the proxy had before
// ends with it, so that there is one that speaks for the proxy.
func (a *Agents) Enrol(ctx context.Context, c Caller, csr []byte) (Certified, error) {
	if err := c.May(Enrol, c.Database); err != nil {
		return Certified{}, err
	}
	record := agentRecord{AgentInfo: AgentInfo{ID: uuid.NewString(), Database: c.Database, Proxy: c.Proxy, EnrolledAt: a.now().Truncate(time.Second)}}
	certified, serial, err := a.certify(record.AgentInfo, csr)
	if err != nil {
		return Certified{}, err
	}
	record.Serial, record.ExpiresAt = serial, certified.ExpiresAt
	certified.Agent = record.AgentInfo
	for ctx.Err() == nil {
		token, err := a.docs.Get(ctx, keyTokens+c.ID)
		if errors.Is(err, store.ErrNotFound) {
			return Certified{}, ErrUnknown // somebody was faster with the same token
		}
		if err != nil {
			return Certified{}, fmt.Errorf("enrol: %w", err)
		}
		tx := new(store.Tx)
		tx.If(token.Key, token.Revision)
		tx.Delete(token.Key)
		tx.Delete(keyTokenNames + c.Name)
		if err := a.replace(ctx, tx, record); err != nil {
			return Certified{}, err
		}
		if _, err := a.docs.Commit(ctx, tx); err == nil {
			return certified, nil
		} else if !errors.Is(err, store.ErrConflict) {
			return Certified{}, fmt.Errorf("enrol: %w", err)
		}
	}
	return Certified{}, ctx.Err()
}

// replace puts an agent in the place of the one that its proxy has.
func (a *Agents) replace(ctx context.Context, tx *store.Tx, record agentRecord) error {
	before, err := a.docs.Get(ctx, record.placeKey())
	switch {
	case errors.Is(err, store.ErrNotFound):
		tx.If(record.placeKey(), 0)
	case err != nil:
		return fmt.Errorf("enrol: %w", err)
	default:
		tx.If(record.placeKey(), before.Revision)
		tx.Delete(keyAgents + string(before.Value))
	}
	tx.Put(record.placeKey(), []byte(record.ID))
	return docstore.Put(tx, keyAgents+record.ID, record)
}

// Renew issues the successor of the certificate that an agent presented, which stays valid until the successor is used.
func (a *Agents) Renew(ctx context.Context, c Caller, csr []byte) (Certified, error) {
	if err := c.May(Deliver, c.Database); err != nil {
		return Certified{}, err
	}
	for ctx.Err() == nil {
		item, err := a.docs.Get(ctx, keyAgents+c.ID)
		if errors.Is(err, store.ErrNotFound) {
			return Certified{}, ErrUnknown
		}
		if err != nil {
			return Certified{}, fmt.Errorf("renew: %w", err)
		}
		record, err := docstore.Decode[agentRecord](item)
		if err != nil {
			return Certified{}, err
		}
		if !record.admits(c.serial) {
			return Certified{}, ErrUnknown
		}
		certified, serial, err := a.certify(record.AgentInfo, csr)
		if err != nil {
			return Certified{}, err
		}
		record.Next, record.NextUntil = serial, certified.ExpiresAt
		tx := new(store.Tx)
		tx.If(item.Key, item.Revision)
		if err := docstore.Put(tx, item.Key, record); err != nil {
			return Certified{}, err
		}
		if _, err := a.docs.Commit(ctx, tx); err == nil {
			return certified, nil
		} else if !errors.Is(err, store.ErrConflict) {
			return Certified{}, fmt.Errorf("renew: %w", err)
		}
	}
	return Certified{}, ctx.Err()
}

// certify issues a client certificate for an agent.
func (a *Agents) certify(agent AgentInfo, csr []byte) (certified Certified, serial string, err error) {
	public, err := authority.ParseRequest(csr)
	if err != nil {
		return Certified{}, "", problem.New(problem.InvalidParams, "csr: %v", err)
	}
	now := a.now()
	issued, err := a.control.ca.IssueClient(authority.Request{
		CommonName: "pgmtls agent", URIs: []string{agentURI + agent.ID}, PublicKey: public,
		NotBefore: now.Add(-backdated), NotAfter: now.Add(leafLife),
	})
	if err != nil {
		return Certified{}, "", fmt.Errorf("agent certificate: %w", err)
	}
	return Certified{Agent: agent, CertificatePEM: string(issued.CertificatePEM),
		RenewAt: renewalOf(now, issued.NotAfter).Truncate(time.Second), ExpiresAt: issued.NotAfter}, issued.Serial, nil
}
