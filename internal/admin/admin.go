// Package admin answers the operator and the control plane over HTTP: is the process alive, is it ready, what is in
// force, who is connected, its metrics, why somebody is refused, and what another policy would do.
//
// It changes nothing. It has no authentication, which is why it listens on loopback or a unix socket
// unless the operator insists; what it tells is in docs/monitoring.md. No key, no cancel key and no query is
// within its reach.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/connlimit"
	"pgmtls-proxy/internal/policy"
	"pgmtls-proxy/internal/safetext"
	"pgmtls-proxy/internal/session"
)

// Server is the admin endpoint. All exported fields are needed; set them before the first call.
type Server struct {
	Policy    *policy.Live
	Sessions  *session.Server
	Try       func(context.Context, policy.Draft) (*policy.Snapshot, error) // builds a policy that is not in force
	Metrics   prometheus.Gatherer
	Built     buildinfo.Info // what the program was built from
	Started   time.Time
	Log       zerolog.Logger // of what goes wrong with requests
	PolicyDir string         // that the policy is read from, an absolute path
	// LogLinesDropped returns how many lines of the log were lost so far; nil: none can be.
	LogLinesDropped func() uint64
	AnyHost         bool // requests may name this server as they like: it is reached by a name of the network

	phase  atomic.Pointer[Phase]
	trying sync.Mutex    // one dry run at a time
	bodies chan struct{} // holds the bodies that are being read
}

// Phase is where the process stands in its life.
type Phase string

// The phases, in their order. A process is ready in Serving, once it has a policy.
const (
	Starting Phase = "starting"
	Serving  Phase = "serving"
	Draining Phase = "draining"
)

// SetPhase moves the process on. It may be called at any time.
func (s *Server) SetPhase(phase Phase) { s.phase.Store(&phase) }

func (s *Server) currentPhase() Phase {
	if phase := s.phase.Load(); phase != nil {
		return *phase
	}
	return Starting
}

// HTTP makes the HTTP server, with bounds on what a client can take.
func (s *Server) HTTP() *http.Server {
	s.bodies = make(chan struct{}, maxBodies)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.livez)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /sessions", s.sessions)
	mux.HandleFunc("POST /explain", s.explain)
	mux.HandleFunc("POST /dry-run", s.dryRun)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /{$}", s.index)
	return &http.Server{
		// A page in a browser on this host must not ask for its visitor.
		Handler:           s.checkHost(http.NewCrossOriginProtection().Handler(mux)),
		ErrorLog:          log.New(s.Log, "", 0),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
}

// Bounds of the open connections to the admin address. A probe, Prometheus, the control plane and an operator ask there.
const (
	MaxConns           = 64
	maxConnsPerAddress = 32
)

// Serve answers on the listener until it is closed, on conns connections at once; MaxConns is what a few programs need. One address
// gets half of them at most. Others are closed at once.
func Serve(server *http.Server, listener net.Listener, conns int) error {
	if err := server.Serve(connlimit.New(listener, conns, min(maxConnsPerAddress, max(conns/2, 1)))); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin address: %w", err)
	}
	return nil
}

func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, "pgmtls-proxy "+s.Built.Version+"\n/livez /readyz /status /sessions /metrics\nPOST: explain dry-run")
}

// livez says that the process runs. A probe that restarts it should ask this and nothing more.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") }

// readyz reports whether new connections are served. The database is not asked: when it is down, clients are better
// off with the proxy's readable answer than with a refused connection, and /status and the metrics show it.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	phase := s.currentPhase()
	switch {
	case phase != Serving:
		text(w, http.StatusServiceUnavailable, string(phase))
	case s.Policy.Current() == nil:
		text(w, http.StatusServiceUnavailable, "no policy in force: "+s.Policy.Status().Error)
	default:
		text(w, http.StatusOK, "ok")
	}
}

func text(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	w.Write([]byte(line + "\n"))
}

func answer(w http.ResponseWriter, value any) { answerWith(w, http.StatusOK, value) }

func answerWith(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(value) // the values of this package can be encoded; a client that is gone can't be told
}

// maxBody bounds what is asked with, in bytes. It is the bound of a policy; a chain of certificates has some 10 kB.
const maxBody = 128 << 10

// maxBodies bounds how many bodies are read at once.
const maxBodies = 8

// body reads what is asked with, or answers that it can't be read. The place is taken before the first byte is read, so that who
// has to wait takes no memory, and given back when the body is whole.
func (s *Server) body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	select {
	case s.bodies <- struct{}{}:
		defer func() { <-s.bodies }()
	default:
		text(w, http.StatusTooManyRequests, "too many requests are being read; try again")
		return nil, false
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		text(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", maxBody))
	case err != nil:
		text(w, http.StatusBadRequest, "the body can't be read")
	}
	return safetext.WithoutMark(content), err == nil
}
