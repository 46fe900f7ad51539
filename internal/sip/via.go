package sip

import "bytes"

// Via is one Via value (RFC 3261 section 20.42, RFC 3581).
type Via struct {
	Transport []byte // "TLS", "TCP", "UDP", "WS", "WSS" as received
	Host      []byte
	Port      uint16 // 0 if absent
	Params    Params
}

// MagicCookie starts every branch made by an RFC 3261 client.
const MagicCookie = "z9hG4bK"

// ParseVia reads one Via value.
func ParseVia(b []byte) (Via, error) {
	var v Via
	proto, rest := cut(b, '/')
	version, rest := cut(rest, '/')
	if !EqualFold(trim(proto), "SIP") || !EqualFold(trim(version), "2.0") {
		return v, bad(0, "Bad Via Protocol")
	}
	rest = trim(rest)
	sp := bytes.IndexAny(rest, " \t")
	if sp < 0 || !isToken(rest[:sp]) {
		return v, bad(0, "Bad Via")
	}
	v.Transport = rest[:sp]
	sentBy, params := cut(rest[sp:], ';')
	host, port, ok := parseHostPort(squeeze(trim(sentBy)))
	if !ok {
		return v, bad(0, "Bad Via Host")
	}
	v.Host, v.Port, v.Params = host, port, Params(params)
	return v, nil
}

// squeeze removes white space around the colon of sent-by, which the grammar allows; it copies only if there is any.
func squeeze(b []byte) []byte {
	if bytes.IndexAny(b, " \t") < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for i, c := range b {
		if c == ' ' || c == '\t' {
			before, after := bytes.TrimRight(b[:i], " \t"), bytes.TrimLeft(b[i:], " \t")
			if bytes.HasSuffix(before, []byte(":")) || bytes.HasPrefix(after, []byte(":")) {
				continue
			}
		}
		out = append(out, c)
	}
	return out
}

// Branch returns the branch parameter, or nil.
func (v *Via) Branch() []byte {
	branch, _ := v.Params.Get("branch")
	return branch
}
