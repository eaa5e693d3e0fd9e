package safetext

import "bytes"

// mark is the byte order mark in UTF-8, which editors and shells of Windows put in front of a text.
const mark = "\ufeff"

// WithoutMark returns the text without one byte order mark at its beginning. What people wrote is read as if it were not there; a
// second one is a part of the text. The result is a part of the argument.
func WithoutMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte(mark)) }
