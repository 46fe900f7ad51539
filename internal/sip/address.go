package sip

import "bytes"

// NameAddr is a From, To, Contact, Route or similar value: an optional display name, a URI and header parameters.
type NameAddr struct {
	Display []byte // without quotes, escapes kept
	URI     URI
	Params  Params // after the closing bracket or, without brackets, after the URI (RFC 3261 section 20.10)
}

// ParseNameAddr reads name-addr or addr-spec with parameters.
func ParseNameAddr(b []byte) (NameAddr, error) {
	b = trim(b)
	if len(b) == 0 {
		return NameAddr{}, bad(0, "Missing Address")
	}
	var a NameAddr
	rest := b
	if b[0] == '"' {
		end := closingQuote(b)
		if end < 0 {
			return a, bad(0, "Unterminated Quote")
		}
		a.Display = b[1:end]
		rest = trim(b[end+1:])
		if len(rest) == 0 || rest[0] != '<' {
			return a, bad(end, "Bad Address")
		}
	}
	open := bytes.IndexByte(rest, '<')
	if open < 0 {
		return a, a.parseBare(rest)
	}
	if b[0] != '"' {
		a.Display = trim(rest[:open])
		for _, c := range a.Display {
			// Raw UTF-8 is only allowed in quotes, but phones send it without.
			if !isTokenChar(c) && c != ' ' && c != '\t' && c < 0x80 {
				return a, bad(0, "Bad Display Name")
			}
		}
	}
	end := bytes.IndexByte(rest, '>')
	if end < open {
		return a, bad(open, "Unterminated Bracket")
	}
	u, err := ParseURI(rest[open+1 : end])
	if err != nil {
		return a, err
	}
	a.URI = u
	tail := trim(rest[end+1:])
	if len(tail) > 0 {
		if tail[0] != ';' {
			return a, bad(end, "Bad Address Parameters")
		}
		a.Params = Params(tail[1:])
	}
	return a, nil
}

// parseBare reads addr-spec: without brackets, what follows ";" belongs to the header, and "?" and "," are not allowed.
func (a *NameAddr) parseBare(b []byte) error {
	if bytes.IndexByte(b, '?') >= 0 || bytes.IndexByte(b, ',') >= 0 {
		return bad(0, "Address Needs Brackets")
	}
	uri, params := b, []byte(nil)
	if i := bytes.IndexByte(b, ';'); i >= 0 {
		uri, params = trim(b[:i]), b[i+1:]
	}
	u, err := ParseURI(uri)
	if err != nil {
		return err
	}
	a.URI, a.Params = u, Params(params)
	return nil
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
