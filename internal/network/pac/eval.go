package pac

import (
	"context"
	"fmt"
	"math"
	"strings"

	"ringfence"
)

// The most that a program may take for one address.
const (
	maxSteps = 3_000_000 // about a tenth of a second
	maxBytes = 16 << 20  // of texts and lists, all that were ever made
	maxCalls = 100       // within each other
	maxNames = 32        // asked of DNS
)

// machine runs a program once.
type machine struct {
	World
	ctx    context.Context
	steps  int
	bytes  int
	calls  int
	line   int
	global *scope
	protos map[string]*object
	asked  []string
	alerts []string
	cache  map[string]string // what was resolved
}

// thrown is a value that the program throws.
type thrown struct {
	v    any
	line int
}

func (m *machine) throw(format string, args ...any) any {
	e := m.object("Error")
	m.set(e, "message", fmt.Sprintf(format, args...))
	panic(thrown{e, m.line})
}

func (m *machine) stop(why string) {
	panic(fail{&ringfence.Fault{Op: "pac", Kind: ringfence.KindOverload, Text: fmt.Sprintf("line %d: the program was stopped: %s", m.line, why), Hint: "a browser would hang on it, or ignore it: look for a loop that does not end"}})
}

func (m *machine) step(n int) {
	before := m.steps
	if m.steps += n; m.steps > maxSteps {
		m.stop(fmt.Sprintf("it does not come to its end within %d steps", maxSteps))
	}
	if before/4096 != m.steps/4096 && m.ctx.Err() != nil {
		m.stop("its time is over")
	}
}

func (m *machine) charge(n int) {
	if m.bytes += n; m.bytes > maxBytes {
		m.stop(fmt.Sprintf("it takes more than %d MiB", maxBytes>>20))
	}
}

func (m *machine) object(class string) *object {
	m.charge(128)
	return &object{class: class, proto: m.protos[class]}
}

func (m *machine) list(items []any) *object {
	o := m.object("Array")
	m.charge(16 * len(items))
	o.items = items
	return o
}

func (m *machine) native(f func(m *machine, this any, args []any) any) *object {
	return &object{class: "Function", proto: m.protos["Function"], native: f}
}

type signal uint8

const (
	goOn signal = iota
	breaks
	continues
	returns
)

// run executes statements.
func (m *machine) run(body []*node, s *scope, this any) (signal, any) {
	for _, n := range body {
		if sig, v := m.exec(n, s, this); sig != goOn {
			return sig, v
		}
	}
	return goOn, nil
}

func (m *machine) inner(s *scope, lex bool) *scope {
	if !lex {
		return s
	}
	m.charge(64)
	return &scope{vars: map[string]*any{}, up: s}
}

func (m *machine) exec(n *node, s *scope, this any) (signal, any) {
	m.line = n.line
	m.step(1)
	switch n.op {
	case "expr":
		m.eval(n.kids[0], s, this)
	case "block":
		return m.run(n.kids, m.inner(s, n.lex), this)
	case "var", "let":
		m.declare(n, s, this)
	case "if":
		if truth(m.eval(n.kids[0], s, this)) {
			return m.exec(n.kids[1], s, this)
		}
		if len(n.kids) > 2 {
			return m.exec(n.kids[2], s, this)
		}
	case "while", "do":
		for first := n.op == "do"; first || truth(m.eval(n.kids[0], s, this)); first = false {
			m.step(1)
			if sig, v := m.exec(n.kids[1], s, this); sig == breaks {
				break
			} else if sig == returns {
				return sig, v
			}
		}
	case "for":
		return m.forLoop(n, m.inner(s, n.lex), this)
	case "forin", "forof":
		return m.forEach(n, s, this)
	case "switch":
		return m.switchCases(n, m.inner(s, n.lex), this)
	case "break":
		return breaks, nil
	case "continue":
		return continues, nil
	case "return":
		if len(n.kids) == 0 {
			return returns, nil
		}
		return returns, m.eval(n.kids[0], s, this)
	case "throw":
		v := m.eval(n.kids[0], s, this)
		panic(thrown{v, n.line})
	case "try":
		return m.try(n, s, this)
	}
	return goOn, nil
}

func (m *machine) declare(n *node, s *scope, this any) {
	for i := 0; i < len(n.kids); i += 2 {
		name := n.kids[i].s
		if n.op == "let" {
			m.charge(64)
			s.vars[name] = new(any)
		}
		if n.kids[i+1] != nil {
			v := m.eval(n.kids[i+1], s, this)
			*s.find(name) = v
		}
	}
}

