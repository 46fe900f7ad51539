package iosacl

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
)

const op = "iosacl.parse"

// Parse reads a configuration, or commands in the order in which they are given; what a later one takes back is gone. Names of interfaces get numbers of n, as the configuration writes them.
//
// Judged is what the router forwards. Neighbour discovery is never forwarded (RFC 4861 section 7.1), so what IPv6 lists let through of it by themselves is not looked at. IPv6 is routed if the configuration says anything of it.
func Parse(b []byte, n *box.Interfaces) (*firewall.Ruleset, error) {
	r, err := read(b, n)
	if err != nil {
		return nil, err
	}
	return r.ruleset()
}

// ace is one line of an access list.
type ace struct {
	seq  int
	line entry.Line // its words are those behind the sequence number
	text string
}

type list struct {
	name          string
	six, standard bool
	aces          []ace
}

// face is an interface.
type face struct {
	name              string
	line              int
	closed            bool
	noIPv4, six       bool
	zone              string
	bound             [2][2]*entry.Line // by family and side: the access list
	natInside, natOut bool
}

// class is a class map of zones.
type class struct {
	line    int
	all     bool // match-all
	matches []match
}

type match struct {
	line              int
	list              string
	protocol, another string // a protocol, or another class
}

// policy is a policy map of zones.
type policy struct {
	line    int
	classes []action
}

type action struct {
	class string // "" is class-default
	line  int
	do    string // inspect, pass or drop
}

type pair struct {
	name, from, to, policy string
	line                   int
}

type reader struct {
	interfaces *box.Interfaces
	strange    entry.Strange
	networks   *entry.Groups[entry.Ends]
	services   *entry.Groups[entry.Service]
	lists      [2]map[string]*list // by family
	faces      map[string]*face
	classes    map[string]*class
	policies   map[string]*policy
	zones      map[string]bool
	pairs      map[string]*pair
	six        bool // IPv6 is routed,
	addressed  bool // and interfaces say by themselves whether they have it
	nats       []int
	real       box.List
	boxes      int
	// The sub-mode that lines are in.
	mode    string
	list    *list
	group   string
	face    *face
	class   *class
	policy  *policy
	action  int // of the policy
	pair    *pair
	reflect map[string][]entry.Entry
	of      [][]place // for each chain, where its rules stand
}

type place struct {
	list *list
	at   int
}

func read(b []byte, n *box.Interfaces) (*reader, error) {
	r := &reader{interfaces: n, networks: entry.NewGroups[entry.Ends]("object-group network"), services: entry.NewGroups[entry.Service]("object-group service"), lists: [2]map[string]*list{{}, {}}, faces: map[string]*face{},
		classes: map[string]*class{}, policies: map[string]*policy{}, zones: map[string]bool{}, pairs: map[string]*pair{}, reflect: map[string][]entry.Entry{}}
	for _, b := range box.Real() {
		if b[box.Hook] == box.One(box.Forward) {
			r.real = append(r.real, b)
		}
	}
	err := entry.Lines(b, op, func(l entry.Line) {
		if l.Text[0] == '!' {
			return
		}
		w := l.Words
		no := w[0] == "no"
		if no {
			if w = w[1:]; len(w) == 0 {
				return
			}
		}
		if r.mode != "" && r.inMode(l, w, no) {
			return
		}
		r.mode = ""
		r.command(l, w, no)
	})
	return r, err
}

// has reports whether words begin in a way.
func has(w []string, start ...string) bool {
	return len(w) >= len(start) && slices.Equal(w[:len(start)], start)
}

