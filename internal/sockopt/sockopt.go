// Package sockopt sets the options that every TCP leg of the proxy has, towards clients and towards PostgreSQL:
// no delay, keepalive, and the bound on unacknowledged data.
//
// Without them a peer that vanished (power cut, a firewall that forgot the flow) is noticed after two hours or
// never, and its session holds a slot and a server process for as long. The package opens and accepts nothing:
// packages listener and backend do.
package sockopt

import (
	"fmt"
	"net"
	"time"
)

// TCP specifies when a silent peer counts as dead. The zero value leaves all of it to the operating system, as 0 does
// in PostgreSQL's settings of the same names.
//
// On Linux UserTimeout decides alone once it is set: the kernel then drops a connection whose probes stay
// unanswered after UserTimeout and not after KeepAliveCount probes (net/ipv4/tcp_timer.c, tcp_keepalive_timer).
// A UserTimeout of about KeepAliveIdle + KeepAliveCount*KeepAliveInterval makes idle and busy connections end alike.
type TCP struct {
	KeepAliveIdle     time.Duration // silence before the first probe; whole seconds, at most 32767 s on Linux
	KeepAliveInterval time.Duration // between probes; whole seconds, at most 32767 s on Linux
	KeepAliveCount    int           // unanswered probes before the peer counts as dead; at most 127 on Linux
	UserTimeout       time.Duration // how long sent data may stay unacknowledged; whole milliseconds, Linux only
}

// Apply sets the options on a connection. A connection that is not TCP, such as a unix socket or a test's pipe, is
// left as it is. An error means that the system refused a value; the connection stays usable.
func (t TCP) Apply(conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	if err := tcp.SetNoDelay(true); err != nil {
		return fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	if err := tcp.SetKeepAliveConfig(t.keepAlive()); err != nil {
		return fmt.Errorf("set TCP keepalive (idle %s, interval %s, count %d): %w",
			t.KeepAliveIdle, t.KeepAliveInterval, t.KeepAliveCount, err)
	}
	if t.UserTimeout <= 0 {
		return nil
	}
	if err := setUserTimeout(tcp, t.UserTimeout); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT to %s: %w", t.UserTimeout, err)
	}
	return nil
}

// keepAlive translates: package net takes zero for its own defaults of 15 s and 9 probes, and a negative number for
// the system's.
func (t TCP) keepAlive() net.KeepAliveConfig {
	config := net.KeepAliveConfig{Enable: true, Idle: t.KeepAliveIdle, Interval: t.KeepAliveInterval, Count: t.KeepAliveCount}
	if config.Idle <= 0 {
		config.Idle = -1
	}
	if config.Interval <= 0 {
		config.Interval = -1
	}
	if config.Count <= 0 {
		config.Count = -1
	}
	return config
}
