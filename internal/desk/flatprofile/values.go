package flatprofile

import (
	"fmt"
	"slices"
	"strings"

	"ringfence"
)

// Value is a parameter in force.
type Value struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	UA     string `json:"ua,omitempty"`
	From   string `json:"from"` // a file, a rule; "default"
	Line   int    `json:"line,omitempty"`
	Secret bool   `json:"secret,omitempty"`
}

// Default is Value.From of what nobody set.
const Default = "default"

// Set holds the parameters in force. Later files and later elements of a file win.
type Set struct {
	catalogue *Catalogue
	values    map[string]Value
}

// NewSet returns the parameters of a phone that nobody configured.
func NewSet(c *Catalogue) *Set { return &Set{catalogue: c, values: map[string]Value{}} }

// Catalogue returns the catalogue that tells of defaults.
func (s *Set) Catalogue() *Catalogue { return s.catalogue }

// Add puts a file into force; from says where it came from. A missing ua leaves the access as it was.
func (s *Set) Add(f *File, from string) {
	for _, e := range f.Elements {
		if e.Nested {
			continue
		}
		p, _, _ := s.catalogue.Find(e.Name)
		v := Value{Name: e.Name, Value: e.Value, UA: e.UA, From: from, Line: e.Line, Secret: p.Secret}
		if v.UA == "" {
			v.UA = s.values[e.Name].UA
		}
		s.values[e.Name] = v
	}
}

// Put sets one parameter.
func (s *Set) Put(v Value) {
	if p, _, ok := s.catalogue.Find(v.Name); ok {
		v.Secret = v.Secret || p.Secret
	}
	s.values[v.Name] = v
}

// Clone returns a copy that can be changed on its own.
func (s *Set) Clone() *Set {
	out := NewSet(s.catalogue)
	for name, v := range s.values {
		out.values[name] = v
	}
	return out
}

// Get returns a parameter: as it was set, or its default. A name that was given to a parameter before counts if the present one was not set.
func (s *Set) Get(name string) Value {
	if v, ok := s.values[name]; ok {
		return v
	}
	for _, before := range s.catalogue.before(name) {
		if v, ok := s.values[before]; ok {
			return v
		}
	}
	p, _, _ := s.catalogue.Find(name)
	return Value{Name: name, Value: p.Default, UA: p.UA, From: Default, Secret: p.Secret}
}

// Text returns the value of a parameter.
func (s *Set) Text(name string) string { return s.Get(name).Value }

// Yes reports whether a parameter is Yes; anything but Yes and No counts as its default.
func (s *Set) Yes(name string) bool {
	switch v := s.Get(name).Value; v {
	case "Yes", "No":
		return v == "Yes"
	}
	p, _, _ := s.catalogue.Find(name)
	return p.Default == "Yes"
}

// Changed returns the parameters that were set, by name.
func (s *Set) Changed() []Value {
	out := make([]Value, 0, len(s.values))
	for _, v := range s.values {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Value) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// RestrictedDomains is the parameter that lists the only servers that a phone has to do with.
const RestrictedDomains = "Restricted_Access_Domains"

// Permit refuses a server that Restricted_Access_Domains does not list, and names the place of the rule. The list is one of whole names: a name below
// one that is listed is another server.
func (s *Set) Permit(host string) error {
	v := s.Get(RestrictedDomains)
	if v.Value == "" {
		return nil
	}
	plain := func(h string) string { return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(h), ".")) }
	for _, w := range strings.Split(v.Value, ",") {
		if plain(w) != "" && plain(w) == plain(host) {
			return nil
		}
	}
	return &ringfence.Fault{Op: "flatprofile.permit", Kind: ringfence.KindDenied, Text: fmt.Sprintf("%s is refused: %s (%s) lists %s", host, RestrictedDomains, v.Where(), v.Value), Hint: "add its whole name to the list"}
}

// Where says where a value came from, such as cfg.xml:12.
func (v Value) Where() string {
	if v.Line > 0 {
		return fmt.Sprintf("%s:%d", v.From, v.Line)
	}
	return v.From
}
