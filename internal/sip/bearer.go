package sip

import "bytes"

// maxBearer bounds a token, in bytes.
const maxBearer = 4096

// ParseBearer reads the value of an Authorization or Proxy-Authorization field of the Bearer scheme: "Bearer TOKEN" as RFC 8898 section
// 2.1.1 has it, or `Bearer token="TOKEN"`, which clients of some vendors send. The token is part of v. It fails for other schemes, for
// tokens that are too long, and for what cannot be in a token.
func ParseBearer(v []byte) (token []byte, ok bool) {
	const scheme = "Bearer"
	v = trim(v)
	if len(v) <= len(scheme) || !EqualFold(v[:len(scheme)], scheme) || v[len(scheme)] != ' ' && v[len(scheme)] != '\t' {
		return nil, false
	}
	v = trim(v[len(scheme):])
	if name, value, found := bytes.Cut(v, []byte("=")); found && EqualFold(trim(name), "token") {
		value = trim(value)
		if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
			return nil, false
		}
		v = value[1 : len(value)-1]
	}
	if len(v) == 0 || len(v) > maxBearer {
		return nil, false
	}
	end := len(bytes.TrimRight(v, "="))
	for _, c := range v[:end] {
		if l := c | 0x20; (l < 'a' || l > 'z') && (c < '0' || c > '9') && bytes.IndexByte([]byte("-._~+/"), c) < 0 { // token68 (RFC 9110 section 11.2)
			return nil, false
		}
	}
	return v, end > 0
}

// Bearer returns the token of the request, or nil if it carries none.
func (m *Message) Bearer() []byte {
	for _, id := range [...]HeaderID{HeaderAuthorization, HeaderProxyAuthorization} {
		for v := range m.All(id) {
			if token, ok := ParseBearer(v); ok {
				return token
			}
		}
	}
	return nil
}

// BearerChallenge is a WWW-Authenticate or Proxy-Authenticate value of the Bearer scheme (RFC 8898 section 4).
type BearerChallenge struct {
	Realm  string
	Server string // where a token is to be had
	Scope  string
	Error  string // "invalid_token" if there was one; empty: there was none
}

// Append appends the value.
func (c *BearerChallenge) Append(b []byte) []byte {
	b = appendQuoted(append(b, "Bearer realm="...), c.Realm)
	b = appendQuoted(append(b, ", authz_server="...), c.Server)
	b = appendQuoted(append(b, ", scope="...), c.Scope)
	if c.Error != "" {
		b = appendQuoted(append(b, ", error="...), c.Error)
	}
	return b
}
