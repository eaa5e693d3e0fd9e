package config

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

// maxDepth bounds nesting. The deepest key that exists stands at depth 3.
const maxDepth = 16

// maxKeys bounds the keys of a document. Sixty rules, a hundred certificates and a thousand identities have some 2,500.
// The library's time grows with the square of their number: a megabyte of them took it six minutes.
const maxKeys = 5000

// maxTokens bounds the tokens of a document, of which the parser makes a tree: a megabyte of "a," took it a minute and 431 MiB. A
// policy of sixty rules, a thousand identities and two thousand serials has some 20,000.
const maxTokens = 30_000

// refusedTokens are the parts of YAML that are not let in, with what to write instead.
var refusedTokens = map[token.Type]complaint{
	token.AnchorType:     {"has an anchor (&)", "write the value out; quote a text that starts with &"},
	token.AliasType:      {"has an alias (*)", "write the value out; quote a text that starts with *"},
	token.MergeKeyType:   {"has a merge key (<<)", "write the keys out"},
	token.TagType:        {"has a tag (!)", "remove it; quote a text that starts with !"},
	token.DirectiveType:  {"has a directive (%)", "remove the line"},
	token.MappingKeyType: {"has a complex key (?)", "write key: value"},
}

// plainTokens reports whether the text has only values, lists and mappings, in one document and not nested deeper
// than maxDepth, and whether it says where it ends ("..."). It looks at tokens, before the parser does: the parser
// recurses, so 100,000 brackets would end the process.
func plainTokens(tokens token.Tokens, refuse func(line, column int, c complaint)) (ok, ended bool) {
	ok = true
	no := func(tk *token.Token, message, fix string) {
		ok = false
		refuse(tk.Position.Line, tk.Position.Column, complaint{message, fix})
	}
	depth, keys := nesting{}, 0
	content := false
	for i, tk := range tokens {
		if i == maxTokens {
			no(tk, fmt.Sprintf("has more than %d values and signs", maxTokens), "shorten it; revoked certificates fit better into a revocation list (client_crl)")
			return false, false
		}
		switch tk.Type {
		case token.CommentType:
			continue
		case token.DocumentHeaderType:
			if content || ended {
				no(tk, "starts a second document (---)", "keep one document in the file")
				return false, false
			}
			ended = false
			content = true
			continue
		case token.DocumentEndType:
			ended = true
			continue
		}
		if ended {
			no(tk, "goes on after the end of the document (...)", "keep one document in the file")
			return false, false
		}
		content = true
		if c, refused := refusedTokens[tk.Type]; refused {
			no(tk, c.message, c.fix)
		}
		if tk.Type == token.MappingValueType {
			keys++
		}
		if keys > maxKeys {
			no(tk, fmt.Sprintf("has more than %d keys", maxKeys), "write one policy per file")
			return false, false
		}
		if depth.push(tk) > maxDepth {
			no(tk, fmt.Sprintf("is nested deeper than %d levels", maxDepth), "write the keys as the reference shows them")
			return false, false
		}
	}
	return ok, ended
}

// nesting follows how deep the tokens are nested: brackets, and in block style the columns at which lines start and
// the dashes on one line. It may count a level too many, never one too few.
type nesting struct {
	brackets int
	columns  []int // of the starts of lines that hold the current one, rising
	line     int
	dashes   int // "-" on the current line
}

func (n *nesting) push(tk *token.Token) int {
	switch tk.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.brackets++
	case token.SequenceEndType, token.MappingEndType:
		n.brackets--
	}
	if n.brackets == 0 && tk.Position.Line != n.line {
		n.line, n.dashes = tk.Position.Line, 0
		column := tk.Position.Column
		for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= column {
			n.columns = n.columns[:len(n.columns)-1]
		}
		n.columns = append(n.columns, column)
	}
	if tk.Type == token.SequenceEntryType {
		n.dashes++
	}
	return max(n.brackets, 0) + len(n.columns) + n.dashes
}
