package pgwire

import (
	"bytes"
	"fmt"
	"io"

	"pgmtls-proxy/internal/refusal"
)

// Startup is a client's StartupMessage. Raw is what reaches the server, byte for byte: minor versions and
// _pq_ options that this program has never heard of pass, because proxies that judged them broke (PostgreSQL
// 19 sends version 3.9999 to find out).
type Startup struct {
	Raw             []byte // with the length word
	User            string
	Database        string // the user's name when the client named none, as PostgreSQL does
	ApplicationName string
}

// ReadStartup reads the StartupMessage that the opening announced. The error is a [refusal.Refusal] for what
// PostgreSQL would refuse as well, else that of the reader.
//
// User and database decide who comes in, so a packet must have one meaning here and at the server. The
// parser therefore follows ProcessStartupPacket (postmaster.c, later backend_startup.c), and refuses what
// could be read in two ways: PostgreSQL takes the last of two user parameters.
func ReadStartup(r io.Reader, o Opening) (*Startup, error) {
	major, minor := o.code()>>16, o.code()&0xffff
	if major != 3 {
		// Decided before the body: its layout depends on the version.
		if length := o.length(); length < 8 || length > maxStartup+4 {
			return nil, invalidLength()
		}
		return nil, &refusal.Refusal{
			Reason:  refusal.UnsupportedProtocol,
			Message: fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 and later", major, minor),
		}
	}
	if length := o.length(); length > maxStartup+4 && length <= longStartup {
		return nil, tooLong(length)
	}
	packet, err := o.readBody(r, 8, maxStartup+4)
	if err != nil {
		return nil, err
	}
	s := &Startup{Raw: packet}
	if err := s.parse(packet[len(o):]); err != nil {
		return nil, err
	}
	return s, nil
}

// parse reads pairs of zero-terminated names and values up to an empty name, which must be the last byte.
func (s *Startup) parse(body []byte) error {
	var seen [3]bool
	for {
		name, rest, found := bytes.Cut(body, []byte{0})
		if !found {
			return invalidLayout()
		}
		if len(name) == 0 {
			if len(rest) != 0 {
				return invalidLayout()
			}
			break
		}
		value, rest, found := bytes.Cut(rest, []byte{0})
		if !found {
			return invalidLayout()
		}
		if i, target := s.parameter(string(name)); target != nil {
			if seen[i] {
				return &refusal.Refusal{
					Reason:  refusal.ProtocolViolation,
					Message: fmt.Sprintf("invalid startup packet: parameter %q given twice", name),
					Hint:    "The connection string, the driver's properties or a service file set it more than once. Keep one.",
				}
			}
			seen[i] = true
			*target = string(value)
		}
		body = rest
	}
	if s.User == "" {
		return &refusal.Refusal{Reason: refusal.UserMissing}
	}
	if s.Database == "" {
		s.Database = s.User
	}
	return nil
}

// parameter is where a parameter's value goes, and its number. Nil for those that are not looked at.
func (s *Startup) parameter(name string) (int, *string) {
	switch name {
	case "user":
		return 0, &s.User
	case "database":
		return 1, &s.Database
	case "application_name":
		return 2, &s.ApplicationName
	}
	return 0, nil
}

// longStartup is the longest packet that is taken for a client's startup packet of too many parameters, in bytes, and not for something
// else than PostgreSQL's protocol.
const longStartup = 1 << 20

func tooLong(length uint32) *refusal.Refusal {
	return &refusal.Refusal{
		Reason: refusal.ProtocolViolation,
		Detail: fmt.Sprintf("The startup packet has %d bytes. PostgreSQL and this server take %d.", length, maxStartup+4),
		Hint:   "Shorten the parameters of the connection: options, application_name, and others that the driver sends.",
	}
}

func invalidLayout() *refusal.Refusal {
	return &refusal.Refusal{
		Reason:  refusal.ProtocolViolation,
		Message: "invalid startup packet layout: expected terminator as last byte",
	}
}
