package sip

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"strconv"
)

// DigestAlgorithm is a hash of digest authentication (RFC 8760 section 2.2). The "-sess" variants are not supported.
type DigestAlgorithm uint8

// The algorithms, weakest first, so that a larger value is stronger. The zero value is no algorithm.
const (
	DigestMD5       DigestAlgorithm = iota + 1 // RFC 3261; only where the device's profile allows it
	DigestSHA256                               // RFC 7616
	DigestSHA512256                            // RFC 7616: SHA-512/256
)

// String returns the name on the wire, e.g. "SHA-256".
func (a DigestAlgorithm) String() string {
	switch a {
	case DigestMD5:
		return "MD5"
	case DigestSHA256:
		return "SHA-256"
	case DigestSHA512256:
		return "SHA-512-256"
	}
	return ""
}

// Size returns the bytes of a hash, 0 for no algorithm.
func (a DigestAlgorithm) Size() int {
	switch a {
	case DigestMD5:
		return md5.Size
	case DigestSHA256, DigestSHA512256:
		return sha256.Size
	}
	return 0
}

// LookupDigestAlgorithm returns the algorithm for its name in any case; an empty name is MD5 (RFC 7616 section 3.3).
func LookupDigestAlgorithm(name []byte) (a DigestAlgorithm, ok bool) {
	if len(name) == 0 {
		return DigestMD5, true
	}
	for a = DigestMD5; a <= DigestSHA512256; a++ {
		if EqualFold(name, a.String()) {
			return a, true
		}
	}
	return 0, false
}

// sum puts the hash of b in out and returns its used part.
func (a DigestAlgorithm) sum(out *[32]byte, b []byte) []byte {
	switch a {
	case DigestMD5:
		h := md5.Sum(b)
		copy(out[:], h[:])
	case DigestSHA256, DigestSHA512256:
		a.sha(out, b)
	}
	return out[:a.Size()]
}

// sha is sum for SHA-2. It hashes a copy: a compiler that has a profile keeps what is hashed so in the heap, and with b all that b may be a
// part of, for MD5 too.
func (a DigestAlgorithm) sha(out *[32]byte, b []byte) {
	var few [320]byte
	text := append(few[:0], b...)
	if a == DigestSHA512256 {
		*out = sha512.Sum512_256(text)
	} else {
		*out = sha256.Sum256(text)
	}
	clear(text)
}

// HA1 returns H(user:realm:password), which is what a server stores instead of the password (RFC 7616 section 3.4.2).
// It is as secret as the password within the realm. Its length is a.Size().
func HA1(a DigestAlgorithm, user, realm, password string) []byte {
	var out [32]byte
	b := make([]byte, 0, len(user)+len(realm)+len(password)+2)
	b = append(append(append(append(append(b, user...), ':'), realm...), ':'), password...)
	h := bytes.Clone(a.sum(&out, b))
	clear(b)
	return h
}

// Credentials is an Authorization or Proxy-Authorization value of the Digest scheme (RFC 7616 section 3.4). Its slices
// point into the value it was parsed from, except those that had escapes.
type Credentials struct {
	Username  []byte
	Realm     []byte
	Nonce     []byte
	URI       []byte
	Response  []byte // hex as received
	CNonce    []byte
	Opaque    []byte
	NC        uint32 // nonce count; 0 if absent
	QOP       bool   // qop is "auth"; false if absent
	Algorithm DigestAlgorithm
	nc        []byte
}

// The limits of an authentication header value.
const (
	maxAuthValue  = 2048
	maxAuthParams = 24
)

