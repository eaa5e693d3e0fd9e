package apiserver

import (
	"context"
	"log"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/control/access"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/audit"
	"pgmtls-proxy/internal/control/informer"
	"pgmtls-proxy/internal/control/proxyquery"
	"pgmtls-proxy/internal/control/registry"
	"pgmtls-proxy/internal/control/store"
)

// Options make a [Server]. Those without a zero value in their comment are needed.
type Options struct {
	Registry *registry.Registry
	Hub      *informer.Hub // of the same store; whoever made it runs it
	Audit    *audit.Trail
	Queries  *proxyquery.Queries
	Access   *access.Access
	Store    *store.Store // for snapshots and health
	Log      zerolog.Logger
	Built    buildinfo.Info // what the daemon was built from

	// LogLinesDropped returns how many lines of the log were lost so far, for health and the metrics; nil: none can be.
	LogLinesDropped func() uint64

	Node        string   // name of this daemon: the proxies beside it carry it
	PolicyRoots []string // directories under which their policy_dir must be; empty: there are none beside it

	Leading func() bool          // whether this daemon leads, for the metrics; nil: it does not
	Metrics *prometheus.Registry // what GET /metrics shows, to which the server adds its own; nil: only that

	Rate  float64 // requests per second of one token, one agent, or one address that shows neither; 0: 50
	Burst int     // at once; 0: 200

	Now func() time.Time // nil: the clock
}

// Server answers the API. Its Handler works without Run, but its agents' streams get nothing.
type Server struct {
	registry *registry.Registry
	trail    *audit.Trail
	queries  *proxyquery.Queries
	access   *access.Access
	store    *store.Store
	log      zerolog.Logger
	built    buildinfo.Info
	node     string
	url      atomic.Pointer[string] // see [Server.Announce]
	roots    []string
	now      func() time.Time
	beat     time.Duration // between heartbeats of streams

	databases *informer.Hub
	hub       *hub
	counts    *counts
	lost      func() uint64 // lines of the log
	callers   *limiters
	anonymous *limiters
	health    health
	saving    chan struct{} // holds the one snapshot that is being taken
	events    chan struct{} // holds the open event streams
	listeners *perCaller    // event streams of each token
	handler   http.Handler

	streams    context.Context // ends with Run, and every open stream with it
	endStreams context.CancelFunc
}

// maxEventStreams bounds the event streams of one daemon. Each of them is a watch of the store.
const maxEventStreams = 128

// New makes a server. It starts nothing.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LogLinesDropped == nil {
		o.LogLinesDropped = func() uint64 { return 0 }
	}
	if o.Rate == 0 {
		o.Rate = 50
	}
	if o.Burst == 0 {
		o.Burst = 200
	}
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	s := &Server{
		registry: o.Registry, trail: o.Audit, queries: o.Queries, access: o.Access, store: o.Store, log: o.Log, built: o.Built,
		node: o.Node, roots: o.PolicyRoots, now: o.Now, beat: api.HeartbeatEvery,
		databases: o.Hub, hub: newHub(),
		callers:   newLimiters(o.Rate, o.Burst, o.Now),
		anonymous: newLimiters(o.Rate, o.Burst, o.Now),
		saving:    make(chan struct{}, 1),
		events:    make(chan struct{}, maxEventStreams),
		listeners: newPerCaller(maxEventStreamsPerToken),
		lost:      o.LogLinesDropped,
	}
	s.counts = newCounts(o.Metrics, controlState{registry: o.Registry, store: o.Store, leading: o.Leading, lost: o.LogLinesDropped, now: o.Now})
	s.streams, s.endStreams = context.WithCancel(context.Background())
	s.handler = s.build(o.Metrics)
	return s
}

// Announce says where other machines reach the API, for those that are to be told. Call it before serving.
func (s *Server) Announce(url string) { s.url.Store(&url) }

// Handler answers every request of the API.
func (s *Server) Handler() http.Handler { return s.handler }

// HTTP makes an HTTP server around the handler, with bounds on what a client can take. Answers that go on, and
// bodies, have deadlines of their own.
func (s *Server) HTTP() *http.Server {
	return &http.Server{
		Handler:           s.handler,
		ErrorLog:          log.New(warnings{s.log}, "", 0),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// warnings takes what net/http says of connections: of handshakes that failed, most of all.
type warnings struct{ log zerolog.Logger }

func (w warnings) Write(text []byte) (int, error) {
	w.log.Warn().Msg(strings.TrimSpace(string(text)))
	return len(text), nil
}

// Run notifies the open streams of what changes, until ctx ends, and ends them then: whoever shuts the HTTP server down would
// wait for them. It must run as long as requests are served, and once.
func (s *Server) Run(ctx context.Context) {
	defer s.endStreams()
	s.hub.run(ctx, s.databases, s.queries, s.log)
}