func (m *machine) forLoop(n *node, s *scope, this any) (signal, any) {
	if first := n.kids[0]; first != nil {
		if first.op == "var" || first.op == "let" {
			m.declare(first, s, this)
		} else {
			m.eval(first, s, this)
		}
	}
	for {
		m.step(1)
		if n.kids[1] != nil && !truth(m.eval(n.kids[1], s, this)) {
			return goOn, nil
		}
		sig, v := m.exec(n.kids[3], s, this)
		if sig == breaks {
			return goOn, nil
		}
		if sig == returns {
			return sig, v
		}
		if n.lex { // closures keep the variables of their own turn
			next := m.inner(s.up, true)
			for k, v := range s.vars {
				m.charge(32)
				c := *v
				next.vars[k] = &c
			}
			s = next
		}
		if n.kids[2] != nil {
			m.eval(n.kids[2], s, this)
		}
	}
}

func (m *machine) forEach(n *node, s *scope, this any) (signal, any) {
	var all []any
	switch list := m.eval(n.kids[1], s, this).(type) {
	case *object:
		if n.op == "forof" {
			all = append(all, list.items...)
		} else {
			for _, k := range list.enumerate() {
				all = append(all, k)
			}
		}
	case string:
		if n.op == "forof" {
			for _, r := range list {
				all = append(all, string(r))
			}
		}
	}
	m.charge(16 * len(all))
	first := n.kids[0]
	for _, v := range all {
		m.step(1)
		turn := s
		switch first.op {
		case "let":
			turn = m.inner(s, true)
			turn.vars[first.kids[0].s] = &v
		case "var":
			*s.find(first.kids[0].s) = v
		default:
			m.assign(first, v, s, this)
		}
		if sig, r := m.exec(n.kids[2], turn, this); sig == breaks {
			break
		} else if sig == returns {
			return sig, r
		}
	}
	return goOn, nil
}

func (m *machine) switchCases(n *node, s *scope, this any) (signal, any) {
	v := m.eval(n.kids[0], s, this)
	from := -1
	for i, c := range n.kids[1:] {
		if m.step(1); c.kids[0] != nil && same(v, m.eval(c.kids[0], s, this)) {
			from = i
			break
		}
	}
	for i, c := range n.kids[1:] {
		if from < 0 && c.kids[0] == nil {
			from = i
		}
	}
	if from < 0 {
		return goOn, nil
	}
	for _, c := range n.kids[1+from:] {
		sig, v := m.run(c.kids[1:], s, this)
		if sig == breaks {
			return goOn, nil
		}
		if sig != goOn {
			return sig, v
		}
	}
	return goOn, nil
}

func (m *machine) try(n *node, s *scope, this any) (sig signal, v any) {
	guarded := func(body func() (signal, any)) (sig signal, v any, caught *thrown) {
		calls := m.calls
		defer func() {
			if r := recover(); r != nil {
				t, ok := r.(thrown)
				if !ok {
					panic(r) // what was stopped is not caught
				}
				m.calls, caught = calls, &t
			}
		}()
		sig, v = body()
		return sig, v, nil
	}
	sig, v, caught := guarded(func() (signal, any) { return m.exec(n.kids[0], s, this) })
	if caught != nil && n.kids[1] != nil {
		inner := m.inner(s, true)
		if n.s != "" {
			inner.vars[n.s] = &caught.v
		}
		sig, v, caught = guarded(func() (signal, any) { return m.exec(n.kids[1], inner, this) })
	}
	if n.kids[2] != nil {
		if s2, v2 := m.exec(n.kids[2], s, this); s2 != goOn {
			return s2, v2
		}
	}
	if caught != nil {
		panic(*caught)
	}
	return sig, v
}

