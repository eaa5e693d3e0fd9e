// Package policyformat defines what a policy is as files: the header of its policy.yaml, the names of the files beside it, what
// makes them a policy that a proxy accepts, and the digest by which a proxy names it.
//
// It reads and writes no file: the registry renders a policy in this format, and package policysync delivers it.
package policyformat

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

// Header returns the first line of an [api.PolicyFile], with its newline. It marks the directory as one of the control plane, and
// names its database.
func Header(database string, generation int64) string {
	return headerStart + database + headerMark + strconv.FormatInt(generation, 10) + "\n"
}

// ParseHeader parses the first line of an [api.PolicyFile]. It returns false when anything but [Header] made that line: then
// somebody else wrote the file.
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

// hashDigits is how many digits of a content's SHA-256 a name has. They distinguish versions and reveal damage; no security
// depends on them.
const hashDigits = 16

// Name returns the name of a PEM file. Stem "server" and extension "crt" give "server-0123456789abcdef.crt", with the first
// digits of the content's SHA-256: a name always means the same bytes, and no file is ever changed in place. A stem has
// lower-case letters, digits and dashes, 64 at most. The extension is crt, pem, or, for a private key and nothing else, key.
func Name(stem, extension string, content []byte) string {
	sum := sha256.Sum256(content)
	return stem + "-" + hex.EncodeToString(sum[:])[:hashDigits] + "." + extension
}

var namePattern = regexp.MustCompile(`^([a-z0-9][a-z0-9-]{0,63})-[0-9a-f]{16}\.(crt|key|pem)$`)

// IsName reports whether [Name] returns this name for some content.
func IsName(name string) bool { return namePattern.MatchString(name) }

// IsNameOf reports whether [Name] returns this name for this content.
func IsNameOf(name string, content []byte) bool {
	parts := namePattern.FindStringSubmatch(name)
	return parts != nil && Name(parts[1], parts[2], content) == name
}
