package takeover

// peer is the process at the other end, as the kernel knows it.
type peer struct{ PID, UID int }

const root = 0

// trusted reports whether a process of the user may hand sockets to the peer, and take them from it. Root could have them
// anyway (ptrace(2)). Nobody else gets connections by taking them, or by putting a door of their own at the path.
func (p peer) trusted(user int) bool { return p.UID == user || p.UID == root }
