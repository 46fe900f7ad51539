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
func (u *URI) IsSIP() bool {
	s := u.Scheme
	return (len(s) == 3 || len(s) == 4 && s[3]|0x20 == 's') && s[0]|0x20 == 's' && s[1]|0x20 == 'i' && s[2]|0x20 == 'p'
}

// IsSIPS reports whether the scheme is sips.
func (u *URI) IsSIPS() bool { return len(u.Scheme) == 4 && u.IsSIP() }

// ParseURI reads one URI without angle brackets.
func ParseURI(b []byte) (u URI, err error) {
	n, err := u.parse(b)
	if err == nil && n != len(b) {
		err = bad(n, "Bad URI")
	}
	return u, err
}

// parse reads a URI into u, which is empty, from the beginning of b up to the first byte that no URI holds, and returns where that is.
func (u *URI) parse(b []byte) (n int, err error) {
	if n := u.parsePlain(b); n > 0 {
		return n, nil
	}
	colon, second, at, escaped := -1, -1, -1, false
scan:
	for ; n < len(b); n++ {
		switch is := chars[b[n]]; {
		case is&(notInURI|marksURI) == 0:
		case is&notInURI != 0:
			break scan
		case b[n] == '@':
			if at < 0 {
				at = n
			}
		case b[n] == '%':
			escaped = true
		case colon < 0:
			colon = n
		case second < 0:
			second = n
		}
	}
	b = b[:n]
	u.raw = b
	if colon <= 0 {
		return n, bad(0, "Bad URI")
	}
	u.Scheme, u.Opaque = b[:colon], b[colon+1:]
	if u.IsSIP() {
		return n, u.parseSIP(second-colon-1, at-colon-1, escaped)
	}
	for i, c := range u.Scheme {
		alpha := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alpha && (i == 0 || (c < '0' || c > '9') && c != '+' && c != '-' && c != '.') {
			return n, bad(i, "Bad URI Scheme")
		}
	}
	if EqualFold(u.Scheme, "tel") {
		number, params := cut(u.Opaque, ';')
		if len(number) == 0 {
			return n, bad(colon, "Bad tel URI")
		}
		u.User, u.HasUser, u.Params = number, true, Params(params)
		return n, nil
	}
	if len(u.Opaque) == 0 {
		return n, bad(colon, "Bad URI")
	}
	return n, nil
}

// parsePlain is parse for "sip:user@host:port" without escapes and parameters, which most are; it returns 0 for anything else.
func (u *URI) parsePlain(b []byte) (n int) {
	if len(b) < 5 || string(b[:4]) != "sip:" {
		return 0
	}
	at := 4
	for at < len(b) && chars[b[at]]&(inToken|marksURI) == inToken {
		at++
	}
	if at == 4 || at == len(b) || b[at] != '@' {
		return 0
	}
	host, port, n, ok := hostPort(b[at+1:])
	if n += at + 1; !ok || n < len(b) && chars[b[n]]&notInURI == 0 {
		return 0
	}
	u.raw, u.Scheme, u.Opaque = b[:n], b[:3], b[4:n]
	u.User, u.HasUser, u.Host, u.Port = b[4:at], true, host, port
	return n
}

// parseSIP reads what follows the scheme: its first colon, its first "@" and whether it has escapes are known.
func (u *URI) parseSIP(colon, at int, escaped bool) error {
	rest := u.Opaque
	// "@" ends the user part; a literal "@" cannot follow in host, parameters or headers unescaped.
	if at >= 0 {
		user := rest[:at]
		if colon >= 0 && colon < at {
			user, u.Password = rest[:colon], rest[colon+1:at]
		}
		if len(user) == 0 || escaped && (!validEscapes(user) || !validEscapes(u.Password)) {
			return bad(at, "Bad URI User")
		}
		u.User, u.HasUser = user, true
		rest = rest[at+1:]
	}
	host, port, n, ok := hostPort(rest)
	if !ok {
		return bad(0, "Bad URI Host")
	}
	u.Host, u.Port = host, port
	params := rest[n:]
	if len(params) == 0 {
		return nil
	}
	if params[0] != ';' && params[0] != '?' {
		return bad(0, "Bad URI Host")
	}
	if q := bytes.IndexByte(params, '?'); q >= 0 {
		u.Headers, u.HasHeaders = params[q+1:], true
		params = params[:q]
	}
	if len(params) > 0 {
		u.Params = Params(params[1:])
	}
	if escaped && (!validEscapes(params) || !validEscapes(u.Headers)) {
		return bad(0, "Bad URI Parameter")
	}
	return nil
}

// parseHostPort reads host [":" port]; an IPv6 host is in brackets, which are removed.
func parseHostPort(b []byte) (host []byte, port uint16, ok bool) {
	host, port, n, ok := hostPort(b)
	return host, port, ok && n == len(b)
}

// hostPort reads host [":" port] from the beginning of b up to the first byte that is no more of it, and returns where that is.
func hostPort(b []byte) (host []byte, port uint16, n int, ok bool) {
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return nil, 0, 0, false
		}
		host = b[1:end]
		if addr, err := netip.ParseAddr(string(host)); err != nil || !addr.Is6() || addr.Zone() != "" {
			return nil, 0, 0, false
		}
		n = end + 1
	} else {
		for n < len(b) && chars[b[n]]&inHost != 0 {
			n++
		}
		if n == 0 || n > 255 || b[0] == '-' || b[0] == '.' {
			return nil, 0, 0, false
		}
		host = b[:n]
	}
	if n == len(b) || b[n] != ':' {
		return host, 0, n, true
	}
	digits, number := n+1, uint64(0)
	for n = digits; n < len(b) && b[n] >= '0' && b[n] <= '9' && n < digits+20; n++ {
		number = number*10 + uint64(b[n]-'0')
	}
	return host, uint16(number), n, n < digits+20 && number > 0 && number <= 65535
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
