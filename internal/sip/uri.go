package sip

import (
	"bytes"
	"net/netip"
)

// URI is a parsed SIP, SIPS or tel URI (RFC 3261 section 19.1, RFC 3966). Its slices point into the text it was parsed from.
// A URI of another scheme has only Scheme and Opaque.
type URI struct {
	Scheme   []byte // as received, e.g. "sip"
	User     []byte // still escaped; a telephone number for tel
	Password []byte
	HasUser  bool   // an empty user part before "@" is malformed
	Host     []byte // name or address; IPv6 without brackets
	Port     uint16 // 0 if absent
	Params   Params
	Headers  []byte // after "?"
	Opaque   []byte // everything after the colon, for other schemes

	HasHeaders bool // a "?" is there, even with nothing after it
	raw        []byte
}

// Raw returns the text the URI was parsed from.
func (u *URI) Raw() []byte { return u.raw }

// String returns the text the URI was parsed from.
func (u *URI) String() string { return string(u.raw) }

// IsSIP reports whether the scheme is sip or sips.
func (u *URI) IsSIP() bool { return EqualFold(u.Scheme, "sip") || EqualFold(u.Scheme, "sips") }

// IsSIPS reports whether the scheme is sips.
func (u *URI) IsSIPS() bool { return EqualFold(u.Scheme, "sips") }

// ParseURI reads one URI without angle brackets.
func ParseURI(b []byte) (URI, error) {
	u := URI{raw: b}
	colon := bytes.IndexByte(b, ':')
	if colon <= 0 {
		return u, bad(0, "Bad URI")
	}
	u.Scheme = b[:colon]
	for i, c := range u.Scheme {
		alpha := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alpha && (i == 0 || (c < '0' || c > '9') && c != '+' && c != '-' && c != '.') {
			return u, bad(i, "Bad URI Scheme")
		}
	}
	for i, c := range b {
		if notInURI[c] {
			return u, bad(i, "Bad URI")
		}
	}
	rest := b[colon+1:]
	u.Opaque = rest
	switch {
	case u.IsSIP():
		return u, u.parseSIP(rest)
	case EqualFold(u.Scheme, "tel"):
		number, params := cut(rest, ';')
		if len(number) == 0 {
			return u, bad(colon, "Bad tel URI")
		}
		u.User, u.HasUser, u.Params = number, true, Params(params)
		return u, nil
	}
	if len(rest) == 0 {
		return u, bad(colon, "Bad URI")
	}
	return u, nil
}

// notInURI says which bytes no URI holds: controls, space, angle brackets and quotes. It is never written.
var notInURI = [256]bool{
	0: true, 1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true, 8: true, 9: true, 10: true, 11: true, 12: true, 13: true, 14: true, 15: true,
	16: true, 17: true, 18: true, 19: true, 20: true, 21: true, 22: true, 23: true, 24: true, 25: true, 26: true, 27: true, 28: true, 29: true, 30: true, 31: true,
	' ': true, '"': true, '<': true, '>': true, 0x7f: true,
}

func (u *URI) parseSIP(rest []byte) error {
	// "@" ends the user part; a literal "@" cannot follow in host, parameters or headers unescaped.
	if at := bytes.IndexByte(rest, '@'); at >= 0 {
		user := rest[:at]
		if i := bytes.IndexByte(user, ':'); i >= 0 {
			user, u.Password = user[:i], user[i+1:]
		}
		if len(user) == 0 || !validEscapes(user) || !validEscapes(u.Password) {
			return bad(at, "Bad URI User")
		}
		u.User, u.HasUser = user, true
		rest = rest[at+1:]
	}
	hostport := rest
	i := 0
	for i < len(rest) && rest[i] != ';' && rest[i] != '?' {
		i++
	}
	if i < len(rest) {
		hostport = rest[:i]
		params := rest[i:]
		if q := bytes.IndexByte(params, '?'); q >= 0 {
			u.Headers, u.HasHeaders = params[q+1:], true
			params = params[:q]
		}
		if len(params) > 0 {
			u.Params = Params(params[1:])
		}
		if !validEscapes(params) || !validEscapes(u.Headers) {
			return bad(0, "Bad URI Parameter")
		}
	}
	var ok bool
	if u.Host, u.Port, ok = parseHostPort(hostport); !ok {
		return bad(0, "Bad URI Host")
	}
	return nil
}

