package tlsconf

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"

	"pgmtls-proxy/internal/safetext"
)

// readPEM returns all blocks of the text, or an error if there is anything that may once have been one.
//
// encoding/pem skips what it can't read, so a file that was cut in its second certificate would be read as a file
// of one certificate. Here every line that starts with a dash has to belong to a whole block, text is allowed before a
// block only (openssl writes its descriptions there, RFC 7468 section 5.2), and nothing but white space and lines that
// start with # may follow the last one. What can't be noticed is a file that was cut exactly between two blocks.
func readPEM(text []byte) ([]*pem.Block, error) {
	text = safetext.WithoutMark(text)
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("the file is empty")
	case !bytes.Contains(text, []byte("-----")): // a file in DER may well have a line that starts with a dash
		return nil, errors.New("no PEM block; a file in DER can be converted with openssl x509, pkey or crl -inform DER -in FILE -out FILE.pem")
	}
	var blocks []*pem.Block
	for {
		start := armour(text)
		if start < 0 {
			break
		}
		number := len(blocks) + 1
		if misplaced(text[:start]) {
			return nil, fmt.Errorf("PEM block %d does not start at the beginning of a line; remove the text before its -----BEGIN", number)
		}
		size, err := measure(text[start:])
		if err != nil {
			return nil, fmt.Errorf("PEM block %d %w", number, err)
		}
		block, rest := pem.Decode(text[start : start+size])
		if block == nil || len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("PEM block %d is damaged; copy the file again", number)
		}
		blocks = append(blocks, block)
		text = text[start+size:]
	}
	switch {
	case misplaced(text):
		return nil, fmt.Errorf("PEM block %d does not start at the beginning of a line; remove the text before its -----BEGIN", len(blocks)+1)
	case !comment(text):
		return nil, fmt.Errorf("there is text after the last PEM block (block %d); remove it, or, if the file was truncated, copy it again", len(blocks))
	}
	return blocks, nil
}

// armour finds the first line that starts with a dash, or gives -1.
func armour(text []byte) int {
	if bytes.HasPrefix(text, []byte("-")) {
		return 0
	}
	if line := bytes.Index(text, []byte("\n-")); line >= 0 {
		return line + 1
	}
	return -1
}

// measure returns the length of the block that the text starts with, its END line included.
func measure(text []byte) (int, error) {
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		return 0, errors.New("has no -----BEGIN line; the file was cut or damaged: copy it again")
	}
	first := bytes.IndexByte(text, '\n') + 1
	next := armour(text[first:])
	if first == 0 || next < 0 {
		return 0, errors.New("has no -----END line; the file was cut: copy it again")
	}
	end := first + next
	if !bytes.HasPrefix(text[end:], []byte("-----END ")) {
		return 0, errors.New("has no -----END line; the file was cut or damaged: copy it again")
	}
	line := text[end:]
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	if bytes.Contains(line, []byte("-----BEGIN ")) {
		return 0, errors.New("ends in the line in which the next one begins: two files were joined without a line break; put one between -----END …----- and -----BEGIN")
	}
	return end + len(line), nil
}

// misplaced reports whether text between blocks holds the start of one.
func misplaced(text []byte) bool { return bytes.Contains(text, []byte("-----")) }

// comment reports whether the text means nothing.
func comment(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}
