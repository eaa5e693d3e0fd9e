package session

import (
	"maps"
	"slices"
	"sync"
	"time"

	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/refusal"
)

// Receipt is what became of one change of the policy: when it came into force for new connections, and when the last
// session that it no longer allows was over. A control plane acknowledges with it.
type Receipt struct {
	Generation, Digest string
	AppliedAt          time.Time // new connections follow it since
	InForceAt          time.Time // no session is left that it refuses; zero: not yet
	Changes            policy.Changes
	Ended              map[refusal.Reason]int // sessions, by what they would be refused for; what runs out later is added
	Kept               int                    // sessions that went on
}

// maxReceipts is how many receipts are kept.
const maxReceipts = 32

// receipts are the last ones, the oldest first.
type receipts struct {
	mu   sync.Mutex
	list []*pendingReceipt
}

// pendingReceipt is a receipt that is being filled.
type pendingReceipt struct {
	Receipt
	swept bool            // every session was asked
	left  int             // sessions that are still to end
	heir  *pendingReceipt // of one that is not kept any more: the next one waits for its sessions too
}

// open adds the receipt of a snapshot that has just come into force.
func (r *receipts) open(previous, next *policy.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, &pendingReceipt{Receipt: Receipt{
		Generation: next.Generation,
		Digest:     next.Digest,
		AppliedAt:  next.LoadedAt,
		Changes:    policy.Diff(previous, next),
		Ended:      make(map[refusal.Reason]int),
	}})
	if len(r.list) > maxReceipts {
		r.list[0].heir = r.list[1]
		r.list[1].left += r.list[0].left
		r.list = slices.Delete(r.list, 0, 1)
	}
}

// of is the receipt of the snapshot in force. It is not open while the snapshot is newer than what
// [Server.PolicyChanged] was told. Where nobody tells it anything, there is none and no account is kept.
func (r *receipts) of(snapshot *policy.Snapshot) (p *pendingReceipt, open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return nil, true
	}
	p = r.list[len(r.list)-1]
	return p, p.Digest == snapshot.Digest && p.AppliedAt.Equal(snapshot.LoadedAt)
}

// revoke counts a session that is told to end.
func (r *receipts) revoke(p *pendingReceipt, reason refusal.Reason) {
	if p == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Ended[reason]++
	p.waits().left++
}

// gone counts one that has ended, and gives the receipts that are complete with it.
func (r *receipts) gone(p *pendingReceipt) (complete []Receipt) {
	if p == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.waits().left--
	return r.collect()
}

// waits is the receipt that waits for p's sessions.
func (p *pendingReceipt) waits() *pendingReceipt {
	for p.heir != nil {
		p = p.heir
	}
	return p
}

// swept records that every session was asked, and returns the receipts that are complete with it.
func (r *receipts) swept(p *pendingReceipt, kept int) (complete []Receipt) {
	if p == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !p.swept { // later sweeps are for what runs out
		p.swept, p.Kept = true, kept
	}
	return r.collect()
}

// collect completes receipts, the oldest first. One that was swept is in force when its sessions are over, and those of
// the changes before, which it would most likely refuse too. One that was replaced before its sweep goes with the next.
func (r *receipts) collect() (complete []Receipt) {
	now := time.Now()
	for i, p := range r.list {
		by := slices.IndexFunc(r.list[i:], func(p *pendingReceipt) bool { return p.swept })
		if p.left > 0 || by < 0 {
			break
		}
		if p.InForceAt.IsZero() {
			p.InForceAt, p.Kept = now, r.list[i+by].Kept
			complete = append(complete, p.copied())
		}
	}
	return complete
}

// copied is the receipt as it stands.
func (p *pendingReceipt) copied() Receipt {
	receipt := p.Receipt
	receipt.Ended = maps.Clone(p.Ended)
	return receipt
}

// Receipts are those of the last changes, the oldest first.
func (s *Server) Receipts() []Receipt {
	s.receipts.mu.Lock()
	defer s.receipts.mu.Unlock()
	list := make([]Receipt, 0, len(s.receipts.list))
	for _, p := range s.receipts.list {
		list = append(list, p.copied())
	}
	return list
}
