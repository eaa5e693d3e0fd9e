package control

import (
	"io"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
)

// relay is the network between agents and daemons: an address that stays, with whoever serves behind it. It can be cut.
type relay struct {
	listener net.Listener
	carrying sync.WaitGroup

	mu     sync.Mutex
	target string // empty: cut
	conns  map[net.Conn]bool
}

// newRelay listens until the end of the test. It leads to the plane.
func newRelay(t testing.TB, p *plane) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, conns: map[net.Conn]bool{}}
	r.leadTo(t, p)
	r.carrying.Go(r.accept)
	t.Cleanup(func() {
		listener.Close()
		r.cut()
		r.carrying.Wait()
	})
	return r
}

// url is where agents find the control plane.
func (r *relay) url() string { return "https://" + r.listener.Addr().String() }

// leadTo leads new connections to where a plane listens now.
func (r *relay) leadTo(t testing.TB, p *plane) {
	t.Helper()
	at, err := url.Parse(p.url(t))
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = at.Host
}

// cut ends every connection, and refuses new ones until there is somewhere to lead to.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = ""
	for conn := range r.conns {
		conn.Close()
	}
}

func (r *relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.carrying.Go(func() { r.carry(conn) })
	}
}

// carry carries one connection in both directions, until one end is done or the relay is cut.
func (r *relay) carry(near net.Conn) {
	defer near.Close()
	r.mu.Lock()
	target := r.target
	r.mu.Unlock()
	if target == "" {
		return
	}
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	r.mu.Lock()
	if r.target != target { // cut meanwhile
		r.mu.Unlock()
		return
	}
	r.conns[near], r.conns[far] = true, true
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(near, far)
		near.Close()
	})
	io.Copy(far, near)
	far.Close()
	back.Wait()
	r.mu.Lock()
	delete(r.conns, near)
	delete(r.conns, far)
	r.mu.Unlock()
}

// helper is an agent beside a front; it may be killed and started again.
type helper struct {
	*process
	State string // its own directory
	args  []string
}

// newHelper registers the front as the database's proxy of that name, and enrols an agent for it.
func newHelper(t testing.TB, p *plane, r *relay, place struct{ database, proxy string }, f *front) *helper {
	t.Helper()
	dir := t.TempDir()
	h := &helper{State: filepath.Join(dir, "state")}
	p.do(t, "proxies", "add", place.database, place.proxy)
	p.do(t, "agents", "create", place.database, place.proxy, "--dir", dir)
	h.args = []string{"agent", "--database", place.database, "--control", r.url(), "--ca", filepath.Join(dir, "control-ca.pem"),
		"--token-file", filepath.Join(dir, "agent.token"), "--state", h.State, "--policy-dir", f.PolicyDir, "--admin", f.Admin}
	h.start(t)
	return h
}

// start starts the agent, again or for the first time. It does not wait: an agent needs nobody to be there.
func (h *helper) start(t testing.TB) {
	t.Helper()
	h.process = launch(t, "the agent", pgmtlsPath, h.args...)
}