func (m *machine) eval(n *node, s *scope, this any) any {
	m.step(1)
	switch n.op {
	case "name":
		m.line = n.line
		if v := s.find(n.s); v != nil {
			return *v
		}
		return m.throw("%.60s is not defined", n.s)
	case "number":
		return n.n
	case "text":
		return n.s
	case "true", "false":
		return n.op == "true"
	case "null":
		return null{}
	case "this":
		return this
	case "function":
		return m.closure(n.fn, s)
	case "pattern":
		return m.pattern(n.s, n.fn.name)
	case "list":
		items := make([]any, len(n.kids))
		for i, k := range n.kids {
			items[i] = m.eval(k, s, this)
		}
		return m.list(items)
	case "object":
		o := m.object("Object")
		for i := 0; i < len(n.kids); i += 2 {
			m.set(o, n.kids[i].s, m.eval(n.kids[i+1], s, this))
		}
		return o
	case ".":
		return m.get(m.eval(n.kids[0], s, this), n.s)
	case "[":
		v := m.eval(n.kids[0], s, this)
		return m.get(v, m.text(m.eval(n.kids[1], s, this)))
	case ",":
		m.eval(n.kids[0], s, this)
		return m.eval(n.kids[1], s, this)
	case "?":
		if truth(m.eval(n.kids[0], s, this)) {
			return m.eval(n.kids[1], s, this)
		}
		return m.eval(n.kids[2], s, this)
	case "=":
		if n.s == "" {
			v := m.eval(n.kids[1], s, this)
			m.assign(n.kids[0], v, s, this)
			return v
		}
		old := m.eval(n.kids[0], s, this)
		v := m.binary(n.s, old, m.eval(n.kids[1], s, this))
		m.assign(n.kids[0], v, s, this)
		return v
	case "step":
		old := m.number(m.eval(n.kids[0], s, this))
		v := old + map[string]float64{"+": 1, "-": -1}[n.s]
		m.assign(n.kids[0], v, s, this)
		if n.n == 1 {
			return old
		}
		return v
	case "unary":
		return m.unary(n, s, this)
	case "binary":
		left := m.eval(n.kids[0], s, this)
		if n.s == "&&" && !truth(left) || n.s == "||" && truth(left) {
			return left
		}
		right := m.eval(n.kids[1], s, this)
		if n.s == "&&" || n.s == "||" {
			return right
		}
		return m.binary(n.s, left, right)
	case "call":
		return m.callNode(n, s, this)
	case "new":
		f := m.eval(n.kids[0], s, this)
		return m.construct(f, m.evalAll(n.kids[1:], s, this))
	}
	m.stop("there is no " + n.op)
	return nil
}

func (m *machine) evalAll(all []*node, s *scope, this any) []any {
	m.charge(16 * len(all))
	out := make([]any, len(all))
	for i, k := range all {
		out[i] = m.eval(k, s, this)
	}
	return out
}

func (m *machine) closure(f *function, s *scope) *object {
	o := m.object("Function")
	o.fn, o.scope = f, s
	return o
}

func (m *machine) callNode(n *node, s *scope, this any) any {
	var f, on any
	callee := n.kids[0]
	switch callee.op {
	case ".":
		on = m.eval(callee.kids[0], s, this)
		f = m.get(on, callee.s)
	case "[":
		on = m.eval(callee.kids[0], s, this)
		f = m.get(on, m.text(m.eval(callee.kids[1], s, this)))
	default:
		f = m.eval(callee, s, this)
	}
	args := m.evalAll(n.kids[1:], s, this)
	m.line = n.line
	o, ok := f.(*object)
	if !ok || o.class != "Function" {
		return m.throw("%.60s is not a function", callee.s)
	}
	return m.call(o, on, args)
}

func (m *machine) call(f *object, this any, args []any) any {
	m.step(1)
	if f.native != nil {
		return f.native(m, this, args)
	}
	if m.calls++; m.calls > maxCalls {
		m.stop(fmt.Sprintf("functions call each other more than %d deep", maxCalls))
	}
	defer func() { m.calls-- }()
	s := &scope{vars: map[string]*any{}, up: f.scope}
	m.charge(64 * (len(f.fn.params) + len(f.fn.vars) + len(f.fn.funcs) + 2))
	if f.fn.name != "" {
		var self any = f
		s.vars[f.fn.name] = &self
	}
	arguments := any(m.list(args))
	s.vars["arguments"] = &arguments
	for i, p := range f.fn.params {
		s.vars[p] = new(any)
		if i < len(args) {
			*s.vars[p] = args[i]
		}
	}
	m.hoist(f.fn, s)
	_, v := m.run(f.fn.body, s, this)
	return v
}

// hoist makes the variables and functions that are there from the beginning.
func (m *machine) hoist(f *function, s *scope) {
	for _, v := range f.vars {
		if _, there := s.vars[v]; !there {
			s.vars[v] = new(any)
		}
	}
	for _, g := range f.funcs {
		v := any(m.closure(g, s))
		s.vars[g.name] = &v
	}
}

