package policysync

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"

	"pgmtls-proxy/internal/config"
)

const (
	headerStart = config.ControlHeader
	headerMark  = "; generation "
)

// maxDatabase bounds the id of a database, in bytes.
const maxDatabase = 64

var databasePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

func goodDatabase(id string) bool {
	return len(id) <= maxDatabase && databasePattern.MatchString(id)
}

// Header is the first line of an [api.PolicyFile], with its newline. It marks the directory as ours and names its database.
func Header(database string, generation int64) string {
	return headerStart + database + headerMark + strconv.FormatInt(generation, 10) + "\n"
}

// ParseHeader reads the first line of an [api.PolicyFile] back. It is not ok when somebody else wrote the file.
func ParseHeader(text []byte) (database string, generation int64, ok bool) {
	line, _, complete := bytes.Cut(text[:min(len(text), 256)], []byte("\n"))
	if !complete {
		return "", 0, false
	}
	rest, ours := strings.CutPrefix(string(line), headerStart)
	if !ours {
		return "", 0, false
	}
	database, number, found := strings.Cut(rest, headerMark)
	generation, err := strconv.ParseInt(number, 10, 64)
	if !found || err != nil || generation < 1 || !goodDatabase(database) || Header(database, generation) != string(line)+"\n" {
		return "", 0, false
	}
	return database, generation, true
}

// hashDigits is how much of the SHA-256 of a file's content is in its name. It tells versions apart and finds what was
// damaged; nobody's security hangs on it.
const hashDigits = 16

// FileName is the name of a PEM file: stem "server" and extension "crt" give "server-0123456789abcdef.crt", with the
// beginning of the content's SHA-256. So a name always means the same bytes, and no file is ever changed in place.
// The stem is lower-case letters, digits and dashes; the extension crt, key or pem. A private key has the extension
// key, and gets mode 0600 by it.
func FileName(stem, extension string, content []byte) string {
	sum := sha256.Sum256(content)
	return stem + "-" + hex.EncodeToString(sum[:])[:hashDigits] + "." + extension
}

var namePattern = regexp.MustCompile(`^([a-z0-9][a-z0-9-]{0,63})-[0-9a-f]{16}\.(crt|key|pem)$`)

// ownName reports whether a name is one that [FileName] gives to some content.
func ownName(name string) bool { return namePattern.MatchString(name) }

// named reports whether a name is the one that [FileName] gives to this content.
func named(name string, content []byte) bool {
	parts := namePattern.FindStringSubmatch(name)
	return parts != nil && FileName(parts[1], parts[2], content) == name
}