func (r *reader) command(l entry.Line, w []string, no bool) {
	switch {
	case has(w, "ip", "access-list") && len(w) > 3 && (w[2] == "extended" || w[2] == "standard"):
		r.open(w[3], false, w[2] == "standard", no)
	case has(w, "ip", "access-list", "resequence") && len(w) > 3:
		r.resequence(l, w[3:])
	case has(w, "ipv6", "access-list") && len(w) > 2:
		r.six = true
		r.open(w[2], true, false, no)
	case w[0] == "access-list" && len(w) > 1:
		r.numbered(l, w, no)
	case w[0] == "object-group" && len(w) > 2:
		groups := map[string]interface {
			Define(string)
			Drop(string)
		}{"network": r.networks, "service": r.services}[w[1]]
		switch {
		case groups == nil:
		case no:
			groups.Drop(w[2])
		default:
			groups.Define(w[2])
			r.mode, r.group = "object-group "+w[1], w[2]
		}
	case w[0] == "interface" && len(w) > 1:
		name := strings.Join(w[1:], "")
		if i := slices.Index(w, "point-to-point"); i > 1 {
			name = strings.Join(w[1:i], "")
		}
		if no {
			delete(r.faces, name)
			return
		}
		if r.face = r.faces[name]; r.face == nil {
			r.face = &face{name: name, line: l.Number}
			r.faces[name] = r.face
		}
		r.mode = "interface"
	case has(w, "zone", "security") && len(w) > 2:
		r.zones[w[2]] = !no
		r.mode = "other"
	case has(w, "zone-pair", "security") && len(w) == 7 && w[3] == "source" && w[5] == "destination":
		if no {
			delete(r.pairs, w[2])
			return
		}
		r.pair = &pair{name: w[2], from: w[4], to: w[6], line: l.Number}
		r.pairs[w[2]] = r.pair
		r.mode = "pair"
	case has(w, "class-map", "type", "inspect"):
		rest := w[3:]
		c := &class{line: l.Number, all: true}
		if len(rest) > 1 && (rest[0] == "match-any" || rest[0] == "match-all") {
			c.all, rest = rest[0] == "match-all", rest[1:]
		}
		if len(rest) != 1 {
			r.strange.Add(l.Number, "%.80s", l.Text)
			return
		}
		if old := r.classes[rest[0]]; old != nil && !no {
			c = old
		}
		if r.classes[rest[0]] = c; no {
			delete(r.classes, rest[0])
			return
		}
		r.mode, r.class = "class", c
	case has(w, "policy-map", "type", "inspect") && len(w) == 4:
		p := r.policies[w[3]]
		if p == nil {
			p = &policy{line: l.Number}
		}
		if r.policies[w[3]] = p; no {
			delete(r.policies, w[3])
			return
		}
		r.mode, r.policy, r.action = "policy", p, -1
	case has(w, "ip", "nat") && !no:
		r.nat(l, w)
	case has(w, "ipv6", "unicast-routing"):
		r.six = !no
	case has(w, "class-map"), has(w, "policy-map"), has(w, "parameter-map"), has(w, "router"), has(w, "line"), has(w, "control-plane"), has(w, "vrf"), has(w, "crypto"):
		r.mode = "other"
	}
}

func (r *reader) nat(l entry.Line, w []string) {
	switch {
	case has(w, "ip", "nat", "outside", "source"), slices.Contains(w, "static"), slices.Contains(w, "destination"):
		r.strange.Add(l.Number, "a translation of destinations: lists see the address before it or after it, as they stand")
	case has(w, "ip", "nat", "inside", "source"):
		r.nats = append(r.nats, l.Number)
	}
}

// open enters an access list, or removes it.
func (r *reader) open(name string, six, standard, no bool) {
	lists := r.lists[0]
	if six {
		lists = r.lists[1]
	}
	if no {
		delete(lists, name)
		return
	}
	if r.list = lists[name]; r.list == nil {
		r.list = &list{name: name, six: six, standard: standard}
		lists[name] = r.list
	}
	r.mode = "access-list"
}

// numbered reads a line of a list that has a number instead of a name.
func (r *reader) numbered(l entry.Line, w []string, no bool) {
	n, err := entry.Number(w[1], 2699)
	if err != nil {
		r.strange.Add(l.Number, "the number of %.60s", l.Text)
		return
	}
	if n >= 200 && n <= 1299 || n == 0 { // of other protocols
		return
	}
	if no { // takes all of it
		delete(r.lists[0], w[1])
		return
	}
	r.open(w[1], false, n < 100 || n >= 1300 && n < 2000, false)
	r.mode = ""
	if len(w) > 2 {
		r.append(l, w[2:], 0)
	}
}

func (r *reader) resequence(l entry.Line, w []string) {
	a := r.lists[0][w[0]]
	if a == nil || len(w) != 3 {
		r.strange.Add(l.Number, "%.80s", l.Text)
		return
	}
	start, err1 := entry.Number(w[1], 1<<31-1)
	step, err2 := entry.Number(w[2], 1<<31-1)
	if err1 != nil || err2 != nil || step == 0 {
		r.strange.Add(l.Number, "%.80s", l.Text)
		return
	}
	for i := range a.aces {
		a.aces[i].seq = start + i*step
	}
}

// maxACEs bounds the lines of one list.
const maxACEs = 1 << 18

