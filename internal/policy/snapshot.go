// Package policy holds what the control plane says: who may come in, and with which certificates the proxy
// answers. It reads the policy directory, builds a [Snapshot] of it, and puts that in force with one write of
// one pointer.
//
// A connection takes the snapshot once and asks only it. Its methods [Snapshot.Authorize] and
// [Snapshot.AuthorizeCancel] are the gate: nothing else decides. A directory that can't be read, or says
// something wrong, changes nothing: the last good snapshot stays in force, and [Live.Status] says what is
// wrong and since when.
//
// It stands between config, allowlist, tlsconf and backend, which it puts together, and session, which asks.
package policy

import (
	"crypto/sha256"
	"crypto/tls"
	"time"

	"pgmtls-proxy/internal/allowlist"
	"pgmtls-proxy/internal/backend"
	"pgmtls-proxy/internal/config"
	"pgmtls-proxy/internal/tlsconf"
)

// Snapshot is one policy, ready to be asked. It is immutable and safe for concurrent use.
type Snapshot struct {
	Generation string    // the control plane's name for it
	Database   string    // its name, of the control plane's header or the proxy's configuration; empty: unknown
	Digest     string    // SHA-256 over the files that it was built from, in hex
	LoadedAt   time.Time // when it came into force

	Rules        *allowlist.Set
	ClientAuth   config.ClientAuth
	Trust        *tlsconf.ClientVerifier // nil when ClientAuth is off
	Certificates []*tlsconf.Certificate
	Default      int             // index of the default in Certificates
	LeftOut      config.Problems // server certificates of the policy that are not served, and why; others are
	TLS          *tls.Config     // for the server's side of a handshake, without verification of the client
	Backend      *backend.Target

	OnRemoval config.OnRemoval
	EndGrace  time.Duration // how long a session that is no longer allowed has to end by itself

	identities       []config.Identity
	inputs           [sha256.Size]byte // of Trust
	certificateFiles []string          // by which the policy names Certificates
}
