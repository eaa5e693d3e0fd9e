package relay

import (
	"net"
	"testing"
)

// BenchmarkSocketCalls is a small message through a pair of sockets: one call to send it and one to receive it.
func BenchmarkSocketCalls(b *testing.B) {
	b.Run("tcp", func(b *testing.B) { from, to := tcpPair(b); benchCalls(b, from, to) })
	b.Run("unix", func(b *testing.B) { from, to := unixPair(b); benchCalls(b, from, to) })
}

func benchCalls(b *testing.B, from, to net.Conn) {
	out, in := detach(from), detach(to)
	message, got := make([]byte, 100), make([]byte, loopRead)
	for b.Loop() {
		n, err := transmit(out, message)
		for n > 0 && err == nil {
			var more int
			if more, err = receive(in, got); err == errWouldBlock {
				err = nil
			}
			n -= more
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
