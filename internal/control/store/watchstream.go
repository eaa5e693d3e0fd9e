package store

import (
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
)

// newWatcher returns a watcher of the etcd inside this process, to replace the one that v3client.New makes.
//
// All watches share one stream to the server. Inside a process the stream buffers nothing, and client and server each send in
// the loop in which they receive. When more watches end at once than the server has answers queued (16), each waits for the
// other to receive: no watch of the process ends any more, or sees a change. So requests are received into a queue here, and
// the client never waits for the server's loop.
func newWatcher(server *etcdserver.EtcdServer, client *clientv3.Client) *ownEvents {
	w := &ownEvents{}
	queued := &queuedWatches{WatchServer: v3rpc.NewWatchServer(server), running: &w.running}
	w.Watcher = clientv3.NewWatchFromWatchClient(adapter.WatchServerToWatchClient(queued), client)
	return w
}

// queuedWatches is a server that receives requests whatever it does.
type queuedWatches struct {
	pb.WatchServer
	running *sync.WaitGroup
}

// Watch serves a stream until it ends.
func (q *queuedWatches) Watch(stream pb.Watch_WatchServer) error {
	s := &queuedStream{Watch_WatchServer: stream, more: make(chan struct{}, 1)}
	q.running.Go(s.receive)
	return q.WatchServer.Watch(s)
}

// queuedStream queues requests. There are two of each watch, one that creates it and one that ends it, so the queue is bounded
// by the number of watches.
type queuedStream struct {
	pb.Watch_WatchServer
	more chan struct{} // holds one

	mu      sync.Mutex
	waiting []*pb.WatchRequest
	err     error // after the last request
}

// receive queues what the client sends, until the stream ends.
func (s *queuedStream) receive() {
	for {
		request, err := s.Watch_WatchServer.Recv()
		s.mu.Lock()
		if err != nil {
			s.err = err
		} else {
			s.waiting = append(s.waiting, request)
		}
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// Recv returns the requests in their order, and then the error that ended the stream.
func (s *queuedStream) Recv() (*pb.WatchRequest, error) {
	for {
		s.mu.Lock()
		if len(s.waiting) > 0 {
			request := s.waiting[0]
			s.waiting[0], s.waiting = nil, s.waiting[1:]
			s.mu.Unlock()
			return request, nil
		}
		err := s.err
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		<-s.more // receive ends with the stream, and says so
	}
}