// append adds a line to the list that is open: at its number, or at the end.
func (r *reader) append(l entry.Line, w []string, seq int) {
	a := r.list
	x := ace{seq: seq, line: entry.Line{Number: l.Number, Text: l.Text, Words: w}, text: strings.Join(w, " ")}
	if len(a.aces) >= maxACEs {
		r.strange.Add(l.Number, "%.60s has more than %d lines", a.name, maxACEs)
		return
	}
	if w[0] == "remark" && seq == 0 { // it has no number of its own
		return
	}
	if seq == 0 {
		x.seq = 10
		if n := len(a.aces); n > 0 {
			x.seq = a.aces[n-1].seq + 10
		}
		a.aces = append(a.aces, x)
		return
	}
	at, found := slices.BinarySearchFunc(a.aces, seq, func(x ace, n int) int { return x.seq - n })
	if found {
		if a.aces[at].text != x.text {
			r.strange.Add(l.Number, "%.60s has another line %d", a.name, seq)
		}
		return
	}
	a.aces = slices.Insert(a.aces, at, x)
}

func (r *reader) inMode(l entry.Line, w []string, no bool) bool {
	switch r.mode {
	case "access-list":
		return r.inList(l, w, no)
	case "object-group network", "object-group service":
		return r.inGroup(l, w, no)
	case "interface":
		return r.inInterface(l, w, no)
	case "class":
		return r.inClass(l, w, no)
	case "policy":
		return r.inPolicy(l, w, no)
	case "pair":
		switch {
		case has(w, "service-policy", "type", "inspect") && len(w) == 4:
			r.pair.policy = w[3]
			if no {
				r.pair.policy = ""
			}
			return true
		case w[0] == "description":
			return true
		}
	}
	return l.Indent
}

func (r *reader) inList(l entry.Line, w []string, no bool) bool {
	seq := 0
	if w[0] == "sequence" && len(w) > 1 {
		w = w[1:]
	}
	if n, err := entry.Number(w[0], 1<<31-1); err == nil && n > 0 {
		if seq, w = n, w[1:]; len(w) == 0 {
			if !no {
				return true
			}
			i := slices.IndexFunc(r.list.aces, func(x ace) bool { return x.seq == seq })
			if i < 0 {
				r.strange.Add(l.Number, "%.60s has no line %d", r.list.name, seq)
				return true
			}
			r.list.aces = slices.Delete(r.list.aces, i, i+1)
			return true
		}
	}
	switch w[0] {
	case "permit", "deny", "evaluate", "remark", "dynamic":
	default:
		return l.Indent && (w[0] == "description" || r.odd(l))
	}
	if !no {
		r.append(l, w, seq)
		return true
	}
	text := strings.Join(w, " ")
	i := slices.IndexFunc(r.list.aces, func(x ace) bool { return x.text == text })
	if i >= 0 {
		r.list.aces = slices.Delete(r.list.aces, i, i+1)
	} else if w[0] != "remark" {
		r.strange.Add(l.Number, "%.60s has no such line to take out", r.list.name)
	}
	return true
}

// odd names a line, and says that it was one.
func (r *reader) odd(l entry.Line) bool {
	r.strange.Add(l.Number, "%.80s", l.Text)
	return true
}

func (r *reader) inGroup(l entry.Line, w []string, no bool) bool {
	if w[0] == "description" {
		return true
	}
	if !l.Indent && !slices.Contains([]string{"host", "range", "group-object", "any", "tcp", "udp", "tcp-udp", "icmp"}, w[0]) && (w[0][0] < '0' || w[0][0] > '9') {
		return false
	}
	key := strings.Join(w, " ")
	if w[0] == "group-object" && len(w) == 2 {
		key = "group " + w[1]
	}
	if no {
		if !r.networks.Remove(r.group, key) && !r.services.Remove(r.group, key) {
			r.strange.Add(l.Number, "%.40s does not have what is taken out of it", r.group)
		}
		return true
	}
	network := r.mode == "object-group network"
	if w[0] == "group-object" && len(w) == 2 {
		if network {
			r.networks.Nest(r.group, l.Number, w[1])
		} else {
			r.services.Nest(r.group, l.Number, w[1])
		}
		return true
	}
	var err error
	if network {
		var ends entry.Ends
		if ends, err = groupNetwork(w); err == nil {
			r.networks.Add(r.group, l.Number, key, ends)
		}
	} else {
		var s entry.Service
		if s, err = groupService(w); err == nil {
			r.services.Add(r.group, l.Number, key, s)
		}
	}
	if err != nil {
		r.strange.Add(l.Number, "%s", err)
	}
	return true
}

