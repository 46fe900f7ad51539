package directory

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Bounds of a filter.
const (
	maxFilter = 4096
	maxDepth  = 16
)

// Filter types (RFC 4511 section 4.5.1).
const (
	filterAnd        = contextual | constructed
	filterOr         = contextual | constructed | 1
	filterNot        = contextual | constructed | 2
	filterEqual      = contextual | constructed | 3
	filterSubstrings = contextual | constructed | 4
	filterAtLeast    = contextual | constructed | 5
	filterAtMost     = contextual | constructed | 6
	filterPresent    = contextual | 7
	filterApprox     = contextual | constructed | 8
)

// Escape makes a value of what a user typed: nothing in it is part of a filter (RFC 4515 section 3).
func Escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch c {
		case '*', '(', ')', '\\', 0:
			fmt.Fprintf(&b, "\\%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ParseFilter reads a filter (RFC 4515) and returns it as LDAP carries it. Extensible matches are no part of a phone's filters.
func ParseFilter(s string) ([]byte, error) {
	if len(s) > maxFilter {
		return nil, bad("a filter is longer than 4096 bytes")
	}
	b, rest, err := filter(s, 0)
	if err == nil && rest != "" {
		err = bad(fmt.Sprintf("%.40q stands behind the end of the filter", rest))
	}
	return b, err
}

func filter(s string, depth int) (b []byte, rest string, err error) {
	if depth > maxDepth || len(s) < 3 || s[0] != '(' {
		return nil, "", bad(fmt.Sprintf("%.40q is no filter", s))
	}
	tag := map[byte]byte{'&': filterAnd, '|': filterOr, '!': filterNot}[s[1]]
	if tag == 0 {
		item, rest, ok := strings.Cut(s[1:], ")")
		if !ok {
			return nil, "", bad(fmt.Sprintf("%.40q has no end", s))
		}
		b, err = comparison(item)
		return b, rest, err
	}
	var parts [][]byte
	for rest = s[2:]; !strings.HasPrefix(rest, ")"); {
		var part []byte
		if part, rest, err = filter(rest, depth+1); err != nil {
			return nil, "", err
		}
		parts = append(parts, part)
	}
	if tag == filterNot && len(parts) != 1 || len(parts) == 0 {
		return nil, "", bad(fmt.Sprintf("%.40q is no filter", s))
	}
	return tlv(tag, parts...), rest[1:], nil
}

// comparison reads NAME=VALUE, NAME=*, NAME=a*b*, NAME>=VALUE, NAME<=VALUE and NAME~=VALUE.
func comparison(s string) ([]byte, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return nil, bad(fmt.Sprintf("%.40q compares nothing", s))
	}
	tag := byte(filterEqual)
	switch name[len(name)-1] {
	case '>':
		tag = filterAtLeast
	case '<':
		tag = filterAtMost
	case '~':
		tag = filterApprox
	}
	if tag != filterEqual {
		name = name[:len(name)-1]
	}
	if !isAttribute(name) {
		return nil, bad(fmt.Sprintf("%.40q is no name of an attribute", name))
	}
	if tag == filterEqual && value == "*" {
		return tlv(filterPresent, []byte(name)), nil
	}
	if tag != filterEqual || !strings.Contains(value, "*") {
		v, err := unescape(value)
		if err != nil {
			return nil, err
		}
		return tlv(tag, octets(name), octets(v)), nil
	}
	pieces := strings.Split(value, "*")
	var subs [][]byte
	for i, p := range pieces {
		v, err := unescape(p)
		if err != nil {
			return nil, err
		}
		switch {
		case v == "":
		case i == 0:
			subs = append(subs, tlv(contextual, []byte(v)))
		case i == len(pieces)-1:
			subs = append(subs, tlv(contextual|2, []byte(v)))
		default:
			subs = append(subs, tlv(contextual|1, []byte(v)))
		}
	}
	if len(subs) == 0 {
		return nil, bad(fmt.Sprintf("%.40q compares nothing", s))
	}
	return tlv(filterSubstrings, octets(name), tlv(tagSequence, subs...)), nil
}

// isAttribute takes an attribute's name or object identifier with its options (RFC 4512 section 2.5).
func isAttribute(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == ';')
	})
}

func unescape(s string) (string, error) {
	if !strings.ContainsAny(s, "\\(\x00") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(', 0:
			return "", bad(fmt.Sprintf("%.40q has to be escaped", s))
		case '\\':
			if i+3 > len(s) {
				return "", bad(fmt.Sprintf("%.40q ends within an escape", s))
			}
			c, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", bad(fmt.Sprintf("%.40q has an escape that is none", s))
			}
			b.Write(c)
			i += 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}
