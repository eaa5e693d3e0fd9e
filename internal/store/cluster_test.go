package store

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// node is one member of a cluster on loopback.
type node struct {
	client string // host and port
	server *embed.Etcd
	down   sync.Once
}

// kill ends a node as a process would end that is killed: it hands nothing over.
func (n *node) kill() {
	n.down.Do(func() {
		n.server.Server.HardStop()
		n.server.Close()
	})
}

// cluster starts three members.
func cluster(t *testing.T) []*node {
	t.Helper()
	for range 5 {
		if nodes := tryCluster(t); nodes != nil {
			return nodes
		}
	}
	t.Fatal("no cluster came up: others took its ports five times")
	return nil
}

// tryCluster gives nil if somebody else has taken a port that was free.
func tryCluster(t *testing.T) []*node {
	t.Helper()
	const size = 3
	addresses := free(t, 2*size)
	var initial []string
	for i := range size {
		initial = append(initial, fmt.Sprintf("n%d=http://%s", i, addresses[i]))
	}
	var nodes []*node
	for i := range size {
		config := embed.NewConfig()
		config.Name = fmt.Sprintf("n%d", i)
		config.Dir = filepath.Join(t.TempDir(), config.Name)
		config.ListenPeerUrls = []url.URL{{Scheme: "http", Host: addresses[i]}}
		config.AdvertisePeerUrls = config.ListenPeerUrls
		config.ListenClientUrls = []url.URL{{Scheme: "http", Host: addresses[size+i]}}
		config.AdvertiseClientUrls = config.ListenClientUrls
		config.InitialCluster = strings.Join(initial, ",")
		config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		// No disk is pulled here, and six of these write at once.
		config.UnsafeNoFsync = true
		server, err := embed.StartEtcd(config)
		if err != nil {
			t.Logf("start %s: %v", config.Name, err)
			for _, n := range nodes {
				n.kill()
			}
			return nil
		}
		n := &node{client: addresses[size+i], server: server}
		t.Cleanup(n.kill)
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		select {
		case <-n.server.Server.ReadyNotify():
		case <-within(t).Done():
			t.Fatal("the cluster did not become ready")
		}
	}
	return nodes
}

// free finds ports that nobody has. They may be taken again before they are used.
func free(t *testing.T, n int) []string {
	t.Helper()
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

func endpoints(nodes []*node) []string {
	var urls []string
	for _, n := range nodes {
		urls = append(urls, "http://"+n.client)
	}
	return urls
}

// wire is a connection to a node that can be cut.
type wire struct {
	listener net.Listener
	target   string
	carriers sync.WaitGroup

	mu      sync.Mutex
	open    map[net.Conn]bool
	refused bool
	ended   int
}

func forward(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, target: target, open: map[net.Conn]bool{}}
	w.carriers.Go(w.serve)
	t.Cleanup(func() {
		l.Close()
		w.refuse(true)
		w.carriers.Wait()
	})
	return w
}

func (w *wire) url() string { return "http://" + w.listener.Addr().String() }

func (w *wire) serve() {
	for {
		conn, err := w.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			w.carriers.Go(func() { w.carry(conn) })
		}
	}
}

func (w *wire) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	w.mu.Lock()
	if w.refused {
		w.mu.Unlock()
		return
	}
	w.open[client] = true
	w.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(client, server)
		client.Close()
	})
	io.Copy(server, client)
	server.Close()
	back.Wait()
}

// cut ends every connection.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.open {
		conn.Close()
		delete(w.open, conn)
		w.ended++
	}
}

// refuse cuts the wire until it is told otherwise.
func (w *wire) refuse(refused bool) {
	w.mu.Lock()
	w.refused = refused
	w.mu.Unlock()
	if refused {
		w.cut()
	}
}

func (w *wire) cuts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

func TestClusterThatDoesNotAnswerIsNamed(t *testing.T) {
	address := free(t, 1)[0]
	_, err := Open(within(t), Options{Endpoints: []string{"http://" + address}, DialTimeout: 300 * time.Millisecond})
	says(t, err, address)
	says(t, err, "see that etcd runs there")
	says(t, err, "connection refused")
}

func TestEndpointMustBeAURL(t *testing.T) {
	for _, endpoint := range []string{"", "10.0.0.1:2379", "localhost", "ftp://localhost:2379", "http:2379", "://"} {
		_, err := Open(within(t), Options{Endpoints: []string{endpoint}})
		says(t, err, fmt.Sprintf("endpoint %q is not a URL as in https://10.0.0.1:2379", endpoint))
	}
}

// Nobody is there who would answer, and nobody who would say so.
func TestMemberThatIsSilentDoesNotHoldUpTheOthers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	options := Options{
		Endpoints:   []string{"https://" + silent.Addr().String(), "http://" + free(t, 1)[0]},
		DialTimeout: 300 * time.Millisecond,
	}
	_, err = Open(within(t), options)
	for _, endpoint := range options.Endpoints {
		says(t, err, endpoint)
	}
}

func TestStoreNeedsAPlace(t *testing.T) {
	_, err := Open(within(t), Options{})
	says(t, err, "neither a data directory nor endpoints")
}

func TestStoreGoesOnWithTwoOfThreeNodes(t *testing.T) {
	nodes := cluster(t)
	s := open(t, Options{Endpoints: endpoints(nodes)})
	ctx := within(t)
	put(t, s, "a", "1")
	if err := s.Health(ctx); err != nil {
		t.Error(err)
	}
	before, err := s.Stats(ctx)
	if err != nil || before.Revision == 0 || before.Size == 0 || before.Version == "" {
		t.Errorf("%+v, %v", before, err)
	}
	leader(t, nodes).kill()

	// What is sent while the others elect a new leader may fail; it must not for long.
	for {
		_, err := s.Commit(ctx, new(Tx).Put("a", []byte("2")))
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if got := content(t, s, "a"); len(got) != 1 || got[0] != "a=2" {
		t.Errorf("got %q", got)
	}
	if err := s.Health(ctx); err != nil {
		t.Error(err)
	}
	if _, err := s.Stats(ctx); err != nil {
		t.Error(err)
	}
}

// leader gives the node that leads the cluster.
func leader(t *testing.T, nodes []*node) *node {
	t.Helper()
	for _, n := range nodes {
		if n.server.Server.Leader() == n.server.Server.MemberID() {
			return n
		}
	}
	t.Fatal("no leader")
	return nil
}
