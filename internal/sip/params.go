package sip

import (
	"bytes"
	"iter"
)

// Params is the raw text of ";"-separated parameters, with or without the leading semicolon.
type Params []byte

// Get returns the value of a parameter, without quotes, and whether it is present; a flag has an empty value.
func (p Params) Get(name string) (value []byte, ok bool) {
	for n, v := range p.All() {
		if EqualFold(n, name) {
			return v, true
		}
	}
	return nil, false
}

// Has reports whether a parameter is present.
func (p Params) Has(name string) bool {
	_, ok := p.Get(name)
	return ok
}

// All yields each parameter's name and value in order; surrounding quotes of a value are removed, escapes are kept.
func (p Params) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for rest := []byte(p); len(rest) > 0; {
			var item []byte
			item, rest = cut(rest, ';')
			if item = trim(item); len(item) == 0 {
				continue
			}
			name, value := item, []byte(nil)
			if i := bytes.IndexByte(item, '='); i >= 0 {
				name, value = trim(item[:i]), unquote(trim(item[i+1:]))
			}
			if !yield(name, value) {
				return
			}
		}
	}
}

// Values yields the members of a comma-separated header value, without surrounding white space and without empty
// members. Commas inside quotes, angle brackets and comments do not split (RFC 3261 section 7.3.1).
func Values(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := b; len(rest) > 0; {
			var item []byte
			item, rest = cut(rest, ',')
			if item = trim(item); len(item) > 0 && !yield(item) {
				return
			}
		}
	}
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