func (m *machine) construct(f any, args []any) any {
	o, ok := f.(*object)
	if !ok || o.class != "Function" {
		return m.throw("this is no constructor")
	}
	made := m.object("Object")
	if p, ok := m.get(o, "prototype").(*object); ok {
		made.proto = p
	}
	if v, ok := m.call(o, made, args).(*object); ok {
		return v
	}
	return made
}

func (m *machine) assign(n *node, v any, s *scope, this any) {
	switch n.op {
	case "name":
		if at := s.find(n.s); at != nil {
			*at = v
			return
		}
		m.charge(64)
		m.global.vars[n.s] = &v
	case ".":
		m.set(m.eval(n.kids[0], s, this), n.s, v)
	case "[":
		o := m.eval(n.kids[0], s, this)
		m.set(o, m.text(m.eval(n.kids[1], s, this)), v)
	}
}

func (m *machine) get(v any, key string) any {
	switch v := v.(type) {
	case *object:
		if key == "prototype" && v.class == "Function" && v.fn != nil {
			if _, there := v.props[key]; !there {
				m.set(v, key, m.object("Object"))
			}
		}
		out, _ := v.lookup(key)
		return out
	case string:
		if key == "length" {
			return float64(length(v))
		}
		if n, ok := index(key); ok {
			if n >= length(v) {
				return nil
			}
			return cut(v, n, n+1)
		}
		out, _ := m.protos["String"].lookup(key)
		return out
	case float64:
		out, _ := m.protos["Number"].lookup(key)
		return out
	case bool:
		out, _ := m.protos["Object"].lookup(key)
		return out
	}
	return m.throw("%s has no property %.60s", str(v), key)
}

func (m *machine) set(v any, key string, to any) {
	o, ok := v.(*object)
	if !ok {
		if v == nil || v == (null{}) {
			m.throw("%s has no property %.60s", str(v), key)
		}
		return // of a text or a number: nothing happens
	}
	if o.class == "Array" {
		if n, ok := index(key); ok {
			m.grow(o, n+1)
			o.items[n] = to
			return
		}
		if key == "length" {
			n := m.number(to)
			if n < 0 || n != math.Trunc(n) || n > maxBytes {
				m.throw("%.40s is no length", str(n))
			}
			m.grow(o, int(n))
			o.items = o.items[:int(n)]
			return
		}
	}
	if _, there := o.props[key]; !there {
		m.charge(64 + len(key))
		if o.props == nil {
			o.props = map[string]any{}
		}
		o.keys = append(o.keys, key)
	}
	o.props[key] = to
}

func (m *machine) grow(o *object, n int) {
	if n > len(o.items) {
		if n > maxBytes/16 {
			m.stop("a list is too long")
		}
		m.charge(16 * (n - len(o.items)))
		o.items = append(o.items, make([]any, n-len(o.items))...)
	}
}

func (m *machine) unary(n *node, s *scope, this any) any {
	switch n.s {
	case "typeof":
		if k := n.kids[0]; k.op == "name" && s.find(k.s) == nil {
			return "undefined"
		}
		switch v := m.eval(n.kids[0], s, this).(type) {
		case nil:
			return "undefined"
		case bool:
			return "boolean"
		case float64:
			return "number"
		case string:
			return "string"
		case *object:
			if v.class == "Function" {
				return "function"
			}
		}
		return "object"
	case "delete":
		k := n.kids[0]
		if k.op != "." && k.op != "[" {
			return false
		}
		o, ok := m.eval(k.kids[0], s, this).(*object)
		key := k.s
		if k.op == "[" {
			key = m.text(m.eval(k.kids[1], s, this))
		}
		if ok {
			if i, is := index(key); is && i < len(o.items) {
				o.items[i] = nil
			}
			if _, there := o.props[key]; there {
				m.step(len(o.keys))
				delete(o.props, key)
				for i, k := range o.keys {
					if k == key {
						o.keys = append(o.keys[:i:i], o.keys[i+1:]...)
						break
					}
				}
			}
		}
		return true
	}
	v := m.eval(n.kids[0], s, this)
	switch n.s {
	case "!":
		return !truth(v)
	case "-":
		return -m.number(v)
	case "+":
		return m.number(v)
	case "~":
		return float64(^toInt32(m.number(v)))
	}
	return nil // void
}

