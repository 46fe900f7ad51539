package pac

// node is a piece of a program. What the fields mean depends on op.
type node struct {
	op   string
	line int
	s    string
	n    float64
	kids []*node
	fn   *function
	lex  bool // a block with let or const of its own
}

// function is the code of one function, or of the whole file.
type function struct {
	name   string
	params []string
	vars   []string    // of var, whose scope is the function
	funcs  []*function // declared, which are there from the beginning
	body   []*node
	line   int
}

const (
	maxDepth = 150     // of nesting in the program's text
	maxNodes = 200_000 // of a program
	maxFile  = 1 << 20 // bytes
)

type parser struct {
	lexer
	t     token
	fn    *function
	depth int
	nodes int
	loops int // 0: break has nothing to leave
	heads int // in the head of a for, where "in" is no operator
}

// fail is how the parser and the interpreter leave; it never leaves the room.
type fail struct{ err error }

func (p *parser) bad(format string, args ...any) { panic(fail{broken(p.t.line, format, args...)}) }

func (p *parser) advance() {
	t, err := p.lexer.next()
	if err != nil {
		panic(fail{err})
	}
	p.t = t
}

func (p *parser) node(op string, kids ...*node) *node {
	if p.nodes++; p.nodes > maxNodes {
		p.bad("the file is too large")
	}
	return &node{op: op, line: p.t.line, kids: kids}
}

func (p *parser) is(s string) bool { return (p.t.kind == sign || p.t.kind == word) && p.t.s == s }

func (p *parser) got(s string) bool {
	if p.is(s) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) want(s string) {
	if !p.got(s) {
		p.bad("%q is missing before %.20q", s, p.t.s)
	}
}

func (p *parser) name() string {
	if p.t.kind != name {
		p.bad("%.20q is no name", p.t.s)
	}
	s := p.t.s
	p.advance()
	return s
}

// semicolon takes the end of a statement, which may be left out before a line end or a brace.
func (p *parser) semicolon() {
	if !p.got(";") && !p.is("}") && !p.t.fresh && p.t.kind != end {
		p.bad("%.20q is not understood here", p.t.s)
	}
}

func (p *parser) deeper() func() {
	if p.depth++; p.depth > maxDepth {
		p.bad("it is nested too deeply")
	}
	return func() { p.depth-- }
}

func parse(src string) (f *function, err error) {
	defer func() {
		if r := recover(); r != nil {
			stop, ok := r.(fail)
			if !ok {
				panic(r)
			}
			err = stop.err
		}
	}()
	if len(src) > maxFile {
		return nil, broken(0, "a file of %d bytes is too long; %d are the most", len(src), maxFile)
	}
	p := &parser{lexer: lexer{src: src, line: 1}, fn: &function{line: 1}}
	p.advance()
	for p.t.kind != end {
		p.fn.body = append(p.fn.body, p.statement())
	}
	return p.fn, nil
}

func (p *parser) block() *node {
	defer p.deeper()()
	b := p.node("block")
	p.want("{")
	for !p.is("}") {
		if p.t.kind == end {
			p.bad("a brace is not closed")
		}
		s := p.statement()
		b.lex = b.lex || s.op == "let"
		b.kids = append(b.kids, s)
	}
	p.advance()
	return b
}

// loop parses what break and continue may stand in.
func (p *parser) loop() *node {
	p.loops++
	defer func() { p.loops-- }()
	return p.statement()
}

func (p *parser) statement() *node {
	defer p.deeper()()
	if p.t.kind == word {
		if n := p.keyword(p.t.s); n != nil {
			return n
		}
	}
	switch {
	case p.is("{"):
		return p.block()
	case p.got(";"):
		return p.node("block")
	}
	n := p.node("expr", p.expression())
	if p.is(":") {
		p.bad("labels are not understood")
	}
	p.semicolon()
	return n
}

// keyword parses a statement that begins with a reserved word; nil: it is an expression.
func (p *parser) keyword(s string) *node {
	n := p.node(s)
	switch s {
	case "var", "let", "const":
		n = p.declaration()
		p.semicolon()
	case "function":
		p.advance()
		p.fn.funcs = append(p.fn.funcs, p.function(p.name()))
		n.op = "block"
	case "if":
		p.advance()
		n.kids = []*node{p.paren(), p.statement()}
		if p.got("else") {
			n.kids = append(n.kids, p.statement())
		}
	case "while":
		p.advance()
		n.kids = []*node{p.paren(), p.loop()}
	case "do":
		p.advance()
		body := p.loop()
		p.want("while")
		n.kids = []*node{p.paren(), body}
		p.got(";")
	case "for":
		return p.forLoop()
	case "switch":
		return p.switchCases()
	case "break", "continue":
		if p.advance(); p.loops == 0 {
			p.bad("%s stands outside of a loop", s)
		}
		if p.t.kind == name && !p.t.fresh {
			p.bad("labels are not understood")
		}
		p.semicolon()
	case "return", "throw":
		p.advance()
		if !p.is(";") && !p.is("}") && !p.t.fresh && p.t.kind != end {
			n.kids = []*node{p.expression()}
		} else if s == "throw" {
			p.bad("nothing is thrown")
		}
		p.semicolon()
	case "try":
		p.advance()
		n.kids = []*node{p.block(), nil, nil}
		if p.got("catch") {
			if p.got("(") {
				n.s = p.name()
				p.want(")")
			}
			n.kids[1] = p.block()
		}
		if p.got("finally") {
			n.kids[2] = p.block()
		}
		if n.kids[1] == nil && n.kids[2] == nil {
			p.bad("try has neither catch nor finally")
		}
	case "debugger":
		p.advance()
		p.semicolon()
		n.op = "block"
	case "class", "import", "export", "with", "yield", "super", "extends":
		p.bad("%q is not understood in such files", s)
	default:
		return nil
	}
	return n
}

