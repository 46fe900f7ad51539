package profilerule

import (
	"fmt"
	"strings"

	"ringfence"
)

// Limits of a rule.
const (
	MaxSize         = 4096 // bytes
	maxAlternatives = 32
	maxTerms        = 64 // of a condition
	maxNesting      = 8
)

// Rule is a profile rule.
type Rule struct{ Alternatives []Alternative }

// Alternative is one way that a rule can go, with its macros as they were written.
type Alternative struct {
	If            string // the condition, as it was written; empty: always
	Key, UID, PWD string
	URL           string
	condition     *term
}

// Target is what a rule comes to.
type Target struct {
	URL           string
	Key, UID, PWD string
	If            string   // the condition that held
	Unknown       []string // names of macros that nobody knows; they stand as they were
}

// Parse reads a rule. An empty one has no alternatives.
func Parse(text string) (Rule, error) {
	if len(text) > MaxSize {
		return Rule{}, wrong("a rule has %d bytes at most", MaxSize)
	}
	p := &parser{text: text}
	var r Rule
	for p.blanks(); !p.done(); p.blanks() {
		if len(r.Alternatives) == maxAlternatives {
			return r, wrong("a rule has %d alternatives at most", maxAlternatives)
		}
		a, err := p.alternative()
		if err != nil {
			return r, err
		}
		r.Alternatives = append(r.Alternatives, a)
		if p.blanks(); p.done() {
			break
		}
		p.at++ // an alternative ends at "|" or at the end
		if p.blanks(); p.done() {
			return r, wrong("nothing stands behind the last |")
		}
	}
	for i, a := range r.Alternatives {
		if a.condition == nil && i < len(r.Alternatives)-1 {
			return r, wrong("alternative %d has no condition, so those behind it are never taken", i+1)
		}
	}
	return r, nil
}

// ParseCondition reads a condition that stands alone, as in Resync_Trigger_1, and returns what asks whether it holds.
func ParseCondition(text string) (func(value func(string) (string, bool)) (bool, error), error) {
	if len(text) > MaxSize {
		return nil, wrong("a condition has %d bytes at most", MaxSize)
	}
	p := &parser{text: text}
	t, err := p.condition(0)
	if err == nil && !p.done() {
		err = p.unexpected("and, or, or the end")
	}
	if err != nil {
		return nil, err
	}
	return t.holds, nil
}

// Choose takes the first alternative whose condition holds, and expands its macros. secret knows more names than value: it is asked within
// the brackets. It returns false if there is none.
func (r Rule) Choose(value, secret func(string) (string, bool)) (Target, bool, error) {
	for _, a := range r.Alternatives {
		if a.condition != nil {
			ok, err := a.condition.holds(value)
			if err != nil {
				return Target{}, false, err
			}
			if !ok {
				continue
			}
		}
		t := Target{If: a.If}
		for _, x := range []struct {
			to   *string
			text string
			with func(string) (string, bool)
		}{{&t.URL, a.URL, value}, {&t.Key, a.Key, secret}, {&t.UID, a.UID, secret}, {&t.PWD, a.PWD, secret}} {
			var unknown []string
			*x.to, unknown = Expand(x.text, x.with)
			t.Unknown = append(t.Unknown, unknown...)
		}
		if strings.ContainsAny(t.URL, " \t\r\n\x00") {
			return t, false, wrong("the address has a blank in it, once its macros are expanded: %q", t.URL)
		}
		return t, true, nil
	}
	return Target{}, false, nil
}

func wrong(format string, args ...any) error {
	return &ringfence.Fault{Op: "profilerule.parse", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...),
		Hint: `a rule is (CONDITION)? [--key "KEY" --uid "USER" --pwd "PASSWORD"] URL, and alternatives stand behind |`}
}

type parser struct {
	text  string
	at    int
	terms int
}

func (p *parser) done() bool { return p.at >= len(p.text) }

func (p *parser) blanks() {
	for !p.done() && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// peek reports whether a character comes next.
func (p *parser) peek(c byte) bool { return !p.done() && p.text[p.at] == c }

func (p *parser) unexpected(want string) error {
	if p.done() {
		return wrong("the rule ends where %s is expected", want)
	}
	return wrong("at %.20q: %s is expected", p.text[p.at:], want)
}

func (p *parser) alternative() (Alternative, error) {
	var a Alternative
	var err error
	if p.peek('(') {
		from := p.at + 1
		p.at++
		if a.condition, err = p.condition(0); err != nil {
			return a, err
		}
		if !p.peek(')') {
			return a, p.unexpected(")")
		}
		a.If = strings.TrimSpace(p.text[from:p.at])
		p.at++
		if p.blanks(); !p.peek('?') {
			return a, p.unexpected("? behind a condition")
		}
		p.at++
		p.blanks()
	}
	if p.peek('[') {
		p.at++
		if err := p.options(&a); err != nil {
			return a, err
		}
		p.blanks()
	}
	end := strings.IndexAny(p.text[p.at:], "|")
	if end < 0 {
		end = len(p.text) - p.at
	}
	a.URL = strings.TrimSpace(p.text[p.at : p.at+end])
	p.at += end
	switch {
	case a.URL == "":
		return a, wrong("an alternative has no address")
	case strings.ContainsAny(a.URL, " \t\r\n\"'[]"):
		return a, wrong("%.60q is no address", a.URL)
	}
	return a, nil
}

// options reads what stands in brackets, behind the first.
func (p *parser) options(a *Alternative) error {
	for {
		if p.blanks(); p.peek(']') {
			p.at++
			return nil
		}
		name, err := p.word("an option or ]")
		if err != nil {
			return err
		}
		to := map[string]*string{"--key": &a.Key, "--uid": &a.UID, "--pwd": &a.PWD}[name]
		if to == nil {
			return wrong("%.30q is no option: there are --key, --uid and --pwd", name)
		}
		if *to != "" {
			return wrong("%s is there twice", name)
		}
		p.blanks()
		if *to, err = p.word("a value of " + name); err != nil {
			return err
		}
		if *to == "" {
			return wrong("%s has no value", name)
		}
	}
}

// word reads a word, or a string in quotation marks.
func (p *parser) word(want string) (string, error) {
	if p.peek('"') || p.peek('\'') {
		return p.quoted()
	}
	n := 0
	for p.at+n < len(p.text) && strings.IndexByte(" \t\r\n]|", p.text[p.at+n]) < 0 {
		n++
	}
	if n == 0 {
		return "", p.unexpected(want)
	}
	w := p.text[p.at : p.at+n]
	p.at += n
	return w, nil
}

func (p *parser) quoted() (string, error) {
	mark := p.text[p.at]
	end := strings.IndexByte(p.text[p.at+1:], mark)
	if end < 0 {
		return "", wrong("the string that begins at %.20q has no end", p.text[p.at:])
	}
	s := p.text[p.at+1 : p.at+1+end]
	p.at += end + 2
	return s, nil
}
