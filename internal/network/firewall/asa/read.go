package asa

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
)

const op = "asa.parse"

// Parse reads a configuration, or commands in the order in which they are given; what a later one takes back is gone. Names of interfaces (nameif) get numbers of n.
func Parse(b []byte, n *box.Interfaces) (*firewall.Ruleset, error) {
	r, err := read(b, n)
	if err != nil {
		return nil, err
	}
	return r.ruleset()
}

// ace is one line of an access list.
type ace struct {
	line entry.Line
	text string // as it is written behind the name of its list
}

type list struct {
	name string
	aces []ace
}

type face struct {
	name   string
	level  int
	line   int
	closed bool
	six    bool // it has addresses of IPv6
}

type reader struct {
	interfaces *box.Interfaces
	strange    entry.Strange
	names      map[string]string // name ADDRESS WORD
	networks   *entry.Groups[entry.Ends]
	services   *entry.Groups[entry.Service]
	protocols  *entry.Groups[entry.Service]
	types      *entry.Groups[entry.Service]
	kinds      map[string]string // of an object-group service: tcp, udp, tcp-udp or ""
	lists      map[string]*list
	faces      map[string]*face // by nameif
	current    *face
	in, out    map[string]entry.Line // access-group by interface
	global     *entry.Line
	intra      bool
	inter      bool
	icmp       bool
	mode       []string // words of the line whose sub-mode this is
	real       box.List
	// what became of it
	of [][]place // for each chain, where its rules stand
}

type place struct {
	list *list
	at   int
}

func read(b []byte, n *box.Interfaces) (*reader, error) {
	r := &reader{interfaces: n, names: map[string]string{}, networks: entry.NewGroups[entry.Ends]("object or object-group network"), services: entry.NewGroups[entry.Service]("object or object-group service"),
		protocols: entry.NewGroups[entry.Service]("object-group protocol"), types: entry.NewGroups[entry.Service]("object-group icmp-type"), kinds: map[string]string{}, lists: map[string]*list{},
		faces: map[string]*face{}, in: map[string]entry.Line{}, out: map[string]entry.Line{}}
	for _, b := range box.Real() {
		if b[box.Hook] == box.One(box.Forward) {
			r.real = append(r.real, b)
		}
	}
	err := entry.Lines(b, op, r.line)
	return r, err
}

func (r *reader) line(l entry.Line) {
	if l.Text[0] == '!' || l.Text[0] == ':' {
		return
	}
	if len(r.mode) > 0 && r.inMode(l) {
		return
	}
	r.mode = nil
	r.command(l)
}

// command reads what stands at the left edge.
func (r *reader) command(l entry.Line) {
	w := l.Words
	no := w[0] == "no"
	if no {
		if w = w[1:]; len(w) == 0 {
			return
		}
	}
	switch w[0] {
	case "interface":
		r.current, r.mode = &face{level: -1, line: l.Number}, w
	case "object", "object-group":
		r.object(l, w, no)
	case "access-list":
		r.accessList(l, w, no)
	case "access-group":
		r.accessGroup(l, w, no)
	case "same-security-traffic":
		if len(w) == 3 && w[1] == "permit" {
			switch w[2] {
			case "intra-interface":
				r.intra = !no
				return
			case "inter-interface":
				r.inter = !no
				return
			}
		}
		r.strange.Add(l.Number, "%.80s", l.Text)
	case "name":
		if len(w) >= 3 && !no {
			r.names[w[2]] = w[1]
		}
	case "policy-map", "class-map":
		r.mode = w
	case "nat":
		r.nat(l, w, no)
	case "static", "alias", "established", "conduit", "outbound", "ipv6":
		if w[0] == "ipv6" && (len(w) < 2 || w[1] != "access-list") {
			return
		}
		r.strange.Add(l.Number, "the command %.20s, which decides about packets in another way", w[0])
	case "firewall":
		if len(w) > 1 && w[1] == "transparent" {
			r.strange.Add(l.Number, "transparent mode")
		}
	case "clear":
		if len(w) > 2 && w[1] == "configure" {
			r.strange.Add(l.Number, "%.80s", l.Text)
		}
	}
}