// ParseCredentials reads one value. It accepts only what [Credentials.Verify] can check: the Digest scheme, a supported
// algorithm, qop "auth" or none, and each parameter once.
func ParseCredentials(v []byte) (Credentials, error) {
	var c Credentials
	err := authParams(v, func(name, value []byte) bool {
		switch {
		case EqualFold(name, "username"):
			return setOnce(&c.Username, value)
		case EqualFold(name, "realm"):
			return setOnce(&c.Realm, value)
		case EqualFold(name, "nonce"):
			return setOnce(&c.Nonce, value)
		case EqualFold(name, "uri"):
			return setOnce(&c.URI, value)
		case EqualFold(name, "response"):
			return setOnce(&c.Response, value)
		case EqualFold(name, "cnonce"):
			return setOnce(&c.CNonce, value)
		case EqualFold(name, "opaque"):
			return setOnce(&c.Opaque, value)
		case EqualFold(name, "nc"):
			n, err := strconv.ParseUint(string(value), 16, 32)
			c.NC = uint32(n)
			return err == nil && n > 0 && len(value) == 8 && setOnce(&c.nc, value)
		case EqualFold(name, "qop"):
			ok := !c.QOP && EqualFold(value, "auth")
			c.QOP = true
			return ok
		case EqualFold(name, "algorithm"):
			if c.Algorithm != 0 {
				return false
			}
			a, ok := LookupDigestAlgorithm(value)
			c.Algorithm = a
			return ok
		case EqualFold(name, "userhash"):
			return EqualFold(value, "false")
		}
		return true
	})
	if err != nil {
		return Credentials{}, err
	}
	if c.Algorithm == 0 {
		c.Algorithm = DigestMD5
	}
	if c.Username == nil || c.Realm == nil || len(c.Nonce) == 0 || len(c.URI) == 0 || len(c.Response) != 2*c.Algorithm.Size() ||
		c.QOP && (c.NC == 0 || len(c.CNonce) == 0) {
		return Credentials{}, bad(0, "Incomplete Credentials")
	}
	return c, nil
}

func setOnce(to *[]byte, value []byte) bool {
	if *to != nil {
		return false
	}
	*to = value
	if value == nil {
		*to = []byte{}
	}
	return true
}

// authParams calls yield with each name and value of a Digest value, values without quotes and escapes. It fails on a
// malformed value and when yield reports false.
func authParams(v []byte, yield func(name, value []byte) bool) error {
	if len(v) > maxAuthValue {
		return bad(0, "Authentication Field Too Large")
	}
	v = trim(v)
	const scheme = "Digest"
	if len(v) <= len(scheme) || !EqualFold(v[:len(scheme)], scheme) || v[len(scheme)] != ' ' && v[len(scheme)] != '\t' {
		return &ParseError{Status: 400, Reason: "Unsupported Authentication Scheme"}
	}
	rest := v[len(scheme):]
	for count := 0; len(rest) > 0; count++ {
		if count == maxAuthParams {
			return bad(0, "Too Many Authentication Parameters")
		}
		name, value, tail, plain := plainAuthParam(rest)
		if !plain {
			var item []byte
			if item, tail = cutQuoted(rest, ','); len(trim(item)) == 0 {
				rest = tail
				continue
			}
			eq := bytes.IndexByte(item, '=')
			if eq < 0 || !isToken(trim(item[:eq])) {
				return bad(0, "Bad Authentication Parameter")
			}
			name = trim(item[:eq])
			var ok bool
			if value, ok = authValue(trim(item[eq+1:])); !ok {
				return bad(0, "Bad Authentication Parameter")
			}
		}
		if !yield(name, value) {
			return bad(0, "Bad Authentication Parameter")
		}
		rest = tail
	}
	return nil
}

// plainAuthParam splits the first parameter off b if it is as nearly all are: no white space but before it, and no escapes.
func plainAuthParam(b []byte) (name, value, rest []byte, plain bool) {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	i := 0
	for i < len(b) && chars[b[i]]&inToken != 0 {
		i++
	}
	if i == 0 || i+1 >= len(b) || b[i] != '=' {
		return nil, nil, nil, false
	}
	name, value = b[:i], b[i+1:]
	if value[0] == '"' {
		value = value[1:]
		i = bytes.IndexByte(value, '"')
		if i < 0 || bytes.IndexByte(value[:i], '\\') >= 0 {
			return nil, nil, nil, false
		}
		value, rest = value[:i], value[i+1:]
	} else {
		for i = 0; i < len(value) && chars[value[i]]&inToken != 0; i++ {
		}
		if i == 0 {
			return nil, nil, nil, false
		}
		value, rest = value[:i], value[i:]
	}
	if len(rest) == 0 {
		return name, value, nil, true
	}
	return name, value, rest[1:], rest[0] == ','
}

