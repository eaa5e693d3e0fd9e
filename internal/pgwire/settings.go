package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
)

// Setting is a parameter of the server that a session begins with: a custom one such as pgmtls.client_addr.
type Setting struct{ Name, Value string }

// ErrStartupTooLong is a startup packet with which the settings would be longer than the server takes.
var ErrStartupTooLong = errors.New("the startup packet leaves no room for the proxy's settings")

// WithSettings returns the packet with the settings in it, and with none that the client sent whose name begins with the
// prefix (in lower case, with its dot). All else in it is what the client sent. The packet itself is not changed.
//
// The settings stand at the end of the parameter "options", where libpq puts PGOPTIONS. There they win over what stands
// before them, so that a spelling that the removal has not understood gains nothing. Parameters of the packet itself
// are set after options, but there a name has one spelling, but for its case.
func (s *Startup) WithSettings(prefix string, settings []Setting) ([]byte, error) {
	const header = 8 // length and version
	packet := append(make([]byte, 0, len(s.Raw)+256), s.Raw[:header]...)
	options := ""
	for name, value := range s.parameters() {
		switch {
		case name == "options":
			options = value // the server takes the last one
		case !hasPrefixFold(name, prefix):
			packet = appendParameter(packet, name, value)
		}
	}
	words := withoutSettings(splitOptions(options), prefix)
	for _, setting := range settings {
		words = append(words, "-c", setting.Name+"="+setting.Value)
	}
	packet = append(appendParameter(packet, "options", joinOptions(words)), 0)
	if len(packet) > maxStartup+4 {
		return nil, ErrStartupTooLong
	}
	binary.BigEndian.PutUint32(packet, uint32(len(packet)))
	return packet, nil
}

// parameters yields the names and values of a packet that has been parsed.
func (s *Startup) parameters() func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		body := s.Raw[8:]
		for {
			name, rest, _ := bytes.Cut(body, []byte{0})
			value, rest, _ := bytes.Cut(rest, []byte{0})
			if len(name) == 0 || !yield(string(name), string(value)) {
				return
			}
			body = rest
		}
	}
}

func appendParameter(packet []byte, name, value string) []byte {
	packet = append(append(packet, name...), 0)
	return append(append(packet, value...), 0)
}

// hasPrefixFold compares as guc_name_compare does (guc.c): without regard to the case of ASCII letters.
func hasPrefixFold(name, prefix string) bool {
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// optionsWithArgument are the switches of postgres that take an argument, in any version that speaks protocol 3
// (process_postgres_switches, postgres.c). "-" is the switch of --name=value.
const optionsWithArgument = "ABCcDdfhkNoprStvW-"

// withoutSettings drops the switches that set a parameter with the prefix: -c x=y, -cx=y and --x=y, also behind switches
// without an argument (-ec x=y), in the order in which getopt finds them. What getopt would not understand stays: the
// server refuses it.
func withoutSettings(words []string, prefix string) []string {
	var kept []string
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" && len(words) == 0 {
			break // the end of the switches; more are going to follow
		}
		if len(word) < 2 || word[0] != '-' || word == "--" {
			return append(append(kept, word), words...) // no switch
		}
		at := 1
		for at < len(word) && strings.IndexByte(optionsWithArgument, word[at]) < 0 {
			at++
		}
		if at >= len(word) { // no switch in it has an argument
			kept = append(kept, word)
			continue
		}
		argument, apart := word[at+1:], false
		if argument == "" && len(words) > 0 {
			argument, apart = words[0], true
			words = words[1:]
		}
		if (word[at] == 'c' || word[at] == '-') && setsParameter(argument, prefix) {
			if at > 1 {
				kept = append(kept, word[:at])
			}
			continue
		}
		kept = append(kept, word)
		if apart {
			kept = append(kept, argument)
		}
	}
	return kept
}

// setsParameter reads an argument as ParseLongOption does (guc.c): a dash in the name is an underscore.
func setsParameter(argument, prefix string) bool {
	name, _, _ := strings.Cut(argument, "=")
	return hasPrefixFold(strings.ReplaceAll(name, "-", "_"), prefix)
}

// splitOptions splits the parameter "options" into words as pg_split_opts does (postinit.c): at white space, unless a
// backslash stands before it.
func splitOptions(options string) []string {
	var words []string
	var word []byte
	inside, escaped := false, false
	for i := range len(options) {
		switch b := options[i]; {
		case !escaped && isSpace(b):
			if inside {
				words = append(words, string(word))
			}
			word, inside = nil, false
			continue
		case !escaped && b == '\\':
			escaped = true
		default:
			word, escaped = append(word, b), false
		}
		inside = true
	}
	if inside {
		words = append(words, string(word))
	}
	return words
}

// joinOptions is the reverse of splitOptions, but for an empty word, which only a backslash at the end can be. As a switch the
// server would refuse it, and here it is gone. As the argument of a switch it can't be kept either: the switch takes the next
// word in its place, and the server refuses what is left. Bytes beyond ASCII get a backslash too: which of them are white space is a
// question of the server's locale.
func joinOptions(words []string) string {
	var b strings.Builder
	for i, word := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		for j := range len(word) {
			if isSpace(word[j]) || word[j] == '\\' || word[j] >= 0x80 {
				b.WriteByte('\\')
			}
			b.WriteByte(word[j])
		}
	}
	return b.String()
}

// isSpace is C's isspace for ASCII.
func isSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }
