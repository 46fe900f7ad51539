package profilerule

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// term is a condition: a comparison, or terms of which all or one must hold.
type term struct {
	op          string // lt … ne, and, or
	left, right operand
	terms       []*term
}

// operand is one side of a comparison.
type operand struct {
	text   string
	quoted bool
}

// condition reads comparisons that are joined by and, or by or; and binds.
func (p *parser) condition(depth int) (*term, error) {
	if depth > maxNesting {
		return nil, wrong("a condition is nested more than %d deep", maxNesting)
	}
	or := &term{op: "or"}
	for {
		and := &term{op: "and"}
		for {
			t, err := p.comparison(depth)
			if err != nil {
				return nil, err
			}
			and.terms = append(and.terms, t)
			if !p.keyword("and") {
				break
			}
		}
		or.terms = append(or.terms, and)
		if !p.keyword("or") {
			return or, nil
		}
	}
}

// keyword takes a word if it comes next.
func (p *parser) keyword(word string) bool {
	p.blanks()
	rest, ok := strings.CutPrefix(p.text[p.at:], word)
	if !ok || rest != "" && isLetter(rest[0]) {
		return false
	}
	p.at += len(word)
	return true
}

func (p *parser) comparison(depth int) (*term, error) {
	if p.terms++; p.terms > maxTerms {
		return nil, wrong("a rule has more than %d comparisons", maxTerms)
	}
	if p.blanks(); p.peek('(') {
		p.at++
		t, err := p.condition(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.peek(')') {
			return nil, p.unexpected(")")
		}
		p.at++
		return t, nil
	}
	t := &term{}
	var err error
	if t.left, err = p.operand(); err != nil {
		return nil, err
	}
	p.blanks()
	for _, o := range [...][2]string{{"<=", "le"}, {">=", "ge"}, {"!=", "ne"}, {"==", "eq"}, {"<", "lt"}, {">", "gt"}, {"=", "eq"}} {
		if strings.HasPrefix(p.text[p.at:], o[0]) {
			t.op = o[1]
			p.at += len(o[0])
			break
		}
	}
	for _, o := range [...]string{"lt", "le", "gt", "ge", "eq", "ne"} {
		if t.op == "" && p.keyword(o) {
			t.op = o
		}
	}
	if t.op == "" {
		return nil, p.unexpected("lt, le, gt, ge, eq or ne")
	}
	t.right, err = p.operand()
	return t, err
}

func (p *parser) operand() (operand, error) {
	p.blanks()
	if p.peek('"') || p.peek('\'') {
		s, err := p.quoted()
		return operand{s, true}, err
	}
	n := 0
	for p.at+n < len(p.text) {
		c := p.text[p.at+n]
		if c == '(' && n > 0 && p.text[p.at+n-1] == '$' { // $(NAME)
			end := strings.IndexByte(p.text[p.at+n:], ')')
			if end < 0 {
				break
			}
			n += end + 1
			continue
		}
		if strings.IndexByte(" \t\r\n()<>=!?|\"'", c) >= 0 {
			break
		}
		n++
	}
	if n == 0 {
		return operand{}, p.unexpected("a number, a version, a string or a macro")
	}
	s := p.text[p.at : p.at+n]
	p.at += n
	return operand{s, false}, nil
}

// holds reports whether the condition is true.
func (t *term) holds(value func(string) (string, bool)) (bool, error) {
	switch t.op {
	case "and", "or":
		for _, x := range t.terms {
			ok, err := x.holds(value)
			if err != nil || ok == (t.op == "or") {
				return ok, err
			}
		}
		return t.op == "and", nil
	}
	left, missing := Expand(t.left.text, value)
	right, more := Expand(t.right.text, value)
	if missing = append(missing, more...); len(missing) > 0 {
		return false, wrong("the condition asks for $%s, which nobody knows", missing[0])
	}
	if t.left.quoted || t.right.quoted {
		switch t.op {
		case "eq":
			return left == right, nil
		case "ne":
			return left != right, nil
		}
	}
	a, okA := version(left)
	b, okB := version(right)
	if !okA || !okB {
		switch t.op {
		case "eq":
			return left == right, nil
		case "ne":
			return left != right, nil
		}
		return false, wrong("%.40q and %.40q cannot be ordered: numbers and versions can", left, right)
	}
	order := compareVersions(a, b)
	switch t.op {
	case "lt":
		return order < 0, nil
	case "le":
		return order <= 0, nil
	case "gt":
		return order > 0, nil
	case "ge":
		return order >= 0, nil
	case "ne":
		return order != 0, nil
	}
	return order == 0, nil
}

// piece is a number of a version with the letters behind it, as 2b.
type piece struct {
	n       uint64
	letters string
}

// version reads a number or a version: 11.3.7, 7.5.2b, 11-3-7MPP0001, and also -1.
func version(s string) ([]piece, bool) {
	sign, s := strings.HasPrefix(s, "-"), strings.TrimPrefix(s, "-")
	var out []piece
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == '.' || r == '-' }) {
		digits := 0
		for digits < len(w) && w[digits] >= '0' && w[digits] <= '9' {
			digits++
		}
		n, err := strconv.ParseUint(w[:digits], 10, 63)
		if err != nil {
			if len(out) > 0 && digits == 0 { // 7.6.2.a
				out = append(out, piece{0, w})
				continue
			}
			return nil, false
		}
		out = append(out, piece{n, w[digits:]})
	}
	if sign {
		if len(out) != 1 || out[0].letters != "" {
			return nil, false
		}
		out = append([]piece{{0, ""}}, piece{^out[0].n, "-"}) // below every number, greater ones first
	}
	return out, len(out) > 0
}

func compareVersions(a, b []piece) int {
	negative := func(v []piece) bool { return len(v) == 2 && v[1].letters == "-" }
	switch na, nb := negative(a), negative(b); {
	case na != nb && na:
		return -1
	case na != nb:
		return 1
	}
	for i := range max(len(a), len(b)) {
		var x, y piece
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if c := cmp.Or(cmp.Compare(x.n, y.n), cmp.Compare(x.letters, y.letters)); c != 0 {
			return c
		}
	}
	return 0
}

// Names returns the macros that a rule or a text asks for, outside and inside brackets.
func (r Rule) Names() (outside, inside []string) {
	none := func(string) (string, bool) { return "", false }
	for _, a := range r.Alternatives {
		_, out := Expand(a.URL, none)
		outside = append(outside, out...)
		if a.condition != nil {
			outside = append(outside, a.condition.names()...)
		}
		for _, text := range []string{a.Key, a.UID, a.PWD} {
			_, in := Expand(text, none)
			inside = append(inside, in...)
		}
	}
	slices.Sort(outside)
	slices.Sort(inside)
	return slices.Compact(outside), slices.Compact(inside)
}

func (t *term) names() (out []string) {
	for _, x := range t.terms {
		out = append(out, x.names()...)
	}
	none := func(string) (string, bool) { return "", false }
	for _, o := range []operand{t.left, t.right} {
		_, names := Expand(o.text, none)
		out = append(out, names...)
	}
	return out
}
