package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/spf13/cobra"

	"pgmtls-proxy/internal/buildinfo"
	"pgmtls-proxy/internal/control/api"
	"pgmtls-proxy/internal/control/cli"
)

// start is when every test begins.
var start = time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)

// canned is one answer. Value is JSON, or text as it is if it is a string.
type canned struct {
	status int
	value  any
}

func ok(value any) canned { return canned{http.StatusOK, value} }

func refuse(id, message string) canned {
	return canned{api.StatusOf(id), api.Error{ID: id, Message: message}}
}

// world is a server with canned answers, and a command line that asks it. Requests and answers are held against the
// API's description.
type world struct {
	t       *testing.T
	server  *httptest.Server
	router  routers.Router
	dir     string // of the person's files
	mu      sync.Mutex
	answers map[string][]canned // by "GET /v1/…"; the last one stays
	asked   []string            // with the bodies
	clock   *clock
	env     map[string]string
	stdin   string
	tty     bool
}

// description is the API's, which takes a tenth of a second to read.
var description = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI)
	if err != nil {
		return nil, err
	}
	return legacy.NewRouter(doc)
})

func newWorld(t *testing.T, answers map[string][]canned) *world {
	t.Helper()
	router, err := description()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, router: router, dir: t.TempDir(), answers: answers, clock: &clock{now: start}}
	w.server = httptest.NewUnstartedServer(w)
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of clients that do not trust it
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.server.Certificate().Raw})
	w.write("control-ca.pem", string(ca), 0o644)
	w.write("token", "pgmtls_1_secret\n", 0o600)
	file, err := cli.ClientFile{URL: w.server.URL, CA: "control-ca.pem", TokenFile: "token"}.Text()
	if err != nil {
		t.Fatal(err)
	}
	w.write("client.yaml", string(file), 0o644)
	w.env = map[string]string{"PGMTLS_CONFIG": filepath.Join(w.dir, "client.yaml"), "TERM": "xterm"}
	return w
}

func (w *world) write(name, text string, mode os.FileMode) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		w.t.Fatal(err)
	}
	return path
}

func (w *world) ServeHTTP(into http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	key := r.Method + " " + r.URL.RequestURI()
	w.asked = append(w.asked, strings.TrimSpace(key+" "+string(body)))
	if r.Header.Get("Authorization") != "Bearer pgmtls_1_secret" {
		w.send(into, nil, refuse(api.Unauthorized, "this token is not known"))
		return
	}
	input := w.request(r)
	queue := w.answers[key]
	if len(queue) == 0 {
		w.t.Errorf("there is no answer to %s", key)
		w.send(into, nil, refuse(api.Internal, "no answer"))
		return
	}
	answer := queue[0]
	if len(queue) > 1 {
		w.answers[key] = queue[1:]
	}
	w.send(into, input, answer)
}

// request holds a request against the description.
func (w *world) request(r *http.Request) *openapi3filter.RequestValidationInput {
	bare := r.Clone(r.Context())
	bare.URL.Scheme, bare.URL.Host = "", ""
	route, params, err := w.router.FindRoute(bare)
	if err != nil {
		w.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		return nil
	}
	input := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
		w.t.Error(err)
	}
	return input
}

func (w *world) send(into http.ResponseWriter, input *openapi3filter.RequestValidationInput, answer canned) {
	text, raw := answer.value.(string)
	kind := "application/json"
	switch {
	case raw && strings.HasPrefix(text, ":"):
		kind = "text/event-stream"
	case raw:
		kind = "application/octet-stream"
	case answer.value != nil:
		encoded, err := json.Marshal(answer.value)
		if err != nil {
			w.t.Error(err)
		}
		text = string(encoded)
	}
	into.Header().Set("Content-Type", kind)
	into.Header().Set(api.RequestIDHeader, "req-1")
	if input != nil && !raw {
		if err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: input, Status: answer.status, Header: into.Header(), Body: io.NopCloser(strings.NewReader(text)),
		}); err != nil {
			w.t.Errorf("the canned answer to %s: %v", input.Request.URL, err)
		}
	}
	into.WriteHeader(answer.status)
	_, _ = io.WriteString(into, text)
}

// outcome is what a command did.
type outcome struct {
	stdout, stderr string
	code           int
}

// run runs a command line.
func (w *world) run(args ...string) outcome {
	w.t.Helper()
	return w.runContext(w.t.Context(), args...)
}

func (w *world) runContext(ctx context.Context, args ...string) outcome {
	w.t.Helper()
	return w.capture(ctx, args, func(stdout *bytes.Buffer) io.Writer { return stdout })
}

func (w *world) capture(ctx context.Context, args []string, to func(*bytes.Buffer) io.Writer) outcome {
	var stdout, stderr bytes.Buffer
	root := w.root(to(&stdout), &stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(&stderr, err)
	}
	return outcome{w.hide(stdout.String()), w.hide(stderr.String()), cli.ExitCode(err)}
}

// runUntil runs a command that has no end, and interrupts it when it has printed a line.
func (w *world) runUntil(ctx context.Context, interrupt func(), args []string) outcome {
	w.t.Helper()
	return w.capture(ctx, args, func(stdout *bytes.Buffer) io.Writer { return lineWriter{stdout, interrupt} })
}

// lineWriter calls then after each write.
type lineWriter struct {
	io.Writer
	then func()
}

func (l lineWriter) Write(text []byte) (int, error) {
	defer l.then()
	return l.Writer.Write(text)
}

// root is the command that cmd/pgmtls makes.
func (w *world) root(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{Use: "pgmtls", SilenceErrors: true, SilenceUsage: true}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(cli.Commands(cli.Env{
		Stdin: strings.NewReader(w.stdin), Stdout: stdout, Stderr: stderr,
		Getenv:        func(name string) string { return w.env[name] },
		StdinTerminal: w.tty, StdoutTerminal: w.tty, StderrTerminal: w.tty,
		Built: buildinfo.Info{Version: "v1.2.3", Go: "go1.26.11"}, ClientFiles: []string{"/nowhere/client.yaml"},
		Now: w.clock.Now, After: w.clock.After,
	})...)
	return root
}

// hide replaces what is different in each run, and shows what can't be seen.
func (w *world) hide(text string) string {
	return strings.NewReplacer(w.server.URL, "https://control:9816", w.server.Listener.Addr().String(), "control:9816",
		w.dir, "/home/me", "\x1b", "␛", "\r", "␍").Replace(text)
}

// clock is a clock that goes on when somebody waits.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	onAfter func() // if set, somebody who waits waits for ever, and this is called
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.onAfter != nil {
		c.onAfter()
		return nil
	}
	c.now = c.now.Add(d)
	fired := make(chan time.Time, 1)
	fired <- c.now
	return fired
}
