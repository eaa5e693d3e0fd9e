package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/apiclient"
	"pgmtls-proxy/internal/testkit/eventually"
	"pgmtls-proxy/internal/testkit/must"
	"pgmtls-proxy/internal/testkit/testpki"
)

// control is a control plane of one database and one agent. It does what it is told, also what a good one would not.
type control struct {
	URL    string
	CAFile string
	ca     *testpki.CA
	other  *testpki.CA // what it says that is to be trusted too
	gate   *gate

	mu       sync.Mutex
	changed  chan struct{} // closed at each change
	tokens   []string      // that still work
	current  string        // serial of the agent's certificate
	next     string        // renewed, not yet used
	refuse   bool          // renewed certificates do not work
	life     time.Duration // until a certificate is to be renewed
	policy   *api.Policy
	stubborn bool // sends the policy whatever the agent has
	question *api.Question
	hostile  func(w http.ResponseWriter) // instead of the next stream
	enrolled int
	renewed  int
	has      []apiclient.Has // of the streams
	reports  []api.Report
	answers  []api.Answer
}

// gate is a listener that can be shut: whoever comes then is turned away, and who is in is thrown out.
type gate struct {
	net.Listener
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		if g.shut {
			conn.Close()
		} else {
			g.conns[conn] = true
		}
		shut := g.shut
		g.mu.Unlock()
		if !shut {
			return conn, nil
		}
	}
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	for conn := range g.conns {
		conn.Close()
		delete(g.conns, conn)
	}
}

const theToken = "pgmtls_00000000_token"

func newControl(t *testing.T) *control {
	t.Helper()
	ca := testpki.MustCA(t, "control")
	c := &control{ca: ca, other: testpki.MustCA(t, "the next control"), changed: make(chan struct{}), tokens: []string{theToken}, life: time.Hour, CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	must.OK(t, testpki.WriteFile(c.CAFile, ca.PEM(), 0o644))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.OK(t, err)
	c.gate = &gate{Listener: listener, conns: map[net.Conn]bool{}}
	c.URL = "https://" + listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/agent/enroll", c.enroll)
	mux.HandleFunc("POST /v1/agent/renew", c.ofAgent(c.renew))
	mux.HandleFunc("GET /v1/agent/stream", c.ofAgent(c.stream))
	mux.HandleFunc("POST /v1/agent/reports", c.ofAgent(c.report))
	mux.HandleFunc("POST /v1/agent/answers/{id}", c.ofAgent(c.answer))
	pair := ca.MustIssue(t, testpki.Server("127.0.0.1"))
	server := &http.Server{Handler: mux, ErrorLog: log.New(discard{}, "", 0), TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{pair.TLS()}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool(),
	}}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(c.gate, "", "") }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return c
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// set changes what the control plane does, and tells the open streams.
func (c *control) set(change func(c *control)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
	close(c.changed)
	c.changed = make(chan struct{})
}

// offer is the policy of now.
func (c *control) offer(p api.Policy) { c.set(func(c *control) { c.policy = &p }) }

func (c *control) fail(w http.ResponseWriter, id string) {
	w.WriteHeader(api.StatusOf(id))
	_ = json.NewEncoder(w).Encode(api.Error{ID: id, Message: "said the test"}) // nobody may be there to read it
}

func (c *control) enroll(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	i := slices.Index(c.tokens, token)
	if i < 0 {
		c.fail(w, api.Unauthorized)
		return
	}
	c.tokens = slices.Delete(c.tokens, i, i+1)
	c.enrolled++
	c.current, c.next = c.certify(w, r), ""
}

func (c *control) renew(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewed++
	if c.renewed > 1 {
		c.life = time.Hour
	}
	c.next = c.certify(w, r)
	if c.refuse {
		c.next = ""
	}
}

// certify answers with a certificate, and gives its serial.
func (c *control) certify(w http.ResponseWriter, r *http.Request) string {
	var body api.Certify
	err := json.NewDecoder(r.Body).Decode(&body)
	block, _ := pem.Decode([]byte(body.CSR))
	if err != nil || block == nil {
		c.fail(w, api.InvalidParams)
		return ""
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		c.fail(w, api.InvalidParams)
		return ""
	}
	serial := new(big.Int).SetBytes([]byte(rand.Text())[:16])
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(3 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.ca.Cert, request.PublicKey, c.ca.Key)
	if err != nil {
		c.fail(w, api.Internal)
		return ""
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(api.Certified{
		Agent: "agent-1", Database: database, Proxy: "edge", Certificate: string(encode("CERTIFICATE", der)), ControlCA: string(c.other.PEM()),
		RenewAt: time.Now().Add(c.life), ExpiresAt: template.NotAfter,
	}) // nobody may be there to read it
	return serial.String()
}

// ofAgent lets in the agent alone.
func (c *control) ofAgent(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		serial := ""
		if chains := r.TLS.VerifiedChains; len(chains) > 0 {
			serial = chains[0][0].SerialNumber.String()
		}
		if serial != "" && serial == c.next {
			c.current, c.next = c.next, ""
		}
		good := serial != "" && serial == c.current
		c.mu.Unlock()
		if !good {
			c.fail(w, api.Unauthorized)
			return
		}
		next(w, r)
	}
}

func (c *control) report(w http.ResponseWriter, r *http.Request) {
	var report api.Report
	if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
		c.fail(w, api.BadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, report)
	w.WriteHeader(http.StatusNoContent)
}

func (c *control) answer(w http.ResponseWriter, r *http.Request) {
	var answer api.Answer
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		c.fail(w, api.BadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = append(c.answers, answer)
	w.WriteHeader(http.StatusNoContent)
}

func (c *control) stream(w http.ResponseWriter, r *http.Request) {
	generation, _ := strconv.ParseInt(r.URL.Query().Get("generation"), 10, 64) // left out: 0
	has := apiclient.Has{Generation: generation, Digest: r.URL.Query().Get("digest")}
	c.mu.Lock()
	c.has = append(c.has, has)
	hostile := c.hostile
	c.hostile = nil
	serial := c.current
	c.mu.Unlock()
	if hostile != nil {
		hostile(w)
		return
	}
	out := json.NewEncoder(w)
	if out.Encode(api.StreamLine{Heartbeat: &api.Heartbeat{At: time.Now()}}) != nil {
		return
	}
	var sent *api.Policy
	asked := ""
	for {
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		c.mu.Lock()
		policy, question, changed, revoked := c.policy, c.question, c.changed, c.current != serial
		wanted := policy != nil && policy != sent && (c.stubborn || policy.Generation > has.Generation || policy.Generation == has.Generation && has.Digest != "" && has.Digest != api.Digest(*policy))
		c.mu.Unlock()
		switch {
		case revoked:
			return
		case wanted:
			sent, has = policy, apiclient.Has{Generation: policy.Generation}
			if out.Encode(api.StreamLine{Policy: policy}) != nil {
				return
			}
			continue
		case question != nil && question.ID != asked:
			asked = question.ID
			if out.Encode(api.StreamLine{Question: question}) != nil {
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// told waits for a report that fits.
func (c *control) told(t *testing.T, what string, fits func(api.Report) bool) {
	t.Helper()
	eventually.OK(t, patience, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if slices.ContainsFunc(c.reports, fits) {
			return nil
		}
		last, _ := json.Marshal(c.reports[max(0, len(c.reports)-3):]) // a report always encodes
		return errors.New("no report is " + what + "; the last are " + string(last))
	})
}

// soon is a context that ends when a test has been too patient.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
