package apiserver

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// one is a listener with one connection.
type one struct{ conns chan net.Conn }

func (o one) Accept() (net.Conn, error) {
	conn, open := <-o.conns
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (one) Close() error   { return nil }
func (one) Addr() net.Addr { return &net.TCPAddr{} }

// Nothing renews the time for a body: neither its bytes nor an answer that does not wait for it.
func TestBodyThatDoesNotArriveEndsItsConnection(t *testing.T) {
	for name, drip := range map[string]bool{"silent": false, "a byte a second": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{Log: zerolog.Nop()})
				web := s.HTTP()
				client, server := net.Pipe()
				listener := one{make(chan net.Conn, 1)}
				listener.conns <- server
				ended := make(chan error, 1)
				go func() { ended <- web.Serve(listener) }()
				var writing sync.WaitGroup
				writing.Go(func() {
					io.WriteString(client, "POST /v1/databases HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{")
					for drip {
						<-time.After(time.Second)
						if _, err := client.Write([]byte(" ")); err != nil {
							return
						}
					}
				})
				start := time.Now()
				answer, _ := io.ReadAll(client)
				if took := time.Since(start); took > readBody+time.Second {
					t.Errorf("the connection lived for %v, want %v", took, readBody)
				}
				if !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") {
					t.Errorf("the answer is %.100q", answer)
				}
				client.Close()
				writing.Wait()
				close(listener.conns)
				if err := <-ended; !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
				web.Close()
				s.endStreams()
			})
		})
	}
}
