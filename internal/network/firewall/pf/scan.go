package pf

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"ringfence"
)

// token is a word, a text between quotation marks, or a mark.
type token struct {
	text   string
	quoted bool
	line   int
}

// statement is a command, which may go over several lines.
type statement struct {
	tokens      []token
	first, last int // lines
	text        string
}

const (
	maxFile   = 64 << 20 // bytes
	maxTokens = 1 << 14  // of a statement, with its macros in place
)

func fault(format string, args ...any) error {
	return &ringfence.Fault{Op: op, Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...), Hint: "give a pf.conf, or what `pfctl -sr` prints"}
}

// scan cuts a file into statements. A line goes on after a backslash, and within braces and parentheses.
func scan(b []byte) (out []statement, err error) {
	if len(b) > maxFile {
		return nil, fault("the file is larger than 64 MiB")
	}
	if bytes.IndexByte(b, 0) >= 0 || !utf8.Valid(b) {
		return nil, fault("this is no text")
	}
	s := statement{first: 1}
	line, depth, start := 1, 0, 0
	end := func(at int) {
		if len(s.tokens) > 0 {
			s.last, s.text = s.tokens[len(s.tokens)-1].line, strings.Join(strings.Fields(string(b[start:at])), " ")
			out = append(out, s)
		}
		s, start = statement{}, at
	}
	for i := 0; i < len(b); {
		c := b[i]
		if len(s.tokens) == 0 {
			s.first = line
			if c == ' ' || c == '\t' || c == '\r' {
				start = i + 1
			}
		}
		if len(s.tokens) > maxTokens {
			return nil, fault("the statement at line %d has more than %d words", s.first, maxTokens)
		}
		add := func(n int) {
			s.tokens = append(s.tokens, token{text: string(b[i : i+n]), line: line})
			i += n
		}
		switch {
		case c == '\n':
			if depth == 0 {
				end(i)
				start = i + 1
			}
			line++
			i++
		case c == '\\' && i+1 < len(b) && (b[i+1] == '\n' || b[i+1] == '\r'):
			i++
			if b[i] == '\r' && i+1 < len(b) {
				i++
			}
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '#':
			n := bytes.IndexByte(b[i:], '\n')
			if n < 0 {
				n = len(b) - i
			}
			if depth == 0 {
				end(i)
			}
			i += n
			start = i
		case c == '"':
			n := bytes.IndexByte(b[i+1:], '"')
			if n < 0 {
				return nil, fault("the text that begins at line %d does not end", line)
			}
			s.tokens = append(s.tokens, token{text: string(b[i+1 : i+1+n]), quoted: true, line: line})
			line += bytes.Count(b[i:i+n], []byte("\n"))
			i += n + 2
		case strings.IndexByte("{}(),", c) >= 0:
			switch c {
			case '{', '(':
				depth++
			case '}', ')':
				depth = max(0, depth-1)
			}
			add(1)
		case strings.IndexByte("<>!=", c) >= 0:
			n := 1
			if i+1 < len(b) && (b[i+1] == '=' && c != '=' || c == '<' && b[i+1] == '>' || c == '>' && b[i+1] == '<') {
				n = 2
			}
			add(n)
		default:
			n := bytes.IndexAny(b[i:], " \t\r\n\"{}(),<>!=#\\")
			if n < 0 {
				n = len(b) - i
			}
			add(max(1, n))
		}
	}
	end(len(b))
	return out, nil
}

// words cuts the value of a macro again.
func words(t token) ([]token, error) {
	if !t.quoted {
		return []token{t}, nil
	}
	inner, err := scan([]byte(strings.ReplaceAll(t.text, "\n", " ")))
	if err != nil {
		return nil, err
	}
	var out []token
	for _, s := range inner {
		for _, u := range s.tokens {
			u.line = t.line
			out = append(out, u)
		}
	}
	return out, nil
}

// expand puts macros in place.
func (r *reader) expand(in []token, depth int) (out []token, err error) {
	for _, t := range in {
		if t.quoted || t.text == "" || t.text[0] != '$' {
			out = append(out, t)
			continue
		}
		name := t.text[1:]
		rest := ""
		if i := strings.IndexFunc(name, func(c rune) bool {
			return !(c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z')
		}); i >= 0 {
			name, rest = name[:i], name[i:]
		}
		value, ok := r.macros[name]
		switch {
		case !ok:
			return nil, fmt.Errorf("there is no macro %.40q", name)
		case depth > 16:
			return nil, fmt.Errorf("the macro %.40q contains itself", name)
		}
		inner, err := r.expand(value, depth+1)
		if err != nil {
			return nil, err
		}
		if rest != "" && len(inner) > 0 {
			inner = append([]token{}, inner...)
			inner[len(inner)-1].text += rest
		}
		if out = append(out, inner...); len(out) > maxTokens {
			return nil, fmt.Errorf("with its macros, the statement has more than %d words", maxTokens)
		}
	}
	return out, nil
}
