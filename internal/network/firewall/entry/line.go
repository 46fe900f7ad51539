package entry

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"ringfence"
	"ringfence/internal/network/firewall"
)

const (
	maxText    = 64 << 20 // bytes of a configuration,
	maxLines   = 2_000_000
	maxLine    = 64 << 10 // bytes of a line
	maxUnknown = 1000
)

// Line is one line of a configuration.
type Line struct {
	Number int
	Text   string // without blanks at both ends
	Words  []string
	Indent bool // it began with a blank, as lines of a sub-mode do
}

// Lines calls f with each line that says something.
func Lines(b []byte, op string, f func(Line)) error {
	fault := func(text string) error {
		return &ringfence.Fault{Op: op, Kind: ringfence.KindInvalid, Text: text, Hint: "give the configuration as the device prints it"}
	}
	if len(b) > maxText {
		return fault("the configuration is larger than 64 MiB")
	}
	for n := 1; len(b) > 0; n++ {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		switch {
		case n > maxLines:
			return fault("the configuration has more than two million lines")
		case len(line) > maxLine:
			return fault(fmt.Sprintf("line %d is longer than 64 KiB", n))
		case bytes.IndexByte(line, 0) >= 0 || !utf8.Valid(line):
			return fault(fmt.Sprintf("line %d is no text", n))
		}
		text := strings.TrimSpace(string(line))
		if text != "" {
			f(Line{n, text, strings.Fields(text), line[0] == ' ' || line[0] == '\t'})
		}
	}
	return nil
}

// Name returns what a rule is called: its line and its text.
func (l Line) Name() string { return fmt.Sprintf("line %d: %.200s", l.Number, l.Text) }

// Strange keeps what was not understood, each once, and a thousand of them.
type Strange struct {
	list  []firewall.Unknown
	lines []int
	seen  map[firewall.Unknown]bool
}

// Add notes that something in a line was not understood. Line 0 is the whole.
func (s *Strange) Add(line int, format string, args ...any) {
	u := firewall.Unknown{Where: "the configuration", What: fmt.Sprintf(format, args...)}
	if line > 0 {
		u.Where = fmt.Sprintf("line %d", line)
	}
	switch {
	case s.seen[u] || len(s.list) > maxUnknown:
		return
	case len(s.list) == maxUnknown:
		u, line = firewall.Unknown{Where: "the configuration", What: "and more"}, 1<<30
	}
	if s.seen == nil {
		s.seen = map[firewall.Unknown]bool{}
	}
	s.seen[u] = true
	at := sort.SearchInts(s.lines, line+1)
	s.list, s.lines = slices.Insert(s.list, at, u), slices.Insert(s.lines, at, line)
}

// List returns what was noted, in the order of lines.
func (s *Strange) List() []firewall.Unknown { return s.list }

// Groups are named lists, which may have each other as members.
type Groups[T any] struct {
	what string
	all  map[string]*group[T]
}

type group[T any] struct {
	members []member[T]
	open    bool // it is being looked into
	done    bool
	out     []T
	err     error
}

type member[T any] struct {
	value T
	key   string // the text it was written as
	other string // the name of another group instead of a value
	line  int
}

// maxMembers bounds what a group with all its groups may have.
const maxMembers = 1 << 17

// NewGroups makes an empty collection; what is the word for one, such as "object-group".
func NewGroups[T any](what string) *Groups[T] {
	return &Groups[T]{what: what, all: map[string]*group[T]{}}
}

// Has reports whether there is a group.
func (g *Groups[T]) Has(name string) bool { return g.all[name] != nil }

// Define makes an empty group unless it is there.
func (g *Groups[T]) Define(name string) {
	if g.all[name] == nil {
		g.all[name] = &group[T]{}
	}
}

// Drop removes a group.
func (g *Groups[T]) Drop(name string) { delete(g.all, name) }

// Add puts a value into a group, under the text it was written as.
func (g *Groups[T]) Add(name string, line int, key string, v T) {
	g.Define(name)
	g.all[name].members = append(g.all[name].members, member[T]{value: v, key: key, line: line})
}

// Nest puts another group into a group.
func (g *Groups[T]) Nest(name string, line int, other string) {
	g.Define(name)
	g.all[name].members = append(g.all[name].members, member[T]{key: "group " + other, other: other, line: line})
}

// Remove takes out of a group what was written as key, and reports whether that was there.
func (g *Groups[T]) Remove(name, key string) bool {
	o := g.all[name]
	if o == nil {
		return false
	}
	for i, m := range o.members {
		if m.key == key {
			o.members = append(o.members[:i:i], o.members[i+1:]...)
			return true
		}
	}
	return false
}

// Names returns the names of all groups, in order.
func (g *Groups[T]) Names() []string { return slices.Sorted(maps.Keys(g.all)) }

// All returns what is in a group and in the groups in it.
func (g *Groups[T]) All(name string) ([]T, error) {
	o := g.all[name]
	switch {
	case o == nil:
		return nil, fmt.Errorf("there is no %s %.60q", g.what, name)
	case o.done:
		return o.out, o.err
	case o.open:
		return nil, fmt.Errorf("the %s %.60q contains itself", g.what, name)
	}
	o.open = true
	for _, m := range o.members {
		if m.other == "" {
			o.out = append(o.out, m.value)
			continue
		}
		inner, err := g.All(m.other)
		if err != nil && o.err == nil {
			o.err = fmt.Errorf("%w (line %d)", err, m.line)
		}
		if o.out = append(o.out, inner...); len(o.out) > maxMembers {
			o.out, o.err = nil, fmt.Errorf("the %s %.60q has more than %d members", g.what, name, maxMembers)
			break
		}
	}
	o.open, o.done = false, true
	return o.out, o.err
}
