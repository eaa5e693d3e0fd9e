package session

import (
	"errors"
	"strings"
	"unicode/utf8"

	"pgmtls-proxy/internal/pgwire"
	"pgmtls-proxy/internal/refusal"
	"pgmtls-proxy/internal/tlsconf"
)

// Settings that tell PostgreSQL who a client is. The prefix makes them custom parameters, which no version of the server
// gives a meaning of its own.
const (
	settingPrefix  = "pgmtls."
	settingAddr    = settingPrefix + "client_addr"
	settingSubject = settingPrefix + "client_subject"
	settingSerial  = settingPrefix + "client_serial"
)

// startupPacket is what PostgreSQL gets: the client's packet as it came or, if that is asked for, with the settings that
// say whose session it is. All of them are always there: empty when there is no certificate, so that a client can't fill in
// its own.
func (c *connection) startupPacket() ([]byte, error) {
	if !c.server.config.IdentitySettings {
		return c.startup.Raw, nil
	}
	settings := []pgwire.Setting{{Name: settingAddr, Value: c.addr.String()}, {Name: settingSubject}, {Name: settingSerial}}
	subject := ""
	if chain := c.tls.ConnectionState().PeerCertificates; len(chain) > 0 {
		subject = chain[0].Subject.String()
		settings[2].Value = tlsconf.FormatSerial(chain[0].SerialNumber)
	}
	// A client that fills its packet up gets a shorter subject, and none at last.
	for _, length := range []int{512, maxField, 0} {
		settings[1].Value = plain(subject, length)
		packet, err := c.startup.WithSettings(settingPrefix, settings)
		if !errors.Is(err, pgwire.ErrStartupTooLong) {
			return packet, err
		}
	}
	return nil, &refusal.Refusal{
		Reason:  refusal.ProtocolViolation,
		Message: "startup packet is too long",
		Hint:    "The proxy adds the client's identity to it, and there is no room left. Send fewer or shorter options.",
	}
}

// plain is a text that somebody else chose in at most so many printable ASCII characters. A setting is not converted to the
// database's encoding, so all others become a question mark.
func plain(text string, length int) string {
	plain := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return plain[:min(len(plain), length)]
}
