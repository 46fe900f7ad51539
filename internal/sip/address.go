package sip

import "bytes"

// NameAddr is a From, To, Contact, Route or similar value: an optional display name, a URI and header parameters.
type NameAddr struct {
	Display []byte // without quotes, escapes kept
	URI     URI
	Params  Params // after the closing bracket or, without brackets, after the URI (RFC 3261 section 20.10)
}

// ParseNameAddr reads name-addr or addr-spec with parameters.
func ParseNameAddr(b []byte) (a NameAddr, err error) {
	err = a.parse(b)
	return a, err
}

// parse is ParseNameAddr into a, which may have held another address.
func (a *NameAddr) parse(b []byte) error {
	*a = NameAddr{}
	b = trim(b)
	if len(b) == 0 {
		return bad(0, "Missing Address")
	}
	open := 0
	switch b[0] {
	case '<':
	case '"':
		end := closingQuote(b)
		if end < 0 {
			return bad(0, "Unterminated Quote")
		}
		a.Display = b[1:end]
		for open = end + 1; open < len(b) && isBlank(b[open]); open++ {
		}
		if open == len(b) || b[open] != '<' {
			return bad(end, "Bad Address")
		}
	default:
		if open = bytes.IndexByte(b, '<'); open < 0 {
			return a.parseBare(b)
		}
		a.Display = trim(b[:open])
		for _, c := range a.Display {
			// Raw UTF-8 is only allowed in quotes, but phones send it without.
			if chars[c]&inToken == 0 && !isBlank(c) && c < 0x80 {
				return bad(0, "Bad Display Name")
			}
		}
	}
	rest := b[open+1:]
	n, err := a.URI.parse(rest)
	if err != nil {
		return err
	}
	if n == len(rest) || rest[n] != '>' {
		return bad(open, "Unterminated Bracket")
	}
	tail := trim(rest[n+1:])
	if len(tail) > 0 {
		if tail[0] != ';' {
			return bad(n, "Bad Address Parameters")
		}
		a.Params = Params(tail[1:])
	}
	return nil
}

// parseBare reads addr-spec: without brackets, what follows ";" belongs to the header, and "?" and "," are not allowed.
func (a *NameAddr) parseBare(b []byte) error {
	if bytes.IndexByte(b, '?') >= 0 || bytes.IndexByte(b, ',') >= 0 {
		return bad(0, "Address Needs Brackets")
	}
	uri := b
	if i := bytes.IndexByte(b, ';'); i >= 0 {
		uri, a.Params = trim(b[:i]), Params(b[i+1:])
	}
	n, err := a.URI.parse(uri)
	if err == nil && n != len(uri) {
		err = bad(n, "Bad URI")
	}
	return err
}

// closingQuote returns the offset of the quote that ends the string which begins at b[0], or -1.
func closingQuote(b []byte) int {
	for i := 1; i < len(b); {
		j := bytes.IndexByte(b[i:], '"')
		if j < 0 {
			return -1
		}
		escape := bytes.IndexByte(b[i:i+j], '\\')
		if escape < 0 {
			return i + j
		}
		i += escape + 2
	}
	return -1
}

// Tag returns the tag parameter, or nil.
func (a *NameAddr) Tag() []byte {
	tag, _ := a.Params.Get("tag")
	return tag
}