// nat knows that the source may change, since lists have real addresses, and that a destination that changes is another packet.
func (r *reader) nat(l entry.Line, w []string, no bool) {
	if no {
		r.strange.Add(l.Number, "a translation is taken back")
		return
	}
	s := slices.Index(w, "static")
	d := slices.Index(w, "destination")
	same := func(at int) bool { return at+2 < len(w) && w[at+1] == w[at+2] }
	if s >= 0 && s != d+1 && !same(s) || d >= 0 && !same(d+1) {
		r.strange.Add(l.Number, "a translation of destinations: a packet from outside has another address than the lists say")
	}
}

// inMode reads a line of a sub-mode, and reports whether it is one.
func (r *reader) inMode(l entry.Line) bool {
	w := l.Words
	no := w[0] == "no"
	if no && len(w) > 1 {
		w = w[1:]
	}
	switch r.mode[0] {
	case "interface":
		switch w[0] {
		case "nameif":
			if no {
				break
			}
			if len(w) < 2 {
				r.strange.Add(l.Number, "nameif without a name")
				break
			}
			r.current.name = w[1]
			if r.current.level < 0 { // as the device does
				r.current.level = 0
				if w[1] == "inside" {
					r.current.level = 100
				}
			}
			r.faces[w[1]] = r.current
		case "security-level":
			if len(w) > 1 && !no {
				n, err := entry.Number(w[1], 100)
				if err != nil {
					r.strange.Add(l.Number, "%s", err)
				}
				r.current.level = n
			}
		case "shutdown":
			r.current.closed = !no
		case "ipv6":
			if len(w) > 1 && (w[1] == "address" || w[1] == "enable") {
				r.current.six = !no
			}
		default:
			return l.Indent
		}
		return true
	case "object", "object-group":
		return r.member(l, w, no)
	case "policy-map":
		if w[0] == "inspect" {
			if len(w) > 1 && w[1] == "icmp" && (len(w) == 2 || w[2] != "error") {
				r.icmp = !no
			}
			return true
		}
		return l.Indent || w[0] == "class" || w[0] == "parameters"
	}
	return l.Indent
}

func (r *reader) object(l entry.Line, w []string, no bool) {
	if len(w) < 3 {
		r.strange.Add(l.Number, "an object without a name")
		return
	}
	kind, name := w[1], w[2]
	drop := func(d interface{ Drop(string) }) {
		if no {
			d.Drop(name)
		}
	}
	switch {
	case kind == "network":
		if drop(r.networks); !no {
			r.networks.Define(name)
		}
	case kind == "service":
		if drop(r.services); !no {
			r.services.Define(name)
			if len(w) > 3 {
				r.kinds[name] = w[3]
			}
		}
	case kind == "protocol" && w[0] == "object-group":
		if drop(r.protocols); !no {
			r.protocols.Define(name)
		}
	case kind == "icmp-type" && w[0] == "object-group":
		if drop(r.types); !no {
			r.types.Define(name)
		}
	default:
		if no {
			return
		}
		// Used in a list, it is not found, and named there.
	}
	if !no {
		r.mode = w
	}
}

