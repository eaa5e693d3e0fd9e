package store

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pgmtls-proxy/internal/testkit/etcdtest"
)

func endpoints(nodes []*etcdtest.Node) []string {
	var urls []string
	for _, n := range nodes {
		urls = append(urls, "http://"+n.Client)
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
	address := etcdtest.Free(t, 1)[0]
	_, err := Open(within(t), Options{Endpoints: []string{"http://" + address}, DialTimeout: 300 * time.Millisecond})
	says(t, err, address)
	says(t, err, "check that etcd runs there")
	says(t, err, "connection refused")
}

func TestEndpointMustBeAURL(t *testing.T) {
	for _, endpoint := range []string{"", "10.0.0.1:2379", "localhost", "ftp://localhost:2379", "http:2379", "://"} {
		_, err := Open(within(t), Options{Endpoints: []string{endpoint}})
		says(t, err, fmt.Sprintf("endpoint %q is not a URL such as https://10.0.0.1:2379", endpoint))
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
		Endpoints:   []string{"https://" + silent.Addr().String(), "http://" + etcdtest.Free(t, 1)[0]},
		DialTimeout: 300 * time.Millisecond,
	}
	_, err = Open(within(t), options)
	for _, endpoint := range options.Endpoints {
		says(t, err, endpoint)
	}
}

func TestStoreNeedsAPlace(t *testing.T) {
	_, err := Open(within(t), Options{})
	says(t, err, "neither a data directory nor etcd endpoints")
}

func TestStoreGoesOnWithTwoOfThreeNodes(t *testing.T) {
	nodes := etcdtest.Cluster(t)
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
	leader(t, nodes).Kill()

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

// leader returns the node that leads the cluster, as each says of itself.
func leader(t *testing.T, nodes []*etcdtest.Node) *etcdtest.Node {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints(nodes), DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, n := range nodes {
		status, err := client.Status(within(t), "http://"+n.Client)
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == status.Header.MemberId {
			return n
		}
	}
	t.Fatal("no leader")
	return nil
}