func (p *parser) paren() *node {
	p.want("(")
	n := p.expression()
	p.want(")")
	return n
}

// declaration parses var, let or const without the end of the statement. The kids are pairs of a name and a value.
func (p *parser) declaration() *node {
	n := p.node("let")
	n.s = p.t.s
	if n.s == "var" {
		n.op = "var"
	}
	p.advance()
	for {
		v := p.node("name")
		v.s = p.name()
		if n.op == "var" {
			p.fn.vars = append(p.fn.vars, v.s)
		}
		var value *node
		if p.got("=") {
			value = p.assignment()
		}
		n.kids = append(n.kids, v, value)
		if !p.got(",") {
			return n
		}
	}
}

func (p *parser) forLoop() *node {
	n := p.node("for")
	p.advance()
	p.want("(")
	p.heads++
	var first *node
	switch {
	case p.is(";"):
	case p.is("var") || p.is("let") || p.is("const"):
		first = p.declaration()
		n.lex = first.op == "let"
	default:
		first = p.expression()
	}
	p.heads--
	if of := p.t.kind == name && p.t.s == "of"; first != nil && (of || p.is("in")) {
		p.advance()
		n.op = "forin"
		if of {
			n.op = "forof"
		}
		if first.op == "var" || first.op == "let" {
			if len(first.kids) != 2 || first.kids[1] != nil {
				p.bad("one name stands before in")
			}
		} else if !target(first) {
			p.bad("nothing can be assigned to what stands before in")
		}
		list := p.expression()
		p.want(")")
		n.kids = []*node{first, list, p.loop()}
		return n
	}
	p.want(";")
	n.kids = []*node{first, nil, nil, nil}
	if !p.is(";") {
		n.kids[1] = p.expression()
	}
	p.want(";")
	if !p.is(")") {
		n.kids[2] = p.expression()
	}
	p.want(")")
	n.kids[3] = p.loop()
	return n
}

// switchCases parses a switch: kids are the value, and cases with their test first, which is nil for default.
func (p *parser) switchCases() *node {
	n := p.node("switch")
	p.advance()
	n.kids = []*node{p.paren()}
	p.want("{")
	p.loops++
	defer func() { p.loops-- }()
	for !p.got("}") {
		c := p.node("case", nil)
		if p.got("default") {
			n.n++
		} else {
			p.want("case")
			c.kids[0] = p.expression()
		}
		p.want(":")
		for !p.is("}") && !p.is("case") && !p.is("default") {
			if p.t.kind == end {
				p.bad("a brace is not closed")
			}
			s := p.statement()
			n.lex = n.lex || s.op == "let"
			c.kids = append(c.kids, s)
		}
		n.kids = append(n.kids, c)
	}
	if n.n > 1 {
		p.bad("there are two defaults")
	}
	return n
}

func (p *parser) function(called string) *function {
	defer p.deeper()()
	outer, loops, heads := p.fn, p.loops, p.heads
	f := &function{name: called, line: p.t.line}
	p.fn, p.loops, p.heads = f, 0, 0
	defer func() { p.fn, p.loops, p.heads = outer, loops, heads }()
	p.want("(")
	for !p.got(")") {
		f.params = append(f.params, p.name())
		if !p.is(")") {
			p.want(",")
		}
	}
	f.body = p.block().kids
	return f
}

func (p *parser) expression() *node {
	n := p.assignment()
	for p.is(",") {
		p.advance()
		n = p.node(",", n, p.assignment())
	}
	return n
}

func target(n *node) bool { return n.op == "name" || n.op == "." || n.op == "[" }

func (p *parser) assignment() *node {
	defer p.deeper()()
	left := p.binary(0)
	if p.is("?") {
		p.advance()
		heads := p.heads
		p.heads = 0
		yes := p.assignment()
		p.heads = heads
		p.want(":")
		return p.node("?", left, yes, p.assignment())
	}
	if p.is("=>") {
		p.bad("arrow functions are not understood: write function (...) { return ...; }")
	}
	if p.t.kind == sign {
		switch op := p.t.s; op {
		case "=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>=", ">>>=":
			if !target(left) {
				p.bad("nothing can be assigned to this")
			}
			p.advance()
			n := p.node("=", left, p.assignment())
			n.s = op[:len(op)-1]
			return n
		}
	}
	return left
}

