package directory

import (
	"fmt"
	"strings"
)

// Bounds of a number mapping.
const (
	maxMapping   = 512
	maxSequences = 32
	maxSteps     = 64
	maxDigits    = 40
)

// Mapping changes a number of the directory into the one that is dialled, as LDAP_Number_Mapping says: sequences of a dial plan, of which the first counts that matches the whole number.
type Mapping []sequence

type sequence struct {
	steps  []step
	barred bool // nobody may dial it
}

// step takes one character of a set, or puts something in without taking any.
type step struct {
	set     string
	repeats bool // none, or several
	silent  bool // what it takes is not dialled
	insert  string
}

const digits = "0123456789"

// ParseMapping reads a number mapping, such as (<:9>xx.) or (<00:+>x.|x.): digits, x for any digit, [2-5] for some, a dot for repetition, <these:those> for a substitution, ! for numbers that are barred. An empty one changes nothing.
//
// Handbooks print (<:9xx.>) for the first: where the second half of a substitution has an x, what stands from there on is taken as if it stood behind it.
func ParseMapping(text string) (Mapping, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	wrong := func(why string) (Mapping, error) {
		return nil, bad(fmt.Sprintf("%.60q is no number mapping: %s", text, why))
	}
	if len(text) > maxMapping {
		return wrong("it is too long")
	}
	if inner, ok := strings.CutPrefix(text, "("); ok {
		if text, ok = strings.CutSuffix(inner, ")"); !ok {
			return wrong("it has no end")
		}
	}
	var out Mapping
	for part := range strings.SplitSeq(text, "|") {
		s, why := readSequence(strings.TrimSpace(part))
		if why != "" {
			return wrong(why)
		}
		if out = append(out, s); len(out) > maxSequences {
			return wrong("it has too many sequences")
		}
	}
	return out, nil
}

func readSequence(text string) (s sequence, why string) {
	for text != "" {
		var steps []step
		switch c := text[0]; c {
		case '<':
			inner, rest, ok := strings.Cut(text[1:], ">")
			from, to, both := strings.Cut(inner, ":")
			if !ok || !both {
				return s, "a substitution is <these:those>"
			}
			taken, why := readSteps(from)
			if why != "" {
				return s, why
			}
			for i := range taken {
				taken[i].silent = true
			}
			at := strings.IndexAny(to, "x[.")
			if at < 0 {
				at = len(to)
			}
			if strings.Trim(to[:at], digits+"*#+") != "" {
				return s, "what is put in is digits"
			}
			more, why := readSteps(to[at:])
			if why != "" {
				return s, why
			}
			steps, text = append(append(taken, step{insert: to[:at]}), more...), rest
		case '!':
			s.barred, text = true, text[1:]
		case ',', 'S', 'L', 'P', ' ': // an outside tone, and timers of who dials by hand
			text = strings.TrimLeft(text[1:], digits)
			if c == ',' || c == ' ' {
				continue
			}
		default:
			end, within := 0, false
			for end < len(text) && (within || strings.IndexByte("<!,SLP ", text[end]) < 0) {
				within = text[end] == '[' || within && text[end] != ']'
				end++
			}
			if steps, why = readSteps(text[:end]); why != "" {
				return s, why
			}
			text = text[end:]
		}
		if s.steps = append(s.steps, steps...); len(s.steps) > maxSteps {
			return s, "a sequence is too long"
		}
	}
	if len(s.steps) == 0 {
		return s, "a sequence is empty"
	}
	return s, ""
}

// readSteps reads digits, x, sets and dots.
func readSteps(text string) (out []step, why string) {
	for text != "" {
		switch c := text[0]; {
		case c == '.':
			if len(out) == 0 || out[len(out)-1].insert != "" {
				return nil, "a dot repeats what stands before it"
			}
			out[len(out)-1].repeats = true
			text = text[1:]
		case c == 'x':
			out, text = append(out, step{set: digits}), text[1:]
		case c == '[':
			inner, rest, ok := strings.Cut(text[1:], "]")
			set := ""
			for i := 0; i < len(inner); i++ {
				switch {
				case inner[i] == ',':
				case i+2 < len(inner) && inner[i+1] == '-' && inner[i] >= '0' && inner[i] <= inner[i+2] && inner[i+2] <= '9':
					set += digits[inner[i]-'0' : inner[i+2]-'0'+1]
					i += 2
				case strings.IndexByte(digits+"*#", inner[i]) >= 0:
					set += inner[i : i+1]
				default:
					return nil, "a set has digits and ranges"
				}
			}
			if !ok || set == "" {
				return nil, "a set has digits and ranges"
			}
			out, text = append(out, step{set: set}), rest
		case strings.IndexByte(digits+"*#+", c) >= 0:
			out, text = append(out, step{set: text[:1]}), text[1:]
		default:
			return nil, fmt.Sprintf("%.1q means nothing in it", text)
		}
	}
	return out, ""
}

// Dialled makes a number as a directory has it into digits; "" is none that can be dialled.
func Dialled(number string) string {
	number = strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -()./\u00a0\u2011", r) {
			return -1
		}
		return r
	}, number)
	rest := strings.TrimPrefix(number, "+")
	if rest == "" || len(rest) > maxDigits || strings.Trim(rest, digits+"*#") != "" {
		return ""
	}
	return number
}

// Apply changes a number that is dialled. What no sequence matches stays as it is; "" is one that is barred.
func (m Mapping) Apply(number string) string {
	if number == "" {
		return ""
	}
	for _, s := range m {
		failed := make(map[[2]int]bool, len(number)) // from where it is known to match nothing
		if out, ok := s.match(number, 0, 0, failed); ok {
			if s.barred {
				return ""
			}
			return out
		}
	}
	return number
}

// match matches the number from a place on with the steps from one on.
func (s sequence) match(number string, at, n int, failed map[[2]int]bool) (string, bool) {
	key := [2]int{at, n}
	if failed[key] {
		return "", false
	}
	if n == len(s.steps) {
		return "", at == len(number)
	}
	x := s.steps[n]
	if x.set == "" {
		rest, ok := s.match(number, at, n+1, failed)
		if ok {
			return x.insert + rest, true
		}
		failed[key] = true
		return "", false
	}
	if at < len(number) && strings.IndexByte(x.set, number[at]) >= 0 {
		next := n + 1
		if x.repeats {
			next = n
		}
		if rest, ok := s.match(number, at+1, next, failed); ok {
			if x.silent {
				return rest, true
			}
			return number[at:at+1] + rest, true
		}
	}
	if x.repeats { // none, or no more
		if rest, ok := s.match(number, at, n+1, failed); ok {
			return rest, true
		}
	}
	failed[key] = true
	return "", false
}