// cutQuoted splits b at the first sep outside quotes. Unlike cut it gives brackets and parentheses no meaning.
func cutQuoted(b []byte, sep byte) (head, tail []byte) {
	from := 0
	for {
		i := bytes.IndexByte(b[from:], sep)
		if i < 0 {
			return b, nil
		}
		i += from
		quote := bytes.IndexByte(b[from:i], '"')
		if quote < 0 {
			return b[:i], b[i+1:]
		}
		end := closingQuote(b[from+quote:])
		if end < 0 {
			return b, nil
		}
		from += quote + end + 1
	}
}

// authValue reads a token or a quoted string, whose escapes it removes.
func authValue(v []byte) ([]byte, bool) {
	if len(v) == 0 || v[0] != '"' {
		for _, c := range v {
			if c == '"' || isBlank(c) {
				return v, false
			}
		}
		return v, len(v) > 0
	}
	end := closingQuote(v)
	if end != len(v)-1 {
		return nil, false
	}
	v = v[1:end]
	if bytes.IndexByte(v, '\\') < 0 {
		return v, true
	}
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' {
			i++
		}
		out = append(out, v[i])
	}
	return out, true
}

// Verify reports whether the response was made with the password behind ha1 (of c.Algorithm) for this method, in
// constant time. It is false without qop=auth, which replay protection needs. The caller must also check that the URI
// is the request's, with [Credentials.MatchesURI], and the nonce with [Nonces.Check] before and [Nonces.Use] after.
func (c *Credentials) Verify(ha1 []byte, method string) bool {
	if !c.QOP || len(ha1) == 0 || len(ha1) != c.Algorithm.Size() {
		return false
	}
	var want, got [64]byte
	n := c.response(&want, ha1, method)
	if len(c.Response) != n {
		return false
	}
	for i, b := range c.Response { // hex is compared in lower case
		if b >= 'A' && b <= 'F' {
			b |= 0x20
		}
		got[i] = b
	}
	return subtle.ConstantTimeCompare(want[:n], got[:n]) == 1
}

// response puts the expected response in out as hex and returns its length (RFC 7616 section 3.4.1; without qop,
// RFC 2617 section 3.2.2.1).
func (c *Credentials) response(out *[64]byte, ha1 []byte, method string) int {
	var space [1024]byte
	var h [32]byte
	a := c.Algorithm
	b := append(space[:0], method...)
	b = append(append(b, ':'), c.URI...)
	var ha2 [64]byte
	hex.Encode(ha2[:], a.sum(&h, b))
	size := 2 * a.Size()

	b = hex.AppendEncode(space[:0], ha1)
	b = append(append(b, ':'), c.Nonce...)
	if c.QOP {
		b = append(append(b, ':'), c.nc...)
		b = append(append(b, ':'), c.CNonce...)
		b = append(b, ":auth"...)
	}
	b = append(append(b, ':'), ha2[:size]...)
	hex.Encode(out[:], a.sum(&h, b))
	clear(space[:])
	return size
}

// MatchesURI reports whether the digest covers this Request-URI: the two are the same text, or equal as URIs
// (RFC 7616 section 3.4.6).
func (c *Credentials) MatchesURI(requestURI []byte) bool {
	if bytes.Equal(c.URI, requestURI) {
		return true
	}
	a, errA := ParseURI(c.URI)
	b, errB := ParseURI(requestURI)
	return errA == nil && errB == nil && a.Equal(&b)
}

// CredentialsFor returns the credentials for a realm from the fields with this id (HeaderAuthorization or
// HeaderProxyAuthorization). ok is false if there are none; those of other realms and schemes are passed over. If the
// realm has several, the strongest algorithm wins.
func (m *Message) CredentialsFor(id HeaderID, realm string) (c Credentials, ok bool) {
	for v := range m.All(id) {
		got, err := ParseCredentials(v)
		if err == nil && string(got.Realm) == realm && got.Algorithm > c.Algorithm {
			c, ok = got, true
		}
	}
	return c, ok
}
