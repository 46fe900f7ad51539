package sip

import (
	"bytes"
	"iter"
)

// Params is the raw text of ";"-separated parameters, with or without the leading semicolon.
type Params []byte

// Get returns the value of a parameter, without quotes, and whether it is present; a flag has an empty value.
func (p Params) Get(name string) (value []byte, ok bool) {
	for rest := []byte(p); ; {
		var n, v []byte
		if n, v, rest, ok = nextParam(rest); !ok {
			return nil, false
		}
		if len(n) == len(name) && EqualFold(n, name) {
			return v, true
		}
	}
}

// Has reports whether a parameter is present.
func (p Params) Has(name string) bool {
	_, ok := p.Get(name)
	return ok
}

// All yields each parameter's name and value in order; surrounding quotes of a value are removed, escapes are kept.
func (p Params) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for rest := []byte(p); ; {
			name, value, tail, ok := nextParam(rest)
			if !ok || !yield(name, value) {
				return
			}
			rest = tail
		}
	}
}

// nextParam splits the first parameter off b. ok is false if there is none.
func nextParam(b []byte) (name, value, rest []byte, ok bool) {
	for len(b) > 0 {
		if nameEnd, end, _, plain := plainParam(b); plain {
			if end > nameEnd {
				value = b[nameEnd+1 : end]
			}
			return b[:nameEnd], value, b[min(end+1, len(b)):], true
		}
		var item []byte
		item, b = cut(b, ';')
		if item = trim(item); len(item) == 0 {
			continue
		}
		if i := bytes.IndexByte(item, '='); i >= 0 {
			return trim(item[:i]), unquote(trim(item[i+1:])), b, true
		}
		return item, nil, b, true
	}
	return nil, nil, nil, false
}

// plainParam reports whether b begins with a parameter as nearly all are, without white space and quotes: its name ends at nameEnd, and
// it at end, which is where the name ends too if it has no value. word tells that the value is a token.
func plainParam(b []byte) (nameEnd, end int, word, plain bool) {
	for end < len(b) && chars[b[end]]&inToken != 0 {
		end++
	}
	nameEnd = end
	if end < len(b) && b[end] == '=' {
		all := byte(inToken)
		for end++; end < len(b); end++ {
			is := chars[b[end]]
			if is&notInValue != 0 {
				break
			}
			all &= is
		}
		word = all != 0 && end > nameEnd+1
	}
	return nameEnd, end, word, nameEnd > 0 && (end == len(b) || b[end] == ';')
}

// check reports whether every parameter is a token with, perhaps, a value that is one word or one quoted string (ok). A stray quote,
// bracket or parenthesis could make two parsers find different tags in the same field. It also returns the value of the parameter with
// this name, nil if there is none, and whether that is good: a token, and there once.
func (p Params) check(name string) (value []byte, good, ok bool) {
	good = true
	for rest := []byte(p); len(rest) > 0; {
		var key, v []byte
		nameEnd, end, word, plain := plainParam(rest)
		if plain {
			if key = rest[:nameEnd]; end > nameEnd {
				v = rest[nameEnd+1 : end]
			}
			rest = rest[min(end+1, len(rest)):]
		} else {
			var item []byte
			item, rest = cut(rest, ';')
			if item = trim(item); !validParam(item) {
				return nil, false, false
			}
			key, v, _, _ = nextParam(item)
			word = isToken(v)
		}
		if len(key) == len(name) && len(key) > 0 && EqualFold(key, name) {
			good = good && word && value == nil
			value = v
		}
	}
	return value, good, true
}

// validParam is check for one parameter of any form; it may be empty.
func validParam(item []byte) bool {
	if len(item) == 0 {
		return true
	}
	i := 0
	for i < len(item) && chars[item[i]]&inToken != 0 {
		i++
	}
	value := trim(item[i:])
	if i == 0 || len(value) > 0 && value[0] != '=' {
		return false
	}
	if len(value) == 0 {
		return true
	}
	value = trim(value[1:])
	if len(value) > 0 && value[0] == '"' {
		return closingQuote(value) == len(value)-1
	}
	for _, c := range value {
		if chars[c]&notInValue != 0 {
			return false
		}
	}
	return true
}

// Values yields the members of a comma-separated header value, without surrounding white space and without empty
// members. Commas inside quotes, angle brackets and comments do not split (RFC 3261 section 7.3.1).
func Values(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := b; ; {
			var item []byte
			if item, rest = nextValue(rest); item == nil || !yield(item) {
				return
			}
		}
	}
}

// nextValue splits the first member that is not empty off b; it is nil if there is none.
func nextValue(b []byte) (item, rest []byte) {
	for len(b) > 0 {
		item, b = cut(b, ',')
		if item = trim(item); len(item) > 0 {
			return item, b
		}
	}
	return nil, nil
}

// cut splits b at the first sep outside quotes, angle brackets and comments.
func cut(b []byte, sep byte) (head, tail []byte) {
	i := bytes.IndexByte(b, sep)
	if i < 0 {
		return b, nil
	}
	if !opens(b[:i]) {
		return b[:i], b[i+1:]
	}
	var quoted, angle bool
	comment := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\' && (quoted || comment > 0):
			i++
		case c == '"' && comment == 0:
			quoted = !quoted
		case quoted:
		case c == '(' && !angle:
			comment++
		case c == ')' && comment > 0:
			comment--
		case comment > 0:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == sep && !angle:
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

// opens reports whether b has a character that could hide a separator after it.
func opens(b []byte) bool {
	return bytes.IndexByte(b, '<') >= 0 || bytes.IndexByte(b, '"') >= 0 || bytes.IndexByte(b, '(') >= 0
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func unquote(b []byte) []byte {
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		return b[1 : len(b)-1]
	}
	return b
}