// rank says how tightly an operator binds; 0: it is none.
func (p *parser) rank() int {
	if p.t.kind != sign && p.t.kind != word {
		return 0
	}
	switch p.t.s {
	case "||":
		return 1
	case "&&":
		return 2
	case "|":
		return 3
	case "^":
		return 4
	case "&":
		return 5
	case "==", "!=", "===", "!==":
		return 6
	case "<", ">", "<=", ">=", "instanceof":
		return 7
	case "in":
		if p.heads == 0 {
			return 7
		}
	case "<<", ">>", ">>>":
		return 8
	case "+", "-":
		return 9
	case "*", "/", "%":
		return 10
	}
	return 0
}

func (p *parser) binary(least int) *node {
	left := p.unary()
	for {
		r := p.rank()
		if r == 0 || r <= least {
			return left
		}
		op := p.t.s
		p.advance()
		left = p.node("binary", left, p.binary(r))
		left.s = op
	}
}

func (p *parser) unary() *node {
	defer p.deeper()()
	if p.t.kind == sign || p.t.kind == word {
		switch op := p.t.s; op {
		case "!", "-", "+", "~", "typeof", "void", "delete":
			p.advance()
			n := p.node("unary", p.unary())
			n.s = op
			return n
		case "++", "--":
			p.advance()
			n := p.node("step", p.unary())
			if n.s = op[:1]; !target(n.kids[0]) {
				p.bad("nothing can be assigned to this")
			}
			return n
		}
	}
	n := p.postfix(p.primary(), true)
	if (p.is("++") || p.is("--")) && !p.t.fresh {
		if !target(n) {
			p.bad("nothing can be assigned to this")
		}
		n = p.node("step", n)
		n.s, n.n = p.t.s[:1], 1 // the value from before
		p.advance()
	}
	return n
}

func (p *parser) arguments() (all []*node) {
	p.want("(")
	heads := p.heads
	p.heads = 0
	for !p.got(")") {
		all = append(all, p.assignment())
		if !p.is(")") {
			p.want(",")
		}
	}
	p.heads = heads
	return all
}

func (p *parser) postfix(n *node, calls bool) *node {
	for {
		switch {
		case p.got("."):
			if p.t.kind != name && p.t.kind != word {
				p.bad("%.20q is no name", p.t.s)
			}
			n = p.node(".", n)
			n.s = p.t.s
			p.advance()
		case p.is("["):
			p.advance()
			heads := p.heads
			p.heads = 0
			n = p.node("[", n, p.expression())
			p.heads = heads
			p.want("]")
		case p.is("(") && calls:
			c := p.node("call", n)
			c.kids = append(c.kids, p.arguments()...)
			n = c
		default:
			return n
		}
	}
}

func (p *parser) primary() *node {
	t := p.t
	n := p.node("")
	switch t.kind {
	case name:
		n.op, n.s = "name", t.s
		p.advance()
		return n
	case number:
		n.op, n.n = "number", t.n
		p.advance()
		return n
	case text:
		n.op, n.s = "text", t.s
		p.advance()
		return n
	case word:
		switch t.s {
		case "true", "false", "null", "this":
			n.op = t.s
			p.advance()
			return n
		case "function":
			p.advance()
			called := ""
			if p.t.kind == name {
				called = p.name()
			}
			n.op, n.fn = "function", p.function(called)
			return n
		case "new":
			p.advance()
			n.op = "new"
			n.kids = []*node{p.postfix(p.primary(), false)}
			if p.is("(") {
				n.kids = append(n.kids, p.arguments()...)
			}
			return n
		}
	case sign:
		switch t.s {
		case "(":
			p.advance()
			heads := p.heads
			p.heads = 0
			n = p.expression()
			p.heads = heads
			p.want(")")
			return n
		case "/", "/=":
			r, err := p.lexer.pattern(t)
			if err != nil {
				panic(fail{err})
			}
			n.op, n.s = "pattern", r.s
			n.fn = &function{name: r.flags}
			p.advance()
			return n
		case "[":
			return p.list()
		case "{":
			return p.object()
		}
	}
	if t.kind == end {
		p.bad("the file ends in the middle")
	}
	p.bad("%.20q is not understood here", t.s)
	return nil
}

func (p *parser) list() *node {
	n := p.node("list")
	p.advance()
	heads := p.heads
	p.heads = 0
	for !p.got("]") {
		if p.is(",") {
			p.bad("a list has a gap")
		}
		n.kids = append(n.kids, p.assignment())
		if !p.is("]") {
			p.want(",")
		}
	}
	p.heads = heads
	return n
}

// object parses an object literal: kids are names and values by turns.
func (p *parser) object() *node {
	n := p.node("object")
	p.advance()
	heads := p.heads
	p.heads = 0
	for !p.got("}") {
		k := p.node("text")
		switch p.t.kind {
		case name, word, text:
			k.s = p.t.s
		case number:
			k.s = str(p.t.n)
		default:
			p.bad("%.20q is no name", p.t.s)
		}
		p.advance()
		p.want(":")
		n.kids = append(n.kids, k, p.assignment())
		if !p.is("}") {
			p.want(",")
		}
	}
	p.heads = heads
	return n
}