// member reads a line of an object or a group.
func (r *reader) member(l entry.Line, w []string, no bool) bool {
	kind, name := r.mode[1], r.mode[2]
	key := strings.Join(w, " ")
	bad := func(err error) bool {
		r.strange.Add(l.Number, "%s", err)
		return true
	}
	known := slices.Contains([]string{"host", "subnet", "range", "fqdn", "network-object", "group-object", "service", "service-object", "port-object", "protocol-object", "icmp-object", "description", "nat"}, w[0])
	if !known {
		if l.Indent {
			r.strange.Add(l.Number, "%.80s", l.Text)
		}
		return l.Indent
	}
	if w[0] == "description" {
		return true
	}
	if w[0] == "nat" {
		if !l.Indent { // the command of that name has its interfaces in front as well; in a sub-mode it is indented
			return false
		}
		r.nat(l, w, no)
		return true
	}
	if no {
		removed := r.networks.Remove(name, key) || r.services.Remove(name, key) || r.protocols.Remove(name, key) || r.types.Remove(name, key)
		if w[0] == "group-object" && len(w) > 1 {
			key = "group " + w[1]
			removed = r.networks.Remove(name, key) || r.services.Remove(name, key) || r.protocols.Remove(name, key) || r.types.Remove(name, key)
		}
		if !removed {
			r.strange.Add(l.Number, "%.40s does not have what is taken out of it", name)
		}
		return true
	}
	nested := ""
	switch {
	case w[0] == "group-object" && len(w) == 2:
		nested = w[1]
	case w[0] == "network-object" && len(w) == 3 && w[1] == "object", w[0] == "service-object" && len(w) == 3 && w[1] == "object":
		nested = w[2]
	}
	switch kind {
	case "network":
		if nested != "" {
			r.networks.Nest(name, l.Number, nested)
			return true
		}
		ends, err := r.networkMember(w)
		if err != nil {
			return bad(err)
		}
		if r.mode[0] == "object" { // an object has one value: the last
			r.networks.Drop(name)
		}
		r.networks.Add(name, l.Number, key, ends)
	case "service":
		if nested != "" {
			r.services.Nest(name, l.Number, nested)
			return true
		}
		services, err := r.serviceMember(w, r.kinds[name])
		if err != nil {
			return bad(err)
		}
		if r.mode[0] == "object" {
			r.services.Drop(name)
		}
		for _, s := range services {
			r.services.Add(name, l.Number, key, s)
		}
	case "protocol", "icmp-type":
		groups := map[string]*entry.Groups[entry.Service]{"protocol": r.protocols, "icmp-type": r.types}[kind]
		if nested != "" {
			groups.Nest(name, l.Number, nested)
			return true
		}
		if len(w) != 2 {
			return bad(fmt.Errorf("%.80s", l.Text))
		}
		s, err := protocolOf(w[1])
		if kind == "icmp-type" {
			s, err = typeOf(w[1], box.IPv4)
		}
		if err != nil {
			return bad(err)
		}
		groups.Add(name, l.Number, key, s)
	}
	return true
}

func (r *reader) accessGroup(l entry.Line, w []string, no bool) {
	switch {
	case len(w) >= 3 && w[2] == "global":
		if r.global = &l; no {
			r.global = nil
		}
	case len(w) == 5 && w[3] == "interface" && (w[2] == "in" || w[2] == "out"):
		groups := map[string]map[string]entry.Line{"in": r.in, "out": r.out}[w[2]]
		if no {
			delete(groups, w[4])
			return
		}
		groups[w[4]] = entry.Line{Number: l.Number, Text: l.Text, Words: w}
	case len(w) > 5 && w[len(w)-1] == "control-plane": // of what is for the device itself
	default:
		r.strange.Add(l.Number, "%.80s", l.Text)
	}
}

// accessList reads a line of an access list: to add it, at its place if it says one, or to take it out.
func (r *reader) accessList(l entry.Line, w []string, no bool) {
	if len(w) < 3 {
		if len(w) == 2 && no {
			delete(r.lists, w[1])
		}
		return
	}
	a := r.lists[w[1]]
	if a == nil {
		a = &list{name: w[1]}
		r.lists[w[1]] = a
	}
	rest, at := w[2:], len(a.aces)
	if rest[0] == "line" && len(rest) > 2 {
		n, err := entry.Number(rest[1], 1<<24)
		if err != nil || n == 0 {
			r.strange.Add(l.Number, "the line number of %.60s", l.Text)
			return
		}
		at, rest = min(n-1, at), rest[2:]
	}
	if i := slices.Index(rest, "(hitcnt="); i > 0 { // of show access-list
		rest = rest[:i]
	}
	text := strings.Join(rest, " ")
	if no {
		i := slices.IndexFunc(a.aces, func(x ace) bool { return x.text == text })
		if i < 0 {
			r.strange.Add(l.Number, "%.60s has no such line to take out", a.name)
			return
		}
		a.aces = slices.Delete(a.aces, i, i+1)
		return
	}
	if len(a.aces) >= maxACEs {
		r.strange.Add(l.Number, "%.60s has more than %d lines", a.name, maxACEs)
		return
	}
	x := ace{line: entry.Line{Number: l.Number, Text: l.Text, Words: rest}, text: text}
	if at == len(a.aces) {
		a.aces = append(a.aces, x)
		return
	}
	a.aces = slices.Insert(a.aces, at, x)
}

// maxACEs bounds the lines of one list.
const maxACEs = 1 << 18
