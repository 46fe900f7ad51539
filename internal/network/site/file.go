package site

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"ringfence"
	"ringfence/internal/network/need"
)

// Site is what a site file says.
type Site struct {
	Set      string
	IPv6     bool
	Inside   string // interface towards the phones, or ""
	Outside  string // interface towards the service, or ""
	Networks map[string][]netip.Prefix
	Ports    map[string][]need.Ports // of rows whose ports somebody chooses
	Rows     []string                // the rows that are wanted; all if empty
	Without  []string                // the rows that are not
	Own      []Own
}

// Own is a row that the site needs for itself, e.g. for its administrators.
type Own struct {
	ID, Direction, Transport string
	From, To                 []string
	FromPorts, ToPorts       []need.Ports
}

// Any is what a file says for all addresses.
const Any = "any"

const (
	maxFile  = 1 << 20 // bytes
	maxNodes = 20000   // networks, and ports, of a file
)

// Parse reads the site file for a set, and says everything that is wrong with it.
func Parse(b []byte, name string, set *need.Set) (*Site, error) {
	fault := func(text string) error {
		return &ringfence.Fault{Op: "site.parse", Kind: ringfence.KindInvalid, Text: text, Hint: "docs/guides/firewalls.md shows a site file"}
	}
	if len(b) > maxFile {
		return nil, fault(name + " is larger than 1 MiB")
	}
	f, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, fault(name + ": " + strings.TrimSpace(err.Error()))
	}
	r := &reader{name: name, set: set, roles: map[string]bool{}, at: map[string]ast.Node{}}
	s := &Site{Networks: map[string][]netip.Prefix{}, Ports: map[string][]need.Ports{}}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return nil, fault(name + ": a site file is one document")
	}
	r.file(s, f.Docs[0].Body)
	r.together(s)
	if len(r.wrong) > 0 {
		slices.SortStableFunc(r.wrong, func(a, b mistake) int { return a.line - b.line })
		text := make([]string, len(r.wrong))
		for i, w := range r.wrong {
			text[i] = fmt.Sprintf("%s:%d: %s", name, w.line, w.text)
		}
		return nil, fault(strings.Join(text, "\n"))
	}
	return s, nil
}

type mistake struct {
	line int
	text string
}

type reader struct {
	name  string
	set   *need.Set
	wrong []mistake
	roles map[string]bool     // that rows of the site itself name
	at    map[string]ast.Node // where a thing stands
	nodes int
}

func (r *reader) bad(n ast.Node, format string, args ...any) {
	line := 1
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		line = n.GetToken().Position.Line
	}
	r.wrong = append(r.wrong, mistake{line, fmt.Sprintf(format, args...)})
}

// each calls f with the pairs of a mapping.
func (r *reader) each(n ast.Node, what string, f func(key string, at, value ast.Node)) {
	var pairs []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		pairs = m.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{m}
	default:
		r.bad(n, "%s: names and values are needed, as in `name: value`", what)
		return
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		key := scalar(p.Key)
		if seen[key] {
			r.bad(p.Key, "%s: %.60q comes twice", what, key)
			continue
		}
		seen[key] = true
		f(key, p.Key, p.Value)
	}
}

// scalar returns the text of a plain value, or "".
func scalar(n ast.Node) string {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.LiteralNode:
		return n.GetToken().Value
	}
	return ""
}

// list returns the values of a list, or the one value.
func (r *reader) list(n ast.Node, what string) (out []ast.Node) {
	out = []ast.Node{n}
	if s, ok := n.(*ast.SequenceNode); ok {
		out = s.Values
	}
	if r.nodes += len(out); r.nodes > maxNodes {
		r.bad(n, "%s: there are more than %d values in the file", what, maxNodes)
		return nil
	}
	for _, v := range out {
		if scalar(v) == "" {
			r.bad(v, "%s: a value, or a list of values, is needed", what)
			return nil
		}
	}
	return out
}

func (r *reader) words(n ast.Node, what string) (out []string) {
	for _, v := range r.list(n, what) {
		out = append(out, scalar(v))
	}
	return out
}

