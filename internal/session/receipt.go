package session

import (
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
	Ended              map[refusal.Reason]int // sessions, by what they would be refused for
	Kept               int                    // sessions that go on
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
	swept bool // every session was asked
	left  int  // sessions that are still to end
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
		r.list = slices.Delete(r.list, 0, len(r.list)-maxReceipts)
	}
}

// current is the newest receipt, nil if there is none.
func (r *receipts) current() *pendingReceipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return nil
	}
	return r.list[len(r.list)-1]
}

// forbid counts a session that is told to end.
func (r *receipts) forbid(p *pendingReceipt, reason refusal.Reason) {
	if p == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Ended[reason]++
	p.left++
}

// gone counts one that has ended, and reports whether the receipt is complete with it.
func (r *receipts) gone(p *pendingReceipt) (complete bool) {
	if p == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.left--
	return r.settle(p)
}

// swept says that every session was asked, and reports whether the receipt is complete with it.
func (r *receipts) swept(p *pendingReceipt, kept int) (complete bool) {
	if p == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.swept, p.Kept = true, kept
	return r.settle(p)
}

// settle completes a receipt, and with it those of the changes before, which it has replaced. Called with mu held.
func (r *receipts) settle(p *pendingReceipt) bool {
	if !p.swept || p.left > 0 || !p.InForceAt.IsZero() {
		return false
	}
	now := time.Now()
	for _, each := range r.list {
		if each.InForceAt.IsZero() && each.left == 0 {
			each.InForceAt = now
		}
		if each == p {
			break
		}
	}
	return true
}

// Receipts are those of the last changes, the oldest first.
func (s *Server) Receipts() []Receipt {
	s.receipts.mu.Lock()
	defer s.receipts.mu.Unlock()
	list := make([]Receipt, 0, len(s.receipts.list))
	for _, p := range s.receipts.list {
		receipt := p.Receipt
		receipt.Ended = make(map[refusal.Reason]int, len(p.Ended))
		for reason, n := range p.Ended {
			receipt.Ended[reason] = n
		}
		list = append(list, receipt)
	}
	return list
}
