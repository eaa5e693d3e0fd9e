package tlsconf

import "strings"

// unreadable are the beginnings of crypto/tls' errors about the certificates of a client that never reach [ClientVerifier.Verify]. They have
// no type of their own; a test has crypto/tls make each of them.
var unreadable = []string{
	"tls: failed to parse client certificate: ",
	"tls: client certificate contains an unsupported public key",
	"tls: client sent certificate containing RSA key larger than ",
}

// UnreadableCertificate reports whether a handshake failed because a certificate of the client can't be parsed, or has a key that
// crypto/tls does not know.
func UnreadableCertificate(err error) bool {
	for _, beginning := range unreadable {
		if strings.HasPrefix(err.Error(), beginning) {
			return true
		}
	}
	return false
}