// parseHostPort reads host [":" port]; an IPv6 host is in brackets, which are removed.
func parseHostPort(b []byte) (host []byte, port uint16, ok bool) {
	host = b
	var portText []byte
	hasPort := false
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return nil, 0, false
		}
		host = b[1:end]
		if addr, err := netip.ParseAddr(string(host)); err != nil || !addr.Is6() || addr.Zone() != "" {
			return nil, 0, false
		}
		if tail := b[end+1:]; len(tail) > 0 {
			if tail[0] != ':' {
				return nil, 0, false
			}
			portText, hasPort = tail[1:], true
		}
	} else {
		if i := bytes.IndexByte(b, ':'); i >= 0 {
			host, portText, hasPort = b[:i], b[i+1:], true
		}
		if !validHost(host) {
			return nil, 0, false
		}
	}
	if hasPort {
		n, valid := parseUint(portText, 65535)
		if !valid || n == 0 {
			return nil, 0, false
		}
		port = uint16(n)
	}
	return host, port, true
}

// validHost accepts host names and IPv4 addresses; an underscore is tolerated because real networks use it.
func validHost(b []byte) bool {
	if len(b) == 0 || len(b) > 255 {
		return false
	}
	for _, c := range b {
		if !hostChar[c] {
			return false
		}
	}
	return b[0] != '-' && b[0] != '.'
}

// hostChar says which bytes may be in a host name or an IPv4 address. It is never written.
var hostChar = [256]bool{
	'-': true, '.': true, '_': true, '0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'A': true, 'B': true, 'C': true, 'D': true, 'E': true, 'F': true, 'G': true, 'H': true, 'I': true, 'J': true, 'K': true, 'L': true, 'M': true,
	'N': true, 'O': true, 'P': true, 'Q': true, 'R': true, 'S': true, 'T': true, 'U': true, 'V': true, 'W': true, 'X': true, 'Y': true, 'Z': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true, 'g': true, 'h': true, 'i': true, 'j': true, 'k': true, 'l': true, 'm': true,
	'n': true, 'o': true, 'p': true, 'q': true, 'r': true, 's': true, 't': true, 'u': true, 'v': true, 'w': true, 'x': true, 'y': true, 'z': true,
}

func validEscapes(b []byte) bool {
	for i := bytes.IndexByte(b, '%'); i >= 0 && i < len(b); i++ {
		if b[i] != '%' {
			continue
		}
		if i+2 >= len(b) || unhex(b[i+1]) < 0 || unhex(b[i+2]) < 0 {
			return false
		}
		i += 2
	}
	return true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// Unescape returns b with %XX replaced by the byte it stands for. It returns b itself if there is nothing to replace.
func Unescape(b []byte) []byte {
	if bytes.IndexByte(b, '%') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '%' && i+2 < len(b) && unhex(b[i+1]) >= 0 && unhex(b[i+2]) >= 0 {
			out = append(out, byte(unhex(b[i+1])<<4|unhex(b[i+2])))
			i += 2
			continue
		}
		out = append(out, b[i])
	}
	return out
}

// Addr returns the host as an IP address, if it is one.
func (u *URI) Addr() (netip.Addr, bool) {
	a, err := netip.ParseAddr(string(u.Host))
	return a, err == nil
}

// Equal compares two URIs by RFC 3261 section 19.1.4. The same text is always equal, even with repeated parameters, which
// the grammar does not allow and which otherwise make two URIs different.
func (u *URI) Equal(o *URI) bool {
	if bytes.Equal(u.raw, o.raw) {
		return true
	}
	if !EqualFold(u.Scheme, o.Scheme) {
		return false
	}
	if !u.IsSIP() {
		return bytes.EqualFold(u.Opaque, o.Opaque)
	}
	if u.HasUser != o.HasUser || !bytes.Equal(Unescape(u.User), Unescape(o.User)) || !bytes.Equal(u.Password, o.Password) ||
		!sameHost(u, o) || u.Port != o.Port {
		return false
	}
	return sameParams(u.Params, o.Params) && sameParams(o.Params, u.Params) && sameHeaders(u.Headers, o.Headers) && sameHeaders(o.Headers, u.Headers)
}

// sameHost compares names without case and addresses by value, so that two spellings of an IPv6 address are equal.
func sameHost(u, o *URI) bool {
	if EqualFold(u.Host, o.Host) {
		return true
	}
	a, okA := u.Addr()
	b, okB := o.Addr()
	return okA && okB && a == b
}

// sameParams: parameters in both must match; user, ttl, method, maddr and transport must be in both or neither.
func sameParams(a, b Params) bool {
	for name, value := range a.All() {
		other, ok := b.Get(string(name))
		if ok {
			if !bytes.EqualFold(Unescape(value), Unescape(other)) {
				return false
			}
			continue
		}
		for _, must := range [...]string{"user", "ttl", "method", "maddr", "transport"} {
			if EqualFold(name, must) {
				return false
			}
		}
	}
	return true
}

// sameHeaders reports whether every header of a is also in b.
func sameHeaders(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	for h := range bytes.SplitSeq(a, []byte("&")) {
		found := false
		for o := range bytes.SplitSeq(b, []byte("&")) {
			if bytes.EqualFold(Unescape(h), Unescape(o)) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}
