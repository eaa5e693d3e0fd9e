package config

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"pgmtls-proxy/internal/safetext"
)

// maxText bounds a configuration file, in bytes. Sixty rules with long descriptions are under 50 KiB. A policy may come from
// whoever reaches the admin address (POST /dry-run), and the library takes 280 bytes for each token: all of this in
// brackets takes it 36 MB and 0.2 s.
const maxText = 128 << 10

type kind uint8

const (
	null kind = iota
	scalar
	list
	mapping
)

// String names the kind as a problem does: "is a list, not …".
func (k kind) String() string {
	return [...]string{null: "empty", scalar: "one value", list: "a list", mapping: "a group of keys"}[k]
}

// node is one value of a document. Scalars stay the text that was written: what a "number" or a "yes" is, the key
// that it stands at decides, so a rule's id may be 42 and a serial 12:34:56 without quotes.
type node struct {
	kind    kind
	text    string // of a scalar
	quoted  bool   // the scalar stands in quotes
	line    int
	column  int
	items   []node // of a list
	entries []entry
	flow    bool // of a mapping: it stands in braces, so its end can't be lost unnoticed
	ended   bool // of the root: the document says that it ends, with "..."
}

// entry is a key of a mapping. A key may come twice here: the decoder names both lines.
type entry struct{ key, value node }

// parseYAML reads one document. Nothing but values, lists and mappings is let in: what YAML has beyond them
// (anchors, aliases, merge keys, tags, directives, several documents) is a way to write a bomb or to hide a rule.
func parseYAML(file string, text []byte, problems *problemList) (node, bool) {
	fail := func(line int, message, fix string) (node, bool) {
		problems.add(Problem{Position: Position{File: file, Line: line}, Message: message, Fix: fix})
		return node{}, false
	}
	if len(text) > maxText {
		return fail(0, fmt.Sprintf("is larger than %d KiB", maxText>>10), "shorten it")
	}
	if at := firstNonText(text); at >= 0 {
		line := 1 + bytes.Count(text[:at], []byte("\n"))
		return fail(line, fmt.Sprintf("has a byte 0x%02x that is no text", text[at]), "save the file as UTF-8, and write it whole before it is renamed into place")
	}
	text = safetext.WithoutMark(text)
	before := len(problems.list)
	root, syntax := readYAML(text, func(line, column int, c complaint) {
		problems.add(Problem{Position: Position{File: file, Line: line, Column: column}, Message: c.message, Fix: c.fix})
	})
	switch {
	case syntax != nil:
		return fail(syntax.line, "is not valid YAML: "+syntax.message, "repair the syntax at or just above this line")
	case len(problems.list) > before:
		return node{}, false
	case root.kind == null:
		return fail(1, "is empty", "write the configuration; a file that is being replaced is written beside its place and then renamed")
	}
	if !bytes.HasSuffix(text, []byte("\n")) {
		// Cut within its last line, the text could say 10.0.0.0/1 where 10.0.0.0/16 was meant.
		fail(1+bytes.Count(text, []byte("\n")), "has no line end at its end, as if the file had been cut", "if it is whole, end its last line; if not, write it again")
	}
	return root, true
}

// firstNonText is the index of the first byte that no YAML or JSON text has, or -1. A NUL is what a file shows that
// was extended and not yet written.
func firstNonText(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			return i
		}
		i += size
	}
	return -1
}

type syntaxError struct {
	line    int
	message string
}

// readYAML runs the library. A panic in it is an error of the text: this text comes while the proxy serves, and a
// parser's bug must not end the sessions that have nothing to do with it.
func readYAML(text []byte, refuse func(line, column int, c complaint)) (root node, syntax *syntaxError) {
	defer func() {
		if r := recover(); r != nil {
			syntax = &syntaxError{message: shown(fmt.Sprint(r))}
		}
	}()
	tokens := lexer.Tokenize(string(text))
	plain, ended := plainTokens(tokens, refuse)
	if !plain {
		return node{}, nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return node{}, newSyntaxError(err)
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			root = convert(doc.Body, refuse)
			root.ended = ended
			return root, nil
		}
	}
	return node{}, nil
}

// newSyntaxError takes the message and the line, and leaves the library's excerpt of the source behind: the lines
// around a mistake may hold a secret.
func newSyntaxError(err error) *syntaxError {
	located, ok := err.(interface {
		GetMessage() string
		GetToken() *token.Token
	})
	if !ok {
		return &syntaxError{message: "unexpected text"}
	}
	s := &syntaxError{message: shown(located.GetMessage())}
	if tk := located.GetToken(); tk != nil && tk.Position != nil {
		s.line = tk.Position.Line
	}
	return s
}

// convert turns the library's tree into nodes. Its depth is bounded by plainTokens.
func convert(n ast.Node, refuse func(line, column int, c complaint)) node {
	at := n.GetToken()
	out := node{kind: scalar}
	if at != nil && at.Position != nil {
		out.line, out.column = at.Position.Line, at.Position.Column
	}
	switch n := n.(type) {
	case *ast.NullNode:
		out.kind = null
	case *ast.LiteralNode:
		out.text = n.Value.Value
	case *ast.SequenceNode:
		out.kind = list
		for _, item := range n.Values {
			out.items = append(out.items, convert(item, refuse))
		}
	case *ast.MappingNode:
		out.kind, out.flow = mapping, n.IsFlowStyle
		for _, e := range n.Values {
			out.entries = append(out.entries, entry{convert(e.Key, refuse), convert(e.Value, refuse)})
		}
		if !n.IsFlowStyle && len(out.entries) > 0 {
			// The library's token is the first colon; the mapping starts at its first key.
			out.line, out.column = out.entries[0].key.line, out.entries[0].key.column
		}
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		out.text = at.Value
		out.quoted = at.Type == token.SingleQuoteType || at.Type == token.DoubleQuoteType
	default:
		refuse(out.line, out.column, complaint{"has a YAML construct that is not supported here", "write plain keys, values and lists"})
	}
	return out
}
