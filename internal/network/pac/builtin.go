package pac

import (
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// call is what a function of the language is handed.
type call struct {
	*machine
	this any
	args []any
}

func (c call) arg(n int) any {
	if n < len(c.args) {
		return c.args[n]
	}
	return nil
}

func (c call) str(n int) string { return c.machine.text(c.arg(n)) }

// whole is an argument as an integer between two bounds; without one it is other.
func (c call) whole(n int, other, low, high int) int {
	if c.arg(n) == nil {
		return other
	}
	v := c.number(c.arg(n))
	if math.IsNaN(v) {
		v = 0
	}
	return int(max(float64(low), min(math.Trunc(v), float64(high))))
}

// relative is a place that may be counted from the end.
func (c call) relative(n, other, size int) int {
	if v := c.whole(n, other, -size, size); v < 0 {
		return size + v
	} else {
		return v
	}
}

type functions map[string]func(c call) any

func (m *machine) define(class string, all functions) *object {
	o := &object{class: "Object", props: map[string]any{}, proto: m.protos["Object"]}
	for k, f := range all {
		o.props[k] = m.native(func(m *machine, this any, args []any) any { return f(call{m, this, args}) })
	}
	m.protos[class] = o
	return o
}

func (m *machine) constructor(name string, prototype *object, f func(c call) any) *object {
	o := m.native(func(m *machine, this any, args []any) any { return f(call{m, this, args}) })
	o.props = map[string]any{"prototype": prototype}
	v := any(o)
	m.global.vars[name] = &v
	return o
}

func (m *machine) builtins() {
	root := m.define("Object", functions{
		"toString": func(c call) any {
			if o, ok := c.this.(*object); ok {
				return "[object " + o.class + "]"
			}
			return str(c.this)
		},
		"hasOwnProperty": func(c call) any {
			o, ok := c.this.(*object)
			if !ok {
				return false
			}
			_, there := o.own(c.str(0))
			return there
		},
		"valueOf": func(c call) any { return c.this },
	})
	root.proto = nil
	m.constructor("Object", root, func(c call) any { return c.object("Object") })
	function := m.define("Function", functions{
		"call": func(c call) any {
			if f, ok := c.this.(*object); ok && f.class == "Function" {
				return c.call(f, c.arg(0), c.args[min(1, len(c.args)):])
			}
			return c.throw("this is no function")
		},
		"apply": func(c call) any {
			var args []any
			if list, ok := c.arg(1).(*object); ok {
				args = list.items
			}
			if f, ok := c.this.(*object); ok && f.class == "Function" {
				return c.call(f, c.arg(0), args)
			}
			return c.throw("this is no function")
		},
		"toString": func(call) any { return "function () { }" },
	})
	m.constructor("Function", function, func(c call) any { return c.throw("functions are not made of texts here") })
	str := m.define("String", textFunctions())
	m.constructor("String", str, func(c call) any {
		if len(c.args) == 0 {
			return ""
		}
		return c.str(0)
	}).props["fromCharCode"] = m.native(func(m *machine, _ any, args []any) any {
		var b strings.Builder
		for _, a := range args {
			b.WriteRune(rune(uint16(m.number(a))))
		}
		m.charge(b.Len())
		return b.String()
	})
	num := m.define("Number", functions{"toString": func(c call) any {
		n := c.number(c.this)
		if base := c.whole(0, 10, 2, 36); base != 10 && n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return strconv.FormatInt(int64(n), base)
		}
		return c.text(n)
	}})
	m.constructor("Number", num, func(c call) any { return c.number(c.arg(0)) })
	m.constructor("Boolean", root, func(c call) any { return truth(c.arg(0)) })
	m.constructor("Array", m.define("Array", listFunctions()), func(c call) any {
		if n, ok := c.arg(0).(float64); ok && len(c.args) == 1 {
			o := c.list(nil)
			c.set(o, "length", n)
			return o
		}
		return c.list(slices.Clone(c.args))
	}).props["isArray"] = m.native(func(_ *machine, _ any, args []any) any {
		o, ok := call{args: args}.arg(0).(*object)
		return ok && o.class == "Array"
	})
	failed := m.define("Error", functions{"toString": func(c call) any { return "Error: " + c.text(c.get(c.this, "message")) }})
	m.constructor("Error", failed, func(c call) any {
		e := c.object("Error")
		c.set(e, "message", c.str(0))
		return e
	})
	m.constructor("RegExp", m.define("RegExp", patternFunctions()), func(c call) any {
		if o, ok := c.arg(0).(*object); ok && o.class == "RegExp" {
			return o
		}
		flags := ""
		if c.arg(1) != nil {
			flags = c.str(1)
		}
		return c.pattern(c.str(0), flags)
	})
	m.dates()
	m.mathematics()
	for name, f := range (functions{
		"parseInt": parseInt,
		"parseFloat": func(c call) any {
			if n := regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?`).FindString(strings.TrimSpace(c.str(0))); n != "" {
				return parseNumber(n)
			}
			return math.NaN()
		},
		"isNaN":    func(c call) any { return math.IsNaN(c.number(c.arg(0))) },
		"isFinite": func(c call) any { n := c.number(c.arg(0)); return !math.IsNaN(n) && !math.IsInf(n, 0) },
	}) {
		v := any(m.native(func(m *machine, this any, args []any) any { return f(call{m, this, args}) }))
		m.global.vars[name] = &v
	}
	for name, v := range map[string]any{"undefined": nil, "NaN": math.NaN(), "Infinity": math.Inf(1)} {
		m.global.vars[name] = &v
	}
}

func parseInt(c call) any {
	s := strings.TrimSpace(c.str(0))
	sign := 1.0
	if strings.HasPrefix(s, "-") {
		sign = -1
	}
	s = strings.TrimLeft(s, "+-")
	base := c.whole(1, 10, 0, 36)
	if low := strings.ToLower(s); strings.HasPrefix(low, "0x") && (base == 16 || c.arg(1) == nil || base == 0) {
		s, base = s[2:], 16
	}
	if base < 2 {
		base = 10
	}
	v, any := 0.0, false
	for _, r := range strings.ToLower(s) {
		d := strings.IndexRune("0123456789abcdefghijklmnopqrstuvwxyz", r)
		if d < 0 || d >= base {
			break
		}
		v, any = v*float64(base)+float64(d), true
	}
	if !any {
		return math.NaN()
	}
	return sign * v
}

// work charges for what is done with a text.
func (c call) work(s string) string {
	c.step(len(s)/32 + 1)
	return s
}

func (c call) made(s string) any {
	c.charge(len(s))
	return s
}

func textFunctions() functions {
	self := func(c call) string { return c.work(c.text(c.this)) }
	find := func(c call, f func(s, what string) int) any {
		s := self(c)
		if n := f(s, c.str(0)); n >= 0 {
			return float64(length(s[:n]))
		}
		return -1.0
	}
	return functions{
		"toString":    func(c call) any { return self(c) },
		"valueOf":     func(c call) any { return self(c) },
		"toLowerCase": func(c call) any { return c.made(strings.ToLower(self(c))) },
		"toUpperCase": func(c call) any { return c.made(strings.ToUpper(self(c))) },
		"trim":        func(c call) any { return c.made(strings.TrimSpace(self(c))) },
		"charAt": func(c call) any {
			s := self(c)
			n := c.whole(0, 0, -1, length(s))
			if n < 0 || n >= length(s) {
				return ""
			}
			return cut(s, n, n+1)
		},
		"charCodeAt": func(c call) any {
			s := self(c)
			n := c.whole(0, 0, -1, length(s))
			if n < 0 || n >= length(s) {
				return math.NaN()
			}
			return float64([]rune(cut(s, n, n+1))[0])
		},
		"indexOf": func(c call) any {
			s := self(c)
			from := c.whole(1, 0, 0, length(s))
			if n := strings.Index(cut(s, from, length(s)), c.str(0)); n >= 0 {
				return float64(from + length(cut(s, from, length(s))[:n]))
			}
			return -1.0
		},
		"lastIndexOf": func(c call) any { return find(c, strings.LastIndex) },
		"includes":    func(c call) any { return strings.Contains(self(c), c.str(0)) },
		"startsWith": func(c call) any {
			s := self(c)
			return strings.HasPrefix(cut(s, c.whole(1, 0, 0, length(s)), length(s)), c.str(0))
		},
		"endsWith": func(c call) any {
			s := self(c)
			return strings.HasSuffix(cut(s, 0, c.whole(1, length(s), 0, length(s))), c.str(0))
		},
		"substring": func(c call) any {
			s := self(c)
			a, b := c.whole(0, 0, 0, length(s)), c.whole(1, length(s), 0, length(s))
			return c.made(cut(s, min(a, b), max(a, b)))
		},
		"substr": func(c call) any {
			s := self(c)
			a := c.relative(0, 0, length(s))
			return c.made(cut(s, a, min(length(s), a+c.whole(1, length(s), 0, length(s)))))
		},
		"slice": func(c call) any {
			s := self(c)
			return c.made(cut(s, c.relative(0, 0, length(s)), c.relative(1, length(s), length(s))))
		},
		"concat": func(c call) any {
			s := self(c)
			for i := range c.args {
				s += c.str(i)
				c.charge(len(s))
			}
			return s
		},
		"split":   split,
		"replace": replace,
		"search": func(c call) any {
			s := self(c)
			if at := c.over(c.expression(0), s).FindStringIndex(s); at != nil {
				return float64(length(s[:at[0]]))
			}
			return -1.0
		},
		"match": func(c call) any {
			s, o := self(c), c.expression(0)
			if !o.all {
				return c.execute(o, s)
			}
			var out []any
			for _, found := range c.over(o, s).FindAllString(s, maxMatches) {
				c.charge(len(found))
				out = append(out, found)
			}
			if out == nil {
				return null{}
			}
			return c.list(out)
		},
	}
}

// expression is an argument as a regular expression.
func (c call) expression(n int) *object {
	if o, ok := c.arg(n).(*object); ok && o.class == "RegExp" {
		return o
	}
	return c.pattern(c.str(n), "")
}

// maxMatches bounds what one expression finds in one text.
const maxMatches = 100_000

func split(c call) any {
	s := c.work(c.text(c.this))
	most := c.whole(1, maxBytes, 0, maxBytes)
	var parts []string
	switch by, ok := c.arg(0).(*object); {
	case c.arg(0) == nil:
		parts = []string{s}
	case ok && by.class == "RegExp":
		parts = c.over(by, s).Split(s, maxMatches)
	default:
		parts = strings.Split(s, c.str(0))
		if s == "" && c.str(0) == "" {
			parts = nil
		}
	}
	c.charge(len(s) + 32*len(parts))
	out := make([]any, 0, len(parts))
	for _, p := range parts[:min(most, len(parts))] {
		out = append(out, p)
	}
	return c.list(out)
}

func replace(c call) any {
	s := c.work(c.text(c.this))
	o, ok := c.arg(0).(*object)
	if !ok || o.class != "RegExp" {
		o = c.pattern(regexp.QuoteMeta(c.str(0)), "")
	}
	most := 1
	if o.all {
		most = maxMatches
	}
	f, isFunction := c.arg(1).(*object)
	isFunction = isFunction && f.class == "Function"
	var b strings.Builder
	last := 0
	found := c.over(o, s).FindAllStringSubmatchIndex(s, most)
	if len(found) == maxMatches {
		c.stop("it replaces too much at once")
	}
	for _, at := range found {
		b.WriteString(s[last:at[0]])
		group := func(n int) any {
			if 2*n+1 >= len(at) || at[2*n] < 0 {
				return nil
			}
			return s[at[2*n]:at[2*n+1]]
		}
		var with string
		if isFunction {
			var args []any
			for n := range len(at) / 2 {
				args = append(args, group(n))
			}
			with = c.text(c.call(f, nil, append(args, float64(length(s[:at[0]])), s)))
		} else {
			with = regexp.MustCompile(`\$[$&0-9]`).ReplaceAllStringFunc(c.str(1), func(ref string) string {
				switch ref[1] {
				case '$':
					return "$"
				case '&':
					return s[at[0]:at[1]]
				}
				v := group(int(ref[1] - '0'))
				if v == nil {
					return ""
				}
				return v.(string)
			})
		}
		b.WriteString(with)
		c.charge(len(with) + 16)
		c.step(1)
		last = at[1]
	}
	b.WriteString(s[last:])
	return c.made(b.String())
}

// items is the list that a function of lists was called on.
func (c call) items() *object {
	o, ok := c.this.(*object)
	if !ok || o.class != "Array" {
		c.throw("this is no list")
	}
	c.step(len(o.items)/8 + 1)
	return o
}

// each calls the first argument with each item, until f has enough.
func (c call) each(f func(i int, v, out any) (stop bool)) {
	g, ok := c.arg(0).(*object)
	if !ok || g.class != "Function" {
		c.throw("a function is needed")
	}
	o := c.items()
	for i := 0; i < len(o.items); i++ {
		v := o.items[i]
		if f(i, v, c.call(g, c.arg(1), []any{v, float64(i), o})) {
			return
		}
	}
}

// join makes one text of a list.
func (c call) join(by string) any {
	o := c.items()
	var b strings.Builder
	if c.calls++; c.calls > maxCalls { // a list that holds itself
		c.stop("lists hold each other")
	}
	defer func() { c.calls-- }()
	for i, v := range o.items {
		if i > 0 {
			b.WriteString(by)
		}
		if v != nil && v != (null{}) {
			s := c.text(v)
			c.charge(len(s) + len(by))
			b.WriteString(s)
		}
	}
	return b.String()
}

func listFunctions() functions {
	return functions{
		"toString": func(c call) any { return c.join(",") },
		"join": func(c call) any {
			if c.arg(0) == nil {
				return c.join(",")
			}
			return c.join(c.str(0))
		},
		"push": func(c call) any {
			o := c.items()
			c.charge(16 * len(c.args))
			o.items = append(o.items, c.args...)
			return float64(len(o.items))
		},
		"pop": func(c call) any {
			o := c.items()
			if len(o.items) == 0 {
				return nil
			}
			v := o.items[len(o.items)-1]
			o.items = o.items[:len(o.items)-1]
			return v
		},
		"shift": func(c call) any {
			o := c.items()
			if len(o.items) == 0 {
				return nil
			}
			v := o.items[0]
			o.items = o.items[1:]
			return v
		},
		"unshift": func(c call) any {
			o := c.items()
			c.charge(16 * (len(c.args) + len(o.items)))
			o.items = append(slices.Clone(c.args), o.items...)
			return float64(len(o.items))
		},
		"indexOf": func(c call) any {
			return float64(slices.IndexFunc(c.items().items, func(v any) bool { return same(v, c.arg(0)) }))
		},
		"includes": func(c call) any {
			return slices.ContainsFunc(c.items().items, func(v any) bool { return same(v, c.arg(0)) })
		},
		"slice": func(c call) any {
			o := c.items()
			a, b := c.relative(0, 0, len(o.items)), c.relative(1, len(o.items), len(o.items))
			return c.list(slices.Clone(o.items[a:max(a, b)]))
		},
		"concat": func(c call) any {
			out := slices.Clone(c.items().items)
			for _, a := range c.args {
				if o, ok := a.(*object); ok && o.class == "Array" {
					out = append(out, o.items...)
				} else {
					out = append(out, a)
				}
			}
			return c.list(out)
		},
		"reverse": func(c call) any {
			o := c.items()
			slices.Reverse(o.items)
			return o
		},
		"sort": func(c call) any {
			o := c.items()
			f, ok := c.arg(0).(*object)
			slices.SortStableFunc(o.items, func(a, b any) int {
				c.step(1)
				if ok && f.class == "Function" {
					n := c.number(c.call(f, nil, []any{a, b}))
					return map[bool]int{true: -1}[n < 0] + map[bool]int{true: 1}[n > 0]
				}
				return strings.Compare(c.text(a), c.text(b))
			})
			return o
		},
		"forEach": func(c call) any {
			c.each(func(int, any, any) bool { return false })
			return nil
		},
		"map": func(c call) any {
			out := c.list(nil)
			c.each(func(_ int, _, r any) bool {
				c.charge(16)
				out.items = append(out.items, r)
				return false
			})
			return out
		},
		"filter": func(c call) any {
			out := c.list(nil)
			c.each(func(_ int, v, r any) bool {
				if c.charge(16); truth(r) {
					out.items = append(out.items, v)
				}
				return false
			})
			return out
		},
		"some": func(c call) any {
			found := false
			c.each(func(_ int, _, r any) bool { found = truth(r); return found })
			return found
		},
		"every": func(c call) any {
			all := true
			c.each(func(_ int, _, r any) bool { all = truth(r); return !all })
			return all
		},
	}
}

// pattern makes a regular expression; it runs in linear time, so what only backtracking can do is refused.
func (m *machine) pattern(source, flags string) *object {
	if len(source) > 4096 {
		m.throw("a regular expression of %d bytes is too long", len(source))
	}
	m.step(len(source) + 1)
	m.charge(64 * len(source))
	o := m.object("RegExp")
	o.source = source
	prefix := ""
	for _, f := range flags {
		switch f {
		case 'g':
			o.all = true
		case 'i', 'm', 's':
			prefix += "(?" + string(f) + ")"
		case 'u', 'y', 'd':
		default:
			m.throw("%.20q are no flags of a regular expression", flags)
		}
	}
	translated := regexp.MustCompile(`\\u([0-9A-Fa-f]{4})|\\/|\[\^\]|\\.`).ReplaceAllStringFunc(source, func(s string) string {
		switch {
		case strings.HasPrefix(s, `\u`) && len(s) == 6:
			return `\x{` + s[2:] + `}`
		case s == `\/`:
			return "/"
		case s == "[^]":
			return `(?s:.)`
		}
		return s
	})
	re, err := regexp.Compile(prefix + translated)
	if err == nil {
		var tree *syntax.Regexp
		var prog *syntax.Prog
		if tree, err = syntax.Parse(prefix+translated, syntax.Perl); err == nil {
			if prog, err = syntax.Compile(tree.Simplify()); err == nil {
				o.cost = len(prog.Inst)
				m.step(o.cost)
				m.charge(64 * o.cost)
			}
		}
	}
	if err != nil {
		m.throw("the regular expression /%.60s/ is not understood (look-ahead and back-references are not): %v", source, err)
	}
	o.re = re
	return o
}

// over charges for matching an expression against a text, before it is done.
func (m *machine) over(o *object, s string) *regexp.Regexp {
	m.step(len(s)*(o.cost+1)/64 + 1)
	return o.re
}

// execute is RegExp.prototype.exec.
func (m *machine) execute(o *object, s string) any {
	at := m.over(o, s).FindStringSubmatchIndex(s)
	if at == nil {
		return null{}
	}
	out := m.list(nil)
	for n := 0; n < len(at); n += 2 {
		var v any
		if at[n] >= 0 {
			v = s[at[n]:at[n+1]]
		}
		m.charge(16)
		out.items = append(out.items, v)
	}
	m.set(out, "index", float64(length(s[:at[0]])))
	m.set(out, "input", s)
	return out
}

func patternFunctions() functions {
	self := func(c call) *object {
		o, ok := c.this.(*object)
		if !ok || o.class != "RegExp" {
			c.throw("this is no regular expression")
		}
		return o
	}
	return functions{
		"test":     func(c call) any { o := self(c); s := c.str(0); return c.over(o, s).MatchString(s) },
		"exec":     func(c call) any { o := self(c); return c.execute(o, c.str(0)) },
		"toString": func(c call) any { return "/" + self(c).source + "/" },
	}
}

func (m *machine) dates() {
	all := functions{}
	for name, f := range map[string]func(t time.Time) int{
		"Day": func(t time.Time) int { return int(t.Weekday()) }, "Date": time.Time.Day, "Month": func(t time.Time) int { return int(t.Month()) - 1 }, "FullYear": time.Time.Year, "Hours": time.Time.Hour, "Minutes": time.Time.Minute,
		"Seconds": time.Time.Second, "Milliseconds": func(t time.Time) int { return t.Nanosecond() / 1e6 },
	} {
		all["get"+name] = func(c call) any { return float64(f(c.date())) }
		all["getUTC"+name] = func(c call) any { return float64(f(c.date().UTC())) }
	}
	all["getTime"] = func(c call) any { return float64(c.date().UnixMilli()) }
	all["valueOf"] = all["getTime"]
	all["getTimezoneOffset"] = func(c call) any { _, off := c.date().Zone(); return float64(-off / 60) }
	all["toString"] = func(c call) any { return c.date().Format("Mon Jan 02 2006 15:04:05 GMT-0700") }
	m.constructor("Date", m.define("Date", all), func(c call) any {
		o := c.object("Date")
		o.when = c.Now
		switch {
		case len(c.args) == 1:
			o.when = time.UnixMilli(int64(c.whole(0, 0, -8.64e15, 8.64e15))).In(c.Now.Location())
		case len(c.args) > 1:
			part := func(n, other int) int { return c.whole(n, other, -1e5, 1e5) }
			o.when = time.Date(part(0, 1970), time.Month(part(1, 0)+1), part(2, 1), part(3, 0), part(4, 0), part(5, 0), part(6, 0)*1e6, c.Now.Location())
		}
		return o
	})
}

func (c call) date() time.Time {
	o, ok := c.this.(*object)
	if !ok || o.class != "Date" {
		c.throw("this is no date")
	}
	return o.when
}

func (m *machine) mathematics() {
	o := m.object("Object")
	for name, f := range map[string]func(float64) float64{"floor": math.Floor, "ceil": math.Ceil, "abs": math.Abs, "sqrt": math.Sqrt, "round": func(v float64) float64 { return math.Floor(v + 0.5) }} {
		m.set(o, name, m.native(func(m *machine, _ any, args []any) any { return f(m.number(call{args: args}.arg(0))) }))
	}
	for name, f := range map[string]func(a, b float64) float64{"min": math.Min, "max": math.Max} {
		m.set(o, name, m.native(func(m *machine, _ any, args []any) any {
			v := math.Inf(map[string]int{"min": 1, "max": -1}[name])
			for _, a := range args {
				v = f(v, m.number(a))
			}
			return v
		}))
	}
	m.set(o, "pow", m.native(func(m *machine, _ any, args []any) any {
		return math.Pow(m.number(call{args: args}.arg(0)), m.number(call{args: args}.arg(1)))
	}))
	// The same file gives the same answer: what it throws dice for is always in the middle.
	m.set(o, "random", m.native(func(*machine, any, []any) any { return 0.5 }))
	v := any(o)
	m.global.vars["Math"] = &v
}
