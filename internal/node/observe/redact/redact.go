package redact

import (
	"bytes"
)

// mask replaces every byte of what must not be seen.
const mask = 'x'

// Mask overwrites, in place, what a SIP message holds that must not leave the node:
//   - the keys of a=crypto (RFC 4568), k= (RFC 8866), a=key-mgmt (RFC 4567) and a=ice-pwd (RFC 8839),
//   - the credentials of Authorization, Proxy-Authorization and Authentication-Info (RFC 3261 section 22), folded lines included,
//   - passwords inside SIP URIs, and header fields or bodies that a URI carries,
//   - every body that is not known to be free of secrets: digits (INFO), texts (MESSAGE), and anything encoded.
//
// It reads any bytes, well-formed or not, and never fails.
func Mask(msg []byte) {
	body := len(msg)
	covered := false // the present header field is masked, and so are its folded lines
	kind := unknownBody
	for pos := 0; pos < len(msg); {
		end := lineEnd(msg, pos)
		line := msg[pos:end]
		next := end + 1
		if end+1 < len(msg) && msg[end] == '\r' && msg[end+1] == '\n' {
			next++
		}
		switch {
		case pos > 0 && len(line) == 0 && body == len(msg):
			body = next
		case covered && len(line) > 0 && (line[0] == ' ' || line[0] == '\t'):
			fill(line)
		default:
			covered = maskLine(line)
			if body == len(msg) {
				kind = kind.after(line)
			}
		}
		pos = next
	}
	if body < len(msg) && !kind.readable(msg[body:]) {
		fill(msg[body:])
	}
}

// lineEnd returns where the line that starts at pos ends: at a CR, an LF, or the end of b.
func lineEnd(b []byte, pos int) int {
	if i := bytes.IndexAny(b[pos:], "\r\n"); i >= 0 {
		return pos + i
	}
	return len(b)
}

// fill masks all of b but white space at its ends and line ends inside it.
func fill(b []byte) {
	for i, c := range b {
		if c != '\r' && c != '\n' && c != ' ' && c != '\t' {
			b[i] = mask
		}
	}
}

// maskLine masks the secrets of one line and reports whether folded lines after it belong to them.
func maskLine(line []byte) bool {
	if len(line) < 2 {
		return false
	}
	switch line[0] | 0x20 {
	case 'a':
		if maskCrypto(line) {
			return false
		}
		if hasPrefixFold(line, "a=key-mgmt:") || hasPrefixFold(line, "a=ice-pwd:") {
			fill(line[bytes.IndexByte(line, ':')+1:])
			return false
		}
		fallthrough
	case 'p':
		if value := credentials(line); value != nil {
			fill(value)
			return true
		}
	case 'k':
		if line[1] == '=' {
			fill(line[2:])
			return false
		}
	}
	return maskURIs(line)
}

// maskCrypto masks the key and session parameters of an a=crypto line (RFC 4568 section 9.1); tag and suite stay.
func maskCrypto(line []byte) bool {
	if !hasPrefixFold(line, "a=crypto") {
		return false
	}
	rest := line[len("a=crypto"):]
	fields := 0
	for i, c := range rest {
		if c == ' ' && (i == 0 || rest[i-1] != ' ') {
			if fields++; fields == 2 { // after the suite
				rest = bytes.TrimLeft(rest[i:], " ")
				if hasPrefixFold(rest, "inline:") {
					rest = rest[len("inline:"):]
				}
				fill(rest)
				return true
			}
		}
	}
	fill(bytes.TrimPrefix(rest, []byte(":")))
	return true
}

// credentials returns the value of a header field that carries credentials, after the name of the scheme, or nil.
func credentials(line []byte) []byte {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return nil
	}
	name = bytes.TrimRight(name, " \t")
	scheme := false
	switch len(name) {
	case len("Authorization"):
		scheme = bytes.EqualFold(name, []byte("Authorization"))
	case len("Proxy-Authorization"): // as long as Authentication-Info
		scheme = bytes.EqualFold(name, []byte("Proxy-Authorization"))
		if !scheme && bytes.EqualFold(name, []byte("Authentication-Info")) {
			return value
		}
	}
	if !scheme {
		return nil
	}
	trimmed := bytes.TrimLeft(value, " \t")
	if hasPrefixFold(trimmed, "digest ") {
		return trimmed[len("digest "):]
	}
	return trimmed // a scheme of which we know nothing, perhaps without a space
}

// maskURIs masks passwords in SIP URIs (RFC 3261 section 19.1.1) and the credentials or bodies that a URI may carry. It
// reports whether the rest of the header field was masked.
func maskURIs(line []byte) bool {
	for pos := 0; ; {
		i := bytes.IndexByte(line[pos:], ':')
		if i < 0 {
			return false
		}
		pos += i + 1
		if !endsFold(line[:pos], "sip:") && !endsFold(line[:pos], "sips:") {
			continue
		}
		uri := line[pos:]
		if n := bytes.IndexAny(uri, " \t<>\""); n >= 0 {
			uri = uri[:n]
		}
		if at := bytes.IndexByte(uri, '@'); at > 0 {
			if colon := bytes.IndexByte(uri[:at], ':'); colon >= 0 {
				fill(uri[colon+1 : at])
			}
		}
		for q := bytes.IndexAny(uri, "?&"); q >= 0 && q < len(uri); {
			if hasPrefixFold(uri[q+1:], "body=") || hasPrefixFold(uri[q+1:], "authorization=") || hasPrefixFold(uri[q+1:], "proxy-authorization=") {
				fill(line[pos+q+1:])
				return true
			}
			n := bytes.IndexByte(uri[q+1:], '&')
			if n < 0 {
				break
			}
			q += 1 + n
		}
	}
}

// bodyKind says what is known of a message's body.
type bodyKind uint8

const (
	unknownBody  bodyKind = iota // no Content-Type yet
	readableBody                 // lines of text, whose secrets maskLine knows
	opaqueBody                   // anything else
)

// after learns from a header line.
func (k bodyKind) after(line []byte) bodyKind {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || k == opaqueBody {
		return k
	}
	name = bytes.TrimRight(name, " \t")
	switch {
	case bytes.EqualFold(name, []byte("Content-Encoding")), bytes.EqualFold(name, []byte("e")):
		return opaqueBody
	case bytes.EqualFold(name, []byte("Content-Type")), bytes.EqualFold(name, []byte("c")):
		value, _, _ = bytes.Cut(bytes.TrimLeft(value, " \t"), []byte(";"))
		value = bytes.TrimRight(value, " \t")
		if bytes.EqualFold(value, []byte("application/sdp")) || hasPrefixFold(value, "multipart/") || bytes.EqualFold(value, []byte("message/sipfrag")) ||
			endsFold(value, "+xml") || bytes.EqualFold(value, []byte("application/simple-message-summary")) {
			return readableBody
		}
		return opaqueBody
	}
	return k
}

// readable reports whether maskLine could see every secret of a body.
func (k bodyKind) readable(body []byte) bool {
	if k != readableBody {
		return false
	}
	for rest := body; ; { // a part of a multipart body may be encoded
		i := bytes.IndexByte(rest, ':')
		if i < 0 {
			return true
		}
		name := bytes.TrimRight(rest[:i], " \t")
		if endsFold(name, "content-transfer-encoding") || endsFold(name, "content-encoding") {
			return false
		}
		rest = rest[i+1:]
	}
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && equalFold(b[:len(prefix)], prefix)
}

func endsFold(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && equalFold(b[len(b)-len(suffix):], suffix)
}

// equalFold compares with a text in lower case, ASCII only.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
