package session

import (
	"context"
	"crypto/tls"
	"io"
	"testing"

	"github.com/rs/zerolog"

	"pgmtls-proxy/internal/pgwire"
)

// BenchmarkHandshake is a client with an ECDSA certificate from its first byte to the verdict, its own half of the work
// included. The verdict is a no, so that neither a server nor a relay is measured.
func BenchmarkHandshake(b *testing.B) {
	for name, version := range map[string]uint16{"TLS1.2": tls.VersionTLS12, "TLS1.3": tls.VersionTLS13} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, func(c *Config) { c.Log = zerolog.Nop() })
			w.apply("2", bothIn, "identities: [{subject_cn: nobody, users: [app]}]")
			config := clientTLS(pki().app)
			config.MaxVersion = version
			startup, ssl := startupPacket("user", "app"), request(pgwire.SSLRequestCode)
			b.ReportAllocs()
			for b.Loop() {
				near, far := newWire(home)
				over := make(chan struct{})
				go func() {
					defer close(over)
					w.sessions.Serve(context.Background(), far)
				}()
				near.Write(ssl)
				near.Read(make([]byte, 1))
				client := tls.Client(near, config)
				client.Write(startup)
				io.Copy(io.Discard, client)
				client.Close()
				near.Close()
				<-over
			}
			if n := w.refused("user_not_allowed"); n < b.N {
				b.Errorf("%d of %d came as far as the verdict", n, b.N)
			}
		})
	}
}
