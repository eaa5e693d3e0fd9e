package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// elsewhere is the source address of connections that the rules don't allow. Linux has all of 127.0.0.0/8 on its
// loopback interface, also where there is no IPv6.
const elsewhere = "127.0.0.2"

// carryFromElsewhere opens a port whose connections go on to the proxy, from another source address. Stop closes it.
func (d *demo) carryFromElsewhere(ctx context.Context) (port int, stop func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var carriers sync.WaitGroup
	carriers.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed by stop
			}
			carriers.Go(func() { d.carry(ctx, client) })
		}
	})
	stop = func() error {
		err := listener.Close()
		cancel()
		carriers.Wait()
		return err
	}
	return listener.Addr().(*net.TCPAddr).Port, stop, nil
}

// carry moves bytes between the client and the proxy until both have ended, or the context has.
func (d *demo) carry(ctx context.Context, client net.Conn) {
	defer client.Close()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(elsewhere)}}
	server, err := dialer.DialContext(ctx, "tcp", loopback(d.port))
	if err != nil {
		return // psql says that the server closed the connection
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { _ = errors.Join(client.Close(), server.Close()) })()

	var there sync.WaitGroup
	there.Go(func() { pour(server, client) })
	pour(client, server)
	there.Wait()
}

// pour copies until the source ends, and ends the destination's input.
func pour(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
}
