package sip

import "bytes"

// Via is one Via value (RFC 3261 section 20.42, RFC 3581).
type Via struct {
	Transport []byte // "TLS", "TCP", "UDP", "WS", "WSS" as received
	Host      []byte
	Port      uint16 // 0 if absent
	Params    Params

	branch []byte // if it was found already
}

// MagicCookie starts every branch made by an RFC 3261 client.
const MagicCookie = "z9hG4bK"

// ParseVia reads one Via value.
func ParseVia(b []byte) (Via, error) {
	var v Via
	rest, ok := viaProtocol(b)
	if !ok {
		return v, bad(0, "Bad Via Protocol")
	}
	sp := 0
	for sp < len(rest) && chars[rest[sp]]&inToken != 0 {
		sp++
	}
	if sp == 0 || sp == len(rest) || !isBlank(rest[sp]) {
		return v, bad(0, "Bad Via")
	}
	v.Transport = rest[:sp]
	rest = rest[sp:]
	if host, port, n, ok := hostPort(rest[1:]); ok && (n == len(rest)-1 || rest[n+1] == ';') { // nearly always
		v.Host, v.Port = host, port
		if n+1 < len(rest) {
			v.Params = Params(rest[n+2:])
		}
		return v, nil
	}
	sentBy, params := cut(rest, ';')
	host, port, ok := parseHostPort(squeeze(trim(sentBy)))
	if !ok {
		return v, bad(0, "Bad Via Host")
	}
	v.Host, v.Port, v.Params = host, port, Params(params)
	return v, nil
}

// viaProtocol returns what follows "SIP/2.0/", which may have white space around its slashes.
func viaProtocol(b []byte) (rest []byte, ok bool) {
	const usual = "SIP/2.0/"
	if len(b) > len(usual) && string(b[:len(usual)]) == usual && chars[b[len(usual)]]&inToken != 0 {
		return b[len(usual):], true
	}
	proto, rest := cut(b, '/')
	version, rest := cut(rest, '/')
	return trim(rest), EqualFold(trim(proto), "SIP") && EqualFold(trim(version), "2.0")
}

// squeeze removes white space around the colon of sent-by, which the grammar allows; it copies only if there is any.
func squeeze(b []byte) []byte {
	if bytes.IndexByte(b, ' ') < 0 && bytes.IndexByte(b, '\t') < 0 {
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
	if v.branch != nil {
		return v.branch
	}
	branch, _ := v.Params.Get("branch")
	return branch
}
