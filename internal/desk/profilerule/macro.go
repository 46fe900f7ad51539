package profilerule

import (
	"strconv"
	"strings"
)

// maxExpanded is the longest result of an expansion, in bytes.
const maxExpanded = 16 << 10

// Expand replaces the macros of a text: $NAME, $(NAME), $(NAME:offset), $(NAME:offset:length), and $$ for a dollar. value says what a name
// stands for. What it brings is not looked through again; a name that it does not know stays as it stands. unknown has those names.
func Expand(text string, value func(name string) (string, bool)) (out string, unknown []string) {
	var b strings.Builder
	for {
		head, rest, found := strings.Cut(text, "$")
		b.WriteString(head)
		if !found || b.Len() > maxExpanded {
			return b.String(), unknown
		}
		name, call, tail := macro(rest)
		switch v, known := value(name); {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			tail = rest[1:]
		case name == "":
			b.WriteByte('$')
			tail = rest
		case !known:
			b.WriteString("$" + rest[:len(rest)-len(tail)])
			unknown = append(unknown, name)
		default:
			b.WriteString(call.of(v))
		}
		text = tail
	}
}

// part is which part of a macro's value is wanted.
type part struct{ offset, length int } // length -1: up to the end

func (p part) of(v string) string {
	v = v[min(p.offset, len(v)):]
	if p.length >= 0 {
		v = v[:min(p.length, len(v))]
	}
	return v
}

// macro reads a name behind a dollar, and what stands behind it.
func macro(s string) (name string, p part, tail string) {
	p.length = -1
	if inner, ok := strings.CutPrefix(s, "("); ok {
		inside, after, closed := strings.Cut(inner, ")")
		words := strings.Split(inside, ":")
		if !closed || !isName(words[0]) || len(words) > 3 {
			return "", p, s
		}
		numbers := [2]int{0, -1}
		for i, w := range words[1:] {
			n, err := strconv.ParseUint(w, 10, 16)
			if err != nil {
				return "", p, s
			}
			numbers[i] = int(n)
		}
		return words[0], part{numbers[0], numbers[1]}, after
	}
	n := 0
	for n < len(s) && isLetter(s[n]) {
		n++
	}
	return s[:n], p, s[n:]
}

func isName(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) {
			return false
		}
	}
	return s != ""
}

func isLetter(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_'
}

// Known reports whether a phone has a macro of this name; where it stands decides on the secrets. Names are in capitals.
func Known(name string, brackets bool) bool {
	switch name {
	case "SA", "SB", "SC", "SD":
		return brackets
	case "MA", "MAU", "MAC", "PN", "PSN", "SN", "CCERT", "IP", "EXTIP", "SWVER", "HWVER", "PRVST", "UPGST", "UPGERR", "UPGCOND", "PRVTMR", "UPGTMR", "REGTMR1", "REGTMR2",
		"SCHEME", "SERV", "SERVIP", "PORT", "PATH", "ERR":
		return true
	}
	return len(name) == 1 && name[0] >= 'A' && name[0] <= 'P' || len(name) == 5 && strings.HasPrefix(name, "GPP_") && name[4] >= 'A' && name[4] <= 'P'
}