// primitive makes of an object what operators work with.
func (m *machine) primitive(v any) any {
	o, ok := v.(*object)
	if !ok {
		return v
	}
	if o.class == "Date" {
		return o.when.Format("Mon Jan 02 2006 15:04:05 GMT-0700")
	}
	return m.text(o)
}

func (m *machine) number(v any) float64 {
	switch v := v.(type) {
	case nil:
		return math.NaN()
	case null:
		return 0
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	case string:
		return parseNumber(v)
	case *object:
		if v.class == "Date" {
			return float64(v.when.UnixMilli())
		}
		return parseNumber(m.text(v))
	}
	return math.NaN()
}

// text makes a text of any value.
func (m *machine) text(v any) string {
	o, ok := v.(*object)
	if !ok {
		return str(v)
	}
	if f, ok := m.get(o, "toString").(*object); ok && f.class == "Function" {
		if out := m.call(f, o, nil); out != v {
			if _, again := out.(*object); !again {
				return str(out)
			}
		}
	}
	return "[object " + o.class + "]"
}

// same is ===.
func same(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && a == b
	case *object:
		b, ok := b.(*object)
		return ok && a == b
	}
	return a == b
}

func (m *machine) equal(a, b any) bool {
	empty := func(v any) bool { return v == nil || v == (null{}) }
	_, objA := a.(*object)
	_, objB := b.(*object)
	textA, isA := a.(string)
	textB, isB := b.(string)
	switch {
	case empty(a) || empty(b):
		return empty(a) && empty(b)
	case objA && objB:
		return same(a, b)
	case isA && isB:
		return textA == textB
	case objA:
		return m.equal(m.primitive(a), b)
	case objB:
		return m.equal(a, m.primitive(b))
	}
	return m.number(a) == m.number(b)
}

func (m *machine) binary(op string, a, b any) any {
	switch op {
	case "+":
		a, b = m.primitive(a), m.primitive(b)
		_, textA := a.(string)
		_, textB := b.(string)
		if textA || textB {
			x, y := str(a), str(b)
			m.charge(len(x) + len(y))
			m.step((len(x) + len(y)) / 64)
			return x + y
		}
		return m.number(a) + m.number(b)
	case "==":
		return m.equal(a, b)
	case "!=":
		return !m.equal(a, b)
	case "===":
		return same(a, b)
	case "!==":
		return !same(a, b)
	case "<", ">", "<=", ">=":
		return m.less(op, a, b)
	case "in":
		if o, ok := b.(*object); ok {
			_, there := o.lookup(m.text(a))
			return there
		}
		return m.throw("in looks into objects only")
	case "instanceof":
		f, ok := b.(*object)
		if !ok || f.class != "Function" {
			return m.throw("instanceof needs a function")
		}
		o, _ := a.(*object)
		p, _ := m.get(f, "prototype").(*object)
		for n := 0; o != nil && p != nil && n < 100; n++ {
			if o.proto == p {
				return true
			}
			o = o.proto
		}
		return false
	}
	x, y := m.number(a), m.number(b)
	switch op {
	case "-":
		return x - y
	case "*":
		return x * y
	case "/":
		return x / y
	case "%":
		return math.Mod(x, y)
	case "&":
		return float64(toInt32(x) & toInt32(y))
	case "|":
		return float64(toInt32(x) | toInt32(y))
	case "^":
		return float64(toInt32(x) ^ toInt32(y))
	case "<<":
		return float64(toInt32(x) << (toUint32(y) & 31))
	case ">>":
		return float64(toInt32(x) >> (toUint32(y) & 31))
	case ">>>":
		return float64(toUint32(x) >> (toUint32(y) & 31))
	}
	m.stop("there is no operator " + op)
	return nil
}

func (m *machine) less(op string, a, b any) bool {
	if o, ok := a.(*object); ok && o.class == "Date" {
		a = m.number(o)
	}
	if o, ok := b.(*object); ok && o.class == "Date" {
		b = m.number(o)
	}
	a, b = m.primitive(a), m.primitive(b)
	x, textA := a.(string)
	y, textB := b.(string)
	if textA && textB {
		c := strings.Compare(x, y)
		return op == "<" && c < 0 || op == ">" && c > 0 || op == "<=" && c <= 0 || op == ">=" && c >= 0
	}
	p, q := m.number(a), m.number(b)
	return op == "<" && p < q || op == ">" && p > q || op == "<=" && p <= q || op == ">=" && p >= q
}
