// Package etcdtest starts etcd clusters that are nobody's but a test's: three members on loopback, inside the test's
// process, with ports and directories of their own.
//
// It is for tests of what is kept in a cluster, and of who shares one. What the product embeds is in store.
package etcdtest

import (
	"fmt"
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

// patience is how long a cluster may take to come up. It is long because the machine may be busy.
const patience = 40 * time.Second

// Node is one member of a cluster on loopback.
type Node struct {
	Client string // host and port for clients, by HTTP
	Server *embed.Etcd

	down sync.Once
}

// Kill ends a node as a process would end that is killed: it hands nothing over.
func (n *Node) Kill() {
	n.down.Do(func() {
		n.Server.Server.HardStop()
		n.Server.Close()
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
				n.Kill()
			}
			return nil
		}
		n := &Node{Client: addresses[size+i], Server: server}
		t.Cleanup(n.Kill)
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		select {
		case <-n.Server.Server.ReadyNotify():
		case <-time.After(patience):
			t.Fatal("the cluster did not become ready")
		}
	}
	return nodes
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
