package connlimit

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgmtls-proxy/internal/testkit/must"
)

func TestClientsThatHaveNotBegunARequestAreBoundedByThemselves(t *testing.T) {
	for name, row := range map[string]struct {
		first []string // addresses that wait
		begun int      // of them that have begun
		next  string
		in    bool
	}{
		"the last of an address":     {[]string{"192.0.2.1"}, 0, "192.0.2.1", true},
		"one too many of an address": {[]string{"192.0.2.1", "192.0.2.1"}, 0, "192.0.2.1", false},
		"one has begun":              {[]string{"192.0.2.1", "192.0.2.1"}, 1, "192.0.2.1", true},
		"another address":            {[]string{"192.0.2.1", "192.0.2.1"}, 0, "192.0.2.2", true},
		"one too many overall":       {[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, 0, "192.0.2.4", false},
		"all have begun":             {[]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, 3, "192.0.2.4", true},
	} {
		t.Run(name, func(t *testing.T) {
			inner := offered{make(chan net.Conn, 10)}
			l := NewLimited(inner, Limits{Open: 10, OpenPerAddress: 10, Waiting: 3, WaitingPerAddress: 2})
			var open []net.Conn
			for i, address := range row.first {
				conn, _ := client(address)
				inner.conns <- conn
				accepted, err := l.Accept()
				must.OK(t, err)
				open = append(open, accepted)
				if i < row.begun {
					Begun(accepted)
					Begun(tls.Server(accepted, nil)) // counts once
				}
			}
			conn, closed := client(row.next)
			inner.conns <- conn
			close(inner.conns)
			accepted, err := l.Accept()
			if row.in != (err == nil) || row.in == *closed || !row.in && !errors.Is(err, net.ErrClosed) {
				t.Errorf("accepted: %v, %v; closed: %v", accepted, err, *closed)
			}
			if row.in {
				open = append(open, accepted)
			}
			for _, conn := range open {
				conn.Close()
				conn.Close()
				Begun(conn) // too late
			}
			if l.all != (counts{}) || len(l.addresses) != 0 {
				t.Errorf("%+v connections of %d addresses are still counted", l.all, len(l.addresses))
			}
		})
	}
	Begun(nil)
	Begun(&net.TCPConn{}) // of nobody's listener
}

// A server of either version of HTTP says that a request has begun, so that what follows is not bounded by what may come before.
func TestWhatFollowsTheFirstRequestIsNotBounded(t *testing.T) {
	for _, version := range []int{1, 2} {
		received := make(chan int64, 2)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body) // how much has come says it
			received <- n
		}))
		l := NewLimited(server.Listener, Limits{Open: 10, OpenPerAddress: 10, Waiting: 1, WaitingPerAddress: 1, Bytes: 40 << 10, Hello: 8 << 10})
		server.Listener = l
		server.EnableHTTP2 = version == 2
		server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
			if state == http.StateActive {
				Begun(conn)
			}
		}
		server.StartTLS()
		for range 2 { // the second over the same connection
			answer, err := server.Client().Post(server.URL, "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
			must.OK(t, err)
			answer.Body.Close()
			if n := <-received; n != 1<<20 || answer.ProtoMajor != version {
				t.Errorf("HTTP/%d: %d bytes have come with HTTP/%d", version, n, answer.ProtoMajor)
			}
		}
		l.mu.Lock()
		if l.all.waiting != 0 {
			t.Errorf("HTTP/%d: %+v", version, l.all)
		}
		l.mu.Unlock()
		server.Close()
	}
}

func TestClientThatSendsTooMuchBeforeItsFirstRequestIsCutOff(t *testing.T) {
	for name, row := range map[string]struct {
		written, want int // bytes
	}{
		"hello":                   {0, 100},
		"hello behind a retry":    {110, 100},
		"all behind the server's": {700, 1000},
	} {
		near, far := net.Pipe()
		go io.Copy(far, strings.NewReader(strings.Repeat("x", 5000))) // until far is closed
		go io.Copy(io.Discard, far)
		inner := offered{make(chan net.Conn, 1)}
		inner.conns <- near
		accepted, err := NewLimited(inner, Limits{Open: 1, OpenPerAddress: 1, Bytes: 1000, Hello: 100}).Accept()
		must.OK(t, err)
		_, err = accepted.Write(make([]byte, row.written))
		must.OK(t, err)
		n, err := io.Copy(io.Discard, accepted)
		if n != int64(row.want) || err == nil {
			t.Errorf("%s: %d bytes and then %v, want %d", name, n, err, row.want)
		}
		accepted.Close()
		far.Close()
	}
}
