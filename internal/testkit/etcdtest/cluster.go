// Package etcdtest starts etcd clusters that are nobody's but a test's: three members on loopback, each a process of its own,
// with ports and directories of their own.
//
// It is for tests of what is kept in a cluster, and of who shares one. What the product embeds is in store.
package etcdtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// patience is how long a cluster may take to come up. It is long because the machine may be busy.
const patience = 40 * time.Second

// memberVariable has the configuration of a member, for the process that is one.
const memberVariable = "ETCDTEST_MEMBER"

// isReady is what a member prints when it serves clients.
const isReady = "ready"

// member is what a process is told.
type member struct{ Name, Dir, Peers, Clients, Cluster string }

// IsMember reports whether this process was started as a member of a cluster, which it has been by then: TestMain has to
// return. Each TestMain of a package that uses [Cluster] asks first.
func IsMember() bool {
	text := os.Getenv(memberVariable)
	if text == "" {
		return false
	}
	var m member
	err := json.Unmarshal([]byte(text), &m)
	if err == nil {
		err = m.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcdtest:", err)
	}
	return true
}

// run is a member until its standard input ends, which the process of the test holds.
func (m member) run() error {
	config := embed.NewConfig()
	config.Name = m.Name
	config.Dir = m.Dir
	config.ListenPeerUrls = []url.URL{{Scheme: "http", Host: m.Peers}}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.ListenClientUrls = []url.URL{{Scheme: "http", Host: m.Clients}}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.InitialCluster = m.Cluster
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	// No disk is pulled here, and six of these write at once.
	config.UnsafeNoFsync = true
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.Name, err)
	}
	go func() {
		<-server.Server.ReadyNotify()
		fmt.Println(isReady)
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Node is one member of a cluster on loopback.
type Node struct {
	Client string // host and port for clients, by HTTP

	process *exec.Cmd
	hold    io.Closer // its standard input
	ready   chan bool // whether it serves; it has one value
	down    sync.Once
}

// Kill kills a node, which hands nothing over.
func (n *Node) Kill() {
	n.down.Do(func() {
		_ = n.process.Process.Kill() // it may have ended by itself
		_ = n.process.Wait()
		_ = n.hold.Close()
	})
}

// Cluster starts three members, which end with the test.
func Cluster(t *testing.T) []*Node {
	t.Helper()
	for range 5 {
		if nodes := tryCluster(t); nodes != nil {
			return nodes
		}
	}
	t.Fatal("no cluster came up: others took its ports five times")
	return nil
}

// tryCluster returns nil if somebody else has taken a port that was free.
func tryCluster(t *testing.T) []*Node {
	t.Helper()
	const size = 3
	addresses := Free(t, 2*size)
	var initial []string
	for i := range size {
		initial = append(initial, fmt.Sprintf("n%d=http://%s", i, addresses[i]))
	}
	var nodes []*Node
	for i := range size {
		name := fmt.Sprintf("n%d", i)
		n := start(t, member{
			Name: name, Dir: filepath.Join(t.TempDir(), name), Peers: addresses[i], Clients: addresses[size+i], Cluster: strings.Join(initial, ","),
		})
		nodes = append(nodes, n)
	}
	limit := time.After(patience)
	for _, n := range nodes {
		select {
		case serves := <-n.ready:
			if serves {
				continue
			}
			for _, n := range nodes {
				n.Kill()
			}
			return nil
		case <-limit:
			t.Fatal("the cluster did not become ready")
		}
	}
	return nodes
}

// start starts a member, as one more process of the test's program.
func start(t *testing.T, m member) *Node {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Client: m.Clients, process: exec.Command(self), ready: make(chan bool, 1)}
	n.process.Env = append(os.Environ(), memberVariable+"="+string(text))
	n.process.Stderr = os.Stderr
	if n.hold, err = n.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := n.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	go func() {
		line, _ := bufio.NewReader(output).ReadString('\n') // an end without a line is a member that did not start
		n.ready <- strings.TrimSpace(line) == isReady
	}()
	return n
}

// Free finds ports that nobody has. They may be taken again before they are used.
func Free(t *testing.T, n int) []string {
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