func (r *reader) inInterface(l entry.Line, w []string, no bool) bool {
	f := r.face
	switch {
	case has(w, "ip", "access-group") && len(w) == 4, has(w, "ipv6", "traffic-filter") && len(w) == 4:
		family, side := 0, slices.Index([]string{"in", "out"}, w[3])
		if w[0] == "ipv6" {
			family, r.six = 1, true
		}
		if side < 0 {
			return r.odd(l)
		}
		if f.bound[family][side] = nil; !no {
			f.bound[family][side] = &entry.Line{Number: l.Number, Text: l.Text, Words: w}
		}
	case has(w, "zone-member", "security") && len(w) == 3:
		if f.zone = w[2]; no {
			f.zone = ""
		}
	case w[0] == "shutdown":
		f.closed = !no
	case has(w, "ip", "address"), has(w, "ip", "unnumbered"):
		f.noIPv4 = no
	case has(w, "ipv6", "address"), has(w, "ipv6", "enable"):
		if f.six = !no; f.six {
			r.six, r.addressed = true, true
		}
	case has(w, "ip", "nat", "outside"):
		f.natOut = !no
	case has(w, "ip", "nat", "inside"):
		f.natInside = !no
	case has(w, "ip", "inspect"), has(w, "ipv6", "inspect"):
		if !no {
			r.strange.Add(l.Number, "ip inspect, which lets through more than its lists")
		}
	case has(w, "ip", "access-group"):
		return r.odd(l)
	case w[0] == "vrf" || has(w, "ip", "vrf"):
		if !no {
			r.strange.Add(l.Number, "a routing table of its own: packets do not go to interfaces of others")
		}
	default:
		return l.Indent || w[0] == "description" || w[0] == "ip" && len(w) > 1 && (w[1] == "address" || w[1] == "route-cache")
	}
	return true
}

func (r *reader) inClass(l entry.Line, w []string, no bool) bool {
	if w[0] == "description" {
		return true
	}
	if w[0] != "match" {
		return l.Indent && r.odd(l)
	}
	m := match{line: l.Number}
	switch {
	case has(w, "match", "access-group", "name") && len(w) == 4:
		m.list = w[3]
	case has(w, "match", "access-group") && len(w) == 3:
		m.list = w[2]
	case has(w, "match", "protocol") && len(w) >= 3:
		m.protocol = w[2]
	case has(w, "match", "class-map") && len(w) == 3:
		m.another = w[2]
	default:
		return r.odd(l)
	}
	if no {
		r.class.matches = slices.DeleteFunc(r.class.matches, func(x match) bool { x.line = m.line; return x == m })
		return true
	}
	r.class.matches = append(r.class.matches, m)
	return true
}

func (r *reader) inPolicy(l entry.Line, w []string, no bool) bool {
	p := r.policy
	class, ok := "", false
	switch {
	case has(w, "class", "type", "inspect") && len(w) == 4:
		class, ok = w[3], true
	case has(w, "class", "class-default"):
		ok = true
	}
	if ok {
		i := slices.IndexFunc(p.classes, func(a action) bool { return a.class == class })
		switch {
		case no:
			if i >= 0 {
				p.classes = slices.Delete(p.classes, i, i+1)
			}
		case i < 0:
			i = len(p.classes)
			if i > 0 && p.classes[i-1].class == "" { // class-default is always the last
				i--
			}
			p.classes = slices.Insert(p.classes, i, action{class: class, line: l.Number, do: "drop"})
		}
		r.action = i
		return true
	}
	switch w[0] {
	case "inspect", "pass", "drop":
		if r.action < 0 || r.action >= len(p.classes) {
			return r.odd(l)
		}
		if p.classes[r.action].do = w[0]; no {
			p.classes[r.action].do = "drop"
		}
		return true
	case "description":
		return true
	}
	return l.Indent && r.odd(l)
}

func groupNetwork(w []string) (out entry.Ends, err error) {
	var s box.Span
	family := box.IPv4
	switch {
	case w[0] == "any" && len(w) == 1:
		out.Four = entry.Anywhere().Four
		return out, nil
	case w[0] == "host" && len(w) == 2:
		s, family, err = entry.Network(w[1])
	case w[0] == "range" && len(w) == 3:
		s, family, err = entry.AddressRange(w[1], w[2])
	case len(w) == 1:
		s, family, err = entry.Network(w[0])
	case len(w) == 2 && w[1][0] == '/':
		s, family, err = entry.Network(w[0] + w[1])
	case len(w) == 2:
		a, err1 := entry.Address(w[0])
		m, err2 := entry.Address(w[1])
		if err1 != nil || err2 != nil {
			return out, fmt.Errorf("%.60q is no network", strings.Join(w, " "))
		}
		s, err = entry.Netmask(a, m)
	default:
		return out, fmt.Errorf("%.60q is no network", strings.Join(w, " "))
	}
	out.Add(family, s)
	return out, err
}
