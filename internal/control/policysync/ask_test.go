package policysync

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgmtls-proxy/internal/adminapi"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/control/policyformat/policytest"
	"pgmtls-proxy/internal/testkit/must"
)

func TestOnlyAddressesOfThisMachineAreAsked(t *testing.T) {
	for _, c := range []struct {
		network, address, want string
	}{
		{"tcp", "127.0.0.1:9815", ""},
		{"tcp", "127.9.9.9:1", ""},
		{"tcp", "[::1]:9815", ""},
		{"tcp", "[::ffff:127.0.0.1]:9815", ""},
		{"unix", "/run/pgmtls-proxy/admin.sock", ""},
		{"tcp", "10.0.0.1:9815", "not on loopback"},
		{"tcp", "0.0.0.0:9815", "not on loopback"},
		{"tcp", "[::]:9815", "not on loopback"},
		{"tcp", "169.254.169.254:80", "not on loopback"},
		{"tcp", "127.0.0.1:0", "not an IP address with a port"},
		{"tcp", "127.0.0.1", "not an IP address with a port"},
		{"tcp", "localhost:9815", "not an IP address with a port"},
		{"unix", "admin.sock", "not an absolute path"},
		{"unix", "@admin", "not an absolute path"},
		{"udp", "127.0.0.1:9815", "neither"},
		{"", "", "neither"},
	} {
		admin := config.Address{Network: c.network, Address: c.address}
		err := checkAdmin(admin)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v", c.network, c.address, err)
		}
		if c.want == "" {
			continue
		}
		courier := &Publisher{Database: database, Dir: t.TempDir(), Admin: admin}
		if _, err := courier.Observe(t.Context()); err == nil {
			t.Errorf("%v was asked for its status", admin)
		}
		if _, err := courier.queryStatus(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v was asked how far it is: %v", admin, err)
		}
		if _, err := courier.DryRun(t.Context(), policytest.NewSpace(t).Policy(t, edition{Generation: 1})); err == nil || len(names(t, courier.Dir)) > 0 {
			t.Errorf("%v was asked for a dry run", admin)
		}
	}
}

// answering is a courier whose proxy is an HTTP handler.
func answering(t *testing.T, handler http.HandlerFunc) *Publisher {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &Publisher{Database: database, Dir: t.TempDir(), Admin: config.Address{Network: "tcp", Address: server.Listener.Addr().String()}}
}

func TestAnAnswerIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			for range adminapi.MaxAnswer>>20 + 1 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, "more than 8 MiB"},
		"headers too large": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*adminapi.MaxHeaders))
		}, "headers"},
		"compressed": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("a compressed answer was asked for")
			}
			w.Header().Set("Content-Encoding", "gzip")
		}, "read the answer"},
		"a redirect":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "302"},
		"not found":     {http.NotFound, "404"},
		"not the proxy": {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }, "read the answer to /status"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := answering(t, c.handler).Observe(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || r.Error == "" {
				t.Errorf("got %v, %+v", err, r)
			}
		})
	}
}

func TestAnAnswerThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	must.OK(t, err)
	defer listener.Close()
	admin := config.Address{Network: "tcp", Address: listener.Addr().String()}
	_, _, err = query(t.Context(), admin, adminapi.Request{Method: http.MethodGet, Path: "/status", Timeout: 50 * time.Millisecond})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAUnixSocketIsAskedAsWell(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	socket := filepath.Join(openTemp(t), "a")
	p := startProxy(t, dir, map[string]any{"admin": "unix:" + socket})
	p.Admin = config.Address{Network: "unix", Address: socket}
	deliver(t, p.courier(), policytest.NewSpace(t).Policy(t, edition{Generation: 1}))
	if effect, err := p.courier().DryRun(t.Context(), policytest.NewSpace(t).Policy(t, edition{Generation: 2})); err != nil || !effect.OK {
		t.Errorf("dry run: %+v, %v", effect, err)
	}
}
