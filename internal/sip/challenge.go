package sip

import "fmt"

// Challenge is a WWW-Authenticate or Proxy-Authenticate value of the Digest scheme (RFC 7616 section 3.3).
type Challenge struct {
	Realm     string
	Nonce     string
	Opaque    string
	Algorithm DigestAlgorithm
	QOP       bool // qop "auth" is offered; always true for ours
	Stale     bool // the password was right but the nonce too old: answer again without asking the user
}

// Append appends the value that a server sends. It always offers qop "auth".
func (c *Challenge) Append(b []byte) []byte {
	b = append(b, "Digest realm="...)
	b = appendQuoted(b, c.Realm)
	b = append(b, ", nonce="...)
	b = appendQuoted(b, c.Nonce)
	if c.Opaque != "" {
		b = append(b, ", opaque="...)
		b = appendQuoted(b, c.Opaque)
	}
	b = append(b, ", algorithm="...)
	b = append(b, c.Algorithm.String()...)
	if c.Stale {
		b = append(b, ", stale=true"...)
	}
	return append(b, `, qop="auth"`...)
}

// appendQuoted appends a quoted-string. Control characters, which could end the line, become spaces.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// ParseChallenge reads one value. It fails if we could not answer: another scheme or algorithm, or a qop without "auth".
func ParseChallenge(v []byte) (Challenge, error) {
	var c Challenge
	var realm, nonce, opaque, qop, algorithm, stale []byte
	err := authParams(v, func(name, value []byte) bool {
		switch {
		case EqualFold(name, "realm"):
			return setOnce(&realm, value)
		case EqualFold(name, "nonce"):
			return setOnce(&nonce, value)
		case EqualFold(name, "opaque"):
			return setOnce(&opaque, value)
		case EqualFold(name, "qop"):
			return setOnce(&qop, value)
		case EqualFold(name, "algorithm"):
			return setOnce(&algorithm, value)
		case EqualFold(name, "stale"):
			return setOnce(&stale, value)
		}
		return true
	})
	if err != nil {
		return Challenge{}, err
	}
	var ok bool
	if c.Algorithm, ok = LookupDigestAlgorithm(algorithm); !ok {
		return Challenge{}, bad(0, "Unsupported Digest Algorithm")
	}
	for option := range Values(qop) {
		c.QOP = c.QOP || EqualFold(option, "auth")
	}
	if realm == nil || len(nonce) == 0 || qop != nil && !c.QOP {
		return Challenge{}, bad(0, "Incomplete Challenge")
	}
	c.Realm, c.Nonce, c.Opaque, c.Stale = string(realm), string(nonce), string(opaque), EqualFold(stale, "true")
	return c, nil
}

// StrongestChallenge returns the challenge of m that we should answer: of the fields with this id
// (HeaderWWWAuthenticate or HeaderProxyAuthenticate), the first of the strongest algorithm (RFC 8760 section 2.4).
// Weaker than floor is never answered, so that a server in the middle cannot talk us down. ok is false if none is left.
func (m *Message) StrongestChallenge(id HeaderID, floor DigestAlgorithm) (c Challenge, ok bool) {
	for v := range m.All(id) {
		got, err := ParseChallenge(v)
		if err == nil && got.Algorithm >= floor && got.Algorithm > c.Algorithm {
			c, ok = got, true
		}
	}
	return c, ok
}

// Answer is what a client needs to answer a challenge.
type Answer struct {
	Username string
	Password string
	Method   string
	URI      string // Request-URI
	CNonce   string // fresh random text, at least 64 bits
	NC       uint32 // how often this nonce has been used, from 1
}

// String leaves out the password.
func (a Answer) String() string { return fmt.Sprintf("%s %s as %s", a.Method, a.URI, a.Username) }

// GoString is String.
func (a Answer) GoString() string { return a.String() }

// Authorize returns the value of Authorization or Proxy-Authorization that answers c. Without qop in the challenge it
// answers as RFC 2617 section 3.2.2.1 says for old servers. A username that could end a line is cleaned.
func (c *Challenge) Authorize(a Answer) string {
	cred := Credentials{URI: []byte(a.URI), Nonce: []byte(c.Nonce), Algorithm: c.Algorithm, QOP: c.QOP}
	cred.CNonce, cred.nc = []byte(a.CNonce), fmt.Appendf(nil, "%08x", a.NC)
	ha1 := HA1(c.Algorithm, a.Username, c.Realm, a.Password)
	var response [64]byte
	n := cred.response(&response, ha1, a.Method)
	clear(ha1)

	b := append(make([]byte, 0, 384), "Digest username="...)
	b = appendQuoted(b, a.Username)
	b = append(b, ", realm="...)
	b = appendQuoted(b, c.Realm)
	b = append(b, ", nonce="...)
	b = appendQuoted(b, c.Nonce)
	b = append(b, ", uri="...)
	b = appendQuoted(b, a.URI)
	b = append(b, ", response=\""...)
	b = append(b, response[:n]...)
	b = append(b, "\", algorithm="...)
	b = append(b, c.Algorithm.String()...)
	if c.Opaque != "" {
		b = append(b, ", opaque="...)
		b = appendQuoted(b, c.Opaque)
	}
	if c.QOP {
		b = append(b, ", cnonce="...)
		b = appendQuoted(b, a.CNonce)
		b = append(b, ", qop=auth, nc="...)
		b = append(b, cred.nc...)
	}
	return string(b)
}
