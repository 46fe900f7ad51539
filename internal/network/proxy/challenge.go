package proxy

import (
	"fmt"
	"strings"

	"ringfence"
)

// Challenge is one way in which a proxy wants to be shown who asks (RFC 9110 section 11.3).
type Challenge struct {
	Scheme string            // in lower case, e.g. digest
	Token  string            // token68, or ""
	Params map[string]string // names in lower case
}

// The most that is read of challenges.
const (
	maxChallenges = 16
	maxParams     = 16
	maxValue      = 16 << 10 // a Kerberos or NTLM token is some kilobytes
)

// ParseChallenges reads the values of Proxy-Authenticate fields; each may hold several challenges.
func ParseChallenges(fields []string) (out []Challenge, err error) {
	bad := func(format string, args ...any) ([]Challenge, error) {
		return nil, &ringfence.Fault{Op: "proxy.challenge", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...)}
	}
	for _, f := range fields {
		if len(f) > maxValue {
			return bad("a challenge of %d bytes is too long", len(f))
		}
		r, before := &reader{f}, len(out)
		for {
			r.skip(" \t,")
			if r.s == "" {
				break
			}
			name := r.token()
			if name == "" {
				return bad("%.40q is no challenge", r.s)
			}
			blank := r.skip(" \t")
			if len(out) > before && r.peek() == '=' { // a parameter of the challenge before
				c := &out[len(out)-1]
				r.s = r.s[1:]
				r.skip(" \t")
				v, ok := r.value()
				key := strings.ToLower(name)
				if _, twice := c.Params[key]; !ok || twice || len(c.Params) >= maxParams || c.Token != "" {
					return bad("the parameter %.40q of %s is broken, comes twice, or is one too many", name, c.Scheme)
				}
				c.Params[key] = v
				continue
			}
			if len(out) >= maxChallenges {
				return bad("there are more than %d challenges", maxChallenges)
			}
			c := Challenge{Scheme: strings.ToLower(name), Params: map[string]string{}}
			if blank {
				c.Token = r.token68()
			}
			out = append(out, c)
		}
	}
	return out, nil
}

type reader struct{ s string }

func (r *reader) peek() byte {
	if r.s == "" {
		return 0
	}
	return r.s[0]
}

func (r *reader) skip(set string) bool {
	rest := strings.TrimLeft(r.s, set)
	any := len(rest) != len(r.s)
	r.s = rest
	return any
}

// token reads a token (RFC 9110 section 5.6.2).
func (r *reader) token() string {
	n := 0
	for n < len(r.s) && (isAlnum(r.s[n]) || strings.IndexByte("!#$%&'*+-.^_`|~", r.s[n]) >= 0) {
		n++
	}
	t := r.s[:n]
	r.s = r.s[n:]
	return t
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// token68 reads what stands alone after a scheme; nothing is consumed if it is a parameter.
func (r *reader) token68() string {
	n := 0
	for n < len(r.s) && (isAlnum(r.s[n]) || strings.IndexByte("-._~+/", r.s[n]) >= 0) {
		n++
	}
	for n < len(r.s) && n > 0 && r.s[n] == '=' {
		n++
	}
	if rest := strings.TrimLeft(r.s[n:], " \t"); n == 0 || rest != "" && rest[0] != ',' {
		return ""
	}
	t := r.s[:n]
	r.s = r.s[n:]
	return t
}

// value reads a token or a quoted string.
func (r *reader) value() (string, bool) {
	if r.peek() != '"' {
		t := r.token()
		return t, t != ""
	}
	var b strings.Builder
	for i := 1; i < len(r.s); i++ {
		switch c := r.s[i]; {
		case c == '"':
			r.s = r.s[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(r.s):
			i++
			b.WriteByte(r.s[i])
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
