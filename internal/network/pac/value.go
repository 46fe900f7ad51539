package pac

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A value is nil for undefined, null{}, a bool, a float64, a string or an *object.
type null struct{}

type object struct {
	class  string // Object, Array, Function, RegExp, Date or Error
	props  map[string]any
	keys   []string // in the order in which they came
	items  []any    // of an Array
	proto  *object
	fn     *function
	scope  *scope
	native func(m *machine, this any, args []any) any
	re     *regexp.Regexp
	source string // of a RegExp
	cost   int    // how many instructions it is
	all    bool   // it has the flag g
	when   time.Time
}

type scope struct {
	vars map[string]*any
	up   *scope
}

func (s *scope) find(name string) *any {
	for ; s != nil; s = s.up {
		if v, ok := s.vars[name]; ok {
			return v
		}
	}
	return nil
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil, null:
		return false
	case bool:
		return v
	case float64:
		return v != 0 && !math.IsNaN(v)
	case string:
		return v != ""
	}
	return true
}

// str is what a value that is no object is as a text.
func str(v any) string {
	switch v := v.(type) {
	case nil:
		return "undefined"
	case null:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return v
	case float64:
		switch {
		case math.IsNaN(v):
			return "NaN"
		case math.IsInf(v, 0):
			return map[bool]string{true: "Infinity", false: "-Infinity"}[v > 0]
		case v == 0:
			return "0"
		case math.Abs(v) < 1e21 && math.Abs(v) >= 1e-6:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', -1, 64), "e")
		return mantissa + "e" + exponent[:1] + strings.TrimLeft(exponent[1:], "0")
	}
	return ""
}

func parseNumber(s string) float64 {
	s = strings.TrimSpace(s)
	switch lower := strings.ToLower(s); {
	case s == "":
		return 0
	case strings.HasPrefix(lower, "0x"):
		v, err := strconv.ParseUint(s[2:], 16, 64)
		if err != nil {
			return math.NaN()
		}
		return float64(v)
	case s == "Infinity" || s == "+Infinity":
		return math.Inf(1)
	case s == "-Infinity":
		return math.Inf(-1)
	case strings.Trim(s, "0123456789.eE+-") != "":
		return math.NaN()
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(v, 0) {
		return math.NaN()
	}
	return v
}

// toInt32 is what operators on bits work with (ECMA-262 ToInt32).
func toInt32(n float64) int32 { return int32(toUint32(n)) }

func toUint32(n float64) uint32 {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return 0
	}
	n = math.Mod(math.Trunc(n), 1<<32)
	if n < 0 {
		n += 1 << 32
	}
	return uint32(n)
}

// length counts characters. Addresses and names are ASCII, where that is what ECMAScript counts.
func length(s string) int { return utf8.RuneCountInString(s) }

// cut returns the characters from a to b.
func cut(s string, a, b int) string {
	if a >= b {
		return ""
	}
	if len(s) == length(s) {
		return s[a:b]
	}
	r := []rune(s)
	return string(r[a:b])
}

// index is where a list has a name, if that is one of its places.
func index(key string) (int, bool) {
	n, err := strconv.Atoi(key)
	return n, err == nil && n >= 0 && strconv.Itoa(n) == key
}

func (o *object) own(key string) (any, bool) {
	if o.class == "Array" {
		if key == "length" {
			return float64(len(o.items)), true
		}
		if n, ok := index(key); ok {
			if n < len(o.items) {
				return o.items[n], true
			}
			return nil, false
		}
	}
	v, ok := o.props[key]
	return v, ok
}

func (o *object) lookup(key string) (any, bool) {
	for n := 0; o != nil && n < 100; n++ {
		if v, ok := o.own(key); ok {
			return v, true
		}
		o = o.proto
	}
	return nil, false
}

// enumerate returns the names in the order in which for ... in has them.
func (o *object) enumerate() (out []string) {
	for n := range o.items {
		out = append(out, strconv.Itoa(n))
	}
	for _, k := range o.keys {
		if _, there := o.props[k]; there {
			out = append(out, k)
		}
	}
	return out
}