func (r *reader) ports(n ast.Node, what string) (out []need.Ports) {
	for _, v := range r.list(n, what) {
		p, err := need.ParsePorts(scalar(v))
		if err != nil {
			f, _ := err.(*ringfence.Fault)
			r.bad(v, "%s: %s; %s", what, f.Text, f.Hint)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (r *reader) networks(n ast.Node, role string) (out []netip.Prefix) {
	for _, v := range r.list(n, role) {
		text := scalar(v)
		if text == Any {
			out = append(out, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if a, err1 := netip.ParseAddr(text); err1 == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		switch {
		case err != nil:
			r.bad(v, "%s: %.60q is no network; write 192.0.2.0/24, 2001:db8::/64, one address, or any", role, text)
			continue
		case p.Addr().Is4In6():
			r.bad(v, "%s: %s is an IPv4 address written as one of IPv6; write it as IPv4", role, text)
			continue
		case p != p.Masked():
			r.bad(v, "%s: %s has bits of a host; the network is %s", role, text, p.Masked())
			continue
		}
		for _, q := range out {
			if p.Overlaps(q) {
				r.bad(v, "%s: %s and %s overlap", role, q, p)
			}
		}
		r.at[role+" "+p.String()] = v
		out = append(out, p)
	}
	return out
}

func (r *reader) file(s *Site, body ast.Node) {
	r.each(body, "the file", func(key string, at, v ast.Node) {
		switch key {
		case "set":
			if s.Set = scalar(v); s.Set != r.set.ID {
				r.bad(v, "the file is for the set %.60q, and the set is %s", s.Set, r.set.ID)
			}
		case "ipv6":
			b, ok := v.(*ast.BoolNode)
			if !ok {
				r.bad(v, "ipv6: true or false is needed")
			} else {
				s.IPv6 = b.Value
			}
		case "interfaces":
			r.each(v, key, func(side string, at, v ast.Node) {
				name := scalar(v)
				if name == "" || len(name) > 63 || strings.ContainsFunc(name, func(c rune) bool {
					return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-@:/", c))
				}) {
					r.bad(v, "interfaces: %.60q is no name of an interface", name)
				}
				switch side {
				case "inside":
					s.Inside = name
				case "outside":
					s.Outside = name
				default:
					r.bad(at, "interfaces: there are inside and outside, not %.60q", side)
				}
			})
		case "networks":
			r.each(v, key, func(role string, at, v ast.Node) {
				r.at["role "+role] = at
				s.Networks[role] = r.networks(v, role)
			})
		case "ports":
			r.each(v, key, func(id string, at, v ast.Node) {
				r.at["ports "+id] = at
				s.Ports[id] = r.ports(v, "ports of "+id)
			})
		case "rows", "without":
			ids := r.words(v, key)
			for _, id := range ids {
				if r.row(id) == nil {
					r.bad(v, "%s: there is no row %.60q in %s", key, id, r.set.ID)
				}
			}
			if key == "rows" {
				s.Rows = ids
			} else {
				s.Without = ids
			}
		case "own":
			r.each(v, key, func(id string, at, v ast.Node) { s.Own = append(s.Own, r.own(id, at, v)) })
		default:
			r.bad(at, "there is no %.60q here; there are set, ipv6, interfaces, networks, ports, rows, without and own", key)
		}
	})
	if s.Set == "" {
		r.bad(body, "the file does not say for which set it is; write `set: %s`", r.set.ID)
	}
}

func (r *reader) row(id string) *need.Need {
	for i := range r.set.Needs {
		if r.set.Needs[i].ID == id {
			return &r.set.Needs[i]
		}
	}
	return nil
}

func (r *reader) own(id string, at, v ast.Node) Own {
	o := Own{ID: id}
	what := "own row " + id
	if r.row(id) != nil {
		r.bad(at, "%s: a row of the set has that name", what)
	}
	if id == "" || len(id) > 60 || strings.ContainsFunc(id, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.')
	}) {
		r.bad(at, "own: %.60q is no name of a row: letters, digits, dash and dot", id)
	}
	r.each(v, what, func(key string, at, v ast.Node) {
		switch key {
		case "direction":
			if o.Direction = scalar(v); !slices.Contains([]string{"inbound", "outbound", "internal"}, o.Direction) {
				r.bad(v, "%s: the direction is inbound, outbound or internal", what)
			}
		case "transport":
			if o.Transport = scalar(v); !slices.Contains([]string{"tcp", "udp", "icmp"}, o.Transport) {
				r.bad(v, "%s: the transport is tcp, udp or icmp", what)
			}
		case "from":
			o.From = r.words(v, what)
		case "to":
			o.To = r.words(v, what)
		case "from-ports":
			o.FromPorts = r.ports(v, what)
		case "to-ports":
			o.ToPorts = r.ports(v, what)
		default:
			r.bad(at, "%s: there is no %.60q; there are direction, transport, from, from-ports, to and to-ports", what, key)
		}
	})
	for _, role := range append(slices.Clone(o.From), o.To...) {
		r.roles[role] = true
	}
	if o.Direction == "" || o.Transport == "" || len(o.From) == 0 || len(o.To) == 0 || o.Transport != "icmp" && len(o.ToPorts) == 0 {
		r.bad(at, "%s needs direction, transport, from, to and to-ports", what)
	}
	return o
}

// together looks at what parts of the file say of each other.
func (r *reader) together(s *Site) {
	for role, nets := range s.Networks {
		_, known := r.set.Roles[role]
		switch at := r.at["role "+role]; {
		case !known && !r.roles[role]:
			r.bad(at, "networks: there is no role %.60q in %s, and no row under own has it", role, r.set.ID)
		case len(r.set.NetworksOf(role)) > 0:
			r.bad(at, "networks: the set itself knows the addresses of %s", role)
		case len(nets) == 0:
			r.bad(at, "networks: %s has none", role)
		}
		for _, p := range nets {
			if at := r.at[role+" "+p.String()]; at != nil && p.Addr().Is6() && !s.IPv6 {
				r.bad(at, "%s: %s is a network of IPv6, and the file does not say `ipv6: true`", role, p)
			}
		}
	}
	for id := range s.Ports {
		switch n := r.row(id); {
		case n == nil:
			r.bad(r.at["ports "+id], "ports: there is no row %.60q in %s", id, r.set.ID)
		case len(n.ToPorts) > 0:
			r.bad(r.at["ports "+id], "ports: the set itself says the ports of %s", id)
		}
	}
	if (s.Inside == "") != (s.Outside == "") && r.set.ID != "self" {
		r.bad(nil, "interfaces: name both, inside and outside, or none")
	}
}
