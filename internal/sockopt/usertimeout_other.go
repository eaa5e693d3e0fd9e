//go:build !linux

package sockopt

import (
	"net"
	"time"
)

// setUserTimeout does nothing: only Linux has TCP_USER_TIMEOUT. Keepalive still ends idle connections there.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
