package pac

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"ringfence"
)

type kind uint8

const (
	end kind = iota
	name
	word // a reserved word
	number
	text
	pattern
	sign
)

// token is a piece of a program.
type token struct {
	kind  kind
	s     string // for text: what it means; for pattern: the expression
	flags string // of a pattern
	n     float64
	line  int
	at    int  // where it begins
	fresh bool // a line ends before it
}

// lexer takes a program apart.
type lexer struct {
	src  string
	at   int
	line int
}

// reserved are the words that are no names.
func reserved(s string) bool {
	switch s {
	case "break", "case", "catch", "class", "const", "continue", "debugger", "default", "delete", "do", "else", "export", "extends", "false", "finally", "for", "function", "if", "import", "in", "instanceof", "let", "new", "null",
		"return", "super", "switch", "this", "throw", "true", "try", "typeof", "var", "void", "while", "with", "yield":
		return true
	}
	return false
}

func broken(line int, format string, args ...any) error {
	return &ringfence.Fault{Op: "pac", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("line %d: ", line) + fmt.Sprintf(format, args...)}
}

func isNameByte(c byte, first bool) bool {
	return c == '_' || c == '$' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && c >= '0' && c <= '9'
}

// blank skips what means nothing, and says whether a line ended.
func (l *lexer) blank() (fresh bool, err error) {
	for l.at < len(l.src) {
		switch rest := l.src[l.at:]; {
		case rest[0] == '\n' || rest[0] == '\r' && !strings.HasPrefix(rest, "\r\n"):
			fresh = true
			l.line++
			l.at++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\v' || rest[0] == '\f' || rest[0] == '\r':
			l.at++
		case strings.HasPrefix(rest, "//") || strings.HasPrefix(rest, "<!--"):
			if n := strings.IndexAny(rest, "\r\n"); n >= 0 {
				l.at += n
			} else {
				l.at = len(l.src)
			}
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return false, broken(l.line, "a comment has no end")
			}
			lines := strings.Count(rest[:n+4], "\n")
			fresh = fresh || lines > 0
			l.line += lines
			l.at += n + 4
		default:
			r, size := utf8.DecodeRuneInString(rest)
			switch {
			case r == '\u2028' || r == '\u2029':
				fresh = true
			case r != '\ufeff' && !(r >= utf8.RuneSelf && unicode.IsSpace(r)):
				return fresh, nil
			}
			l.at += size
		}
	}
	return fresh, nil
}

// signs are the operators, the longest first.
func signs() []string {
	return []string{">>>=", "===", "!==", ">>>", "<<=", ">>=", "=>", "==", "!=", "<=", ">=", "&&", "||", "++", "--", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<", ">>",
		"{", "}", "(", ")", "[", "]", ";", ",", "<", ">", "+", "-", "*", "/", "%", "&", "|", "^", "!", "~", "?", ":", "=", "."}
}

// next returns the next token; where a pattern could stand, the parser asks for one again by pattern.
func (l *lexer) next() (t token, err error) {
	if t.fresh, err = l.blank(); err != nil {
		return t, err
	}
	t.line, t.at = l.line, l.at
	if l.at >= len(l.src) {
		t.fresh = true
		return t, nil
	}
	c := l.src[l.at]
	switch {
	case isNameByte(c, true):
		n := l.at
		for n < len(l.src) && isNameByte(l.src[n], false) {
			n++
		}
		t.kind, t.s = name, l.src[l.at:n]
		if reserved(t.s) {
			t.kind = word
		}
		l.at = n
		return t, nil
	case c >= '0' && c <= '9' || c == '.' && l.at+1 < len(l.src) && l.src[l.at+1] >= '0' && l.src[l.at+1] <= '9':
		return l.number(t)
	case c == '"' || c == '\'':
		return l.text(t, c)
	}
	for _, s := range signs() {
		if strings.HasPrefix(l.src[l.at:], s) {
			t.kind, t.s = sign, s
			l.at += len(s)
			return t, nil
		}
	}
	r, _ := utf8.DecodeRuneInString(l.src[l.at:])
	return t, broken(l.line, "%q is not understood", r)
}

func (l *lexer) number(t token) (token, error) {
	n := l.at
	hex := strings.HasPrefix(strings.ToLower(l.src[n:min(n+2, len(l.src))]), "0x")
	for n < len(l.src) && (isNameByte(l.src[n], false) || l.src[n] == '.' || !hex && (l.src[n] == '+' || l.src[n] == '-') && (l.src[n-1] == 'e' || l.src[n-1] == 'E')) {
		n++
	}
	s := l.src[l.at:n]
	var err error
	switch {
	case hex:
		var v uint64
		v, err = strconv.ParseUint(s[2:], 16, 64)
		t.n = float64(v)
	case len(s) > 1 && s[0] == '0' && strings.Trim(s, "01234567") == "":
		var v uint64
		v, err = strconv.ParseUint(s, 8, 64)
		t.n = float64(v)
	case strings.Trim(s, "0123456789.eE+-") != "":
		err = strconv.ErrSyntax
	default:
		t.n, err = strconv.ParseFloat(s, 64)
	}
	if err != nil {
		return t, broken(l.line, "%.40q is no number", s)
	}
	t.kind, t.s = number, s
	l.at = n
	return t, nil
}

func (l *lexer) text(t token, quote byte) (token, error) {
	var b strings.Builder
	for i := l.at + 1; i < len(l.src); i++ {
		c := l.src[i]
		switch {
		case c == quote:
			t.kind, t.s = text, b.String()
			l.at = i + 1
			return t, nil
		case c == '\n' || c == '\r':
			return t, broken(l.line, "a text has no end")
		case c != '\\':
			b.WriteByte(c)
			continue
		}
		if i++; i >= len(l.src) {
			break
		}
		digits := 0
		switch c = l.src[i]; c {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'v':
			b.WriteByte('\v')
		case '0':
			b.WriteByte(0)
		case '\r':
			if strings.HasPrefix(l.src[i:], "\r\n") {
				i++
			}
			l.line++
		case '\n':
			l.line++
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		default:
			b.WriteByte(c)
		}
		if digits > 0 {
			if i+digits >= len(l.src) {
				break
			}
			v, err := strconv.ParseUint(l.src[i+1:i+1+digits], 16, 32)
			if err != nil {
				return t, broken(l.line, "%.10q is no character", l.src[i-1:i+1+digits])
			}
			b.WriteRune(rune(v))
			i += digits
		}
	}
	return t, broken(l.line, "a text has no end")
}

// pattern reads a regular expression that begins at a token.
func (l *lexer) pattern(t token) (token, error) {
	class := false
	for i := t.at + 1; i < len(l.src); i++ {
		switch c := l.src[i]; {
		case c == '\n' || c == '\r':
			return t, broken(t.line, "a regular expression has no end")
		case c == '\\':
			i++
		case c == '[':
			class = true
		case c == ']':
			class = false
		case c == '/' && !class:
			t.kind, t.s = pattern, l.src[t.at+1:i]
			n := i + 1
			for n < len(l.src) && isNameByte(l.src[n], false) {
				n++
			}
			t.flags = l.src[i+1 : n]
			l.at = n
			return t, nil
		}
	}
	return t, broken(t.line, "a regular expression has no end")
}
