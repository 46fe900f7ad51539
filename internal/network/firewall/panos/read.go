package panos

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
)

const op = "panos.parse"

// Parse reads set commands, as `show` prints them after `set cli config-output-format set`, and delete, move and rename as they are given after them. Names of zones get numbers of n as interfaces.
func Parse(b []byte, n *box.Interfaces) (*firewall.Ruleset, error) {
	r, err := read(b, n)
	if err != nil {
		return nil, err
	}
	return r.ruleset()
}

type reader struct {
	interfaces *box.Interfaces
	strange    entry.Strange
	addresses  *entry.Groups[entry.Ends]
	services   *entry.Groups[service]
	objects    map[string]*object // service objects that are being put together
	zones      map[string]int     // with the line
	rules      []*rule
	byName     map[string]*rule
	defaults   map[string]string // action of intrazone-default and interzone-default
	whole      string            // the virtual system or device group that the rules are of
	six        string            // what is said of IPv6
	real       box.List
	of         []*rule // of the chain's rules
	prefix     string  // words of the command before what it is about
}

type service struct {
	entry.Service
	any, standard bool // any; application-default
}

type object struct {
	line     int
	protocol string
	to, from string
}

// rule is a security rule as its attributes say.
type rule struct {
	name     string
	line     int
	base     int // 0: of pre-rulebase, 1: of the rulebase, 2: of post-rulebase
	lists    map[string][]string
	lines    map[string]int
	scalars  map[string]string
	prefix   string   // words before rulebase
	commands []string // that made it
}

func read(b []byte, n *box.Interfaces) (*reader, error) {
	r := &reader{interfaces: n, addresses: entry.NewGroups[entry.Ends]("address or address-group"), services: entry.NewGroups[service]("service or service-group"),
		objects: map[string]*object{}, zones: map[string]int{}, byName: map[string]*rule{}, defaults: map[string]string{}}
	for _, b := range box.Real() {
		if b[box.Hook] == box.One(box.Forward) {
			r.real = append(r.real, b)
		}
	}
	err := entry.Lines(b, op, func(l entry.Line) {
		if l.Text[0] == '#' {
			return
		}
		w, err := split(l.Text)
		if err == nil {
			err = r.command(l, w)
		}
		if err != nil {
			r.strange.Add(l.Number, "%s", err)
		}
	})
	return r, err
}

// split cuts a command into words; a name with blanks stands between quotation marks.
func split(s string) (out []string, err error) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeft(s, " \t") {
		if s[0] == '"' {
			end := strings.IndexByte(s[1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("a quotation mark is missing")
			}
			out, s = append(out, s[1:1+end]), s[end+2:]
			continue
		}
		end := strings.IndexAny(s, " \t")
		if end < 0 {
			end = len(s)
		}
		out, s = append(out, s[:end]), s[end:]
	}
	return out, nil
}

// members takes one value, or those between brackets, and returns what is left.
func members(w []string) (out, rest []string) {
	if len(w) == 0 {
		return nil, nil
	}
	if w[0] != "[" {
		return w[:1], w[1:]
	}
	end := slices.Index(w, "]")
	if end < 0 {
		return w[1:], nil
	}
	return w[1:end], w[end+1:]
}

func (r *reader) command(l entry.Line, w []string) error {
	verb := w[0]
	if !slices.Contains([]string{"set", "delete", "move", "rename"}, verb) || len(w) < 2 {
		return nil // not of the configuration
	}
	r.prefix = ""
	w = w[1:]
	for len(w) > 1 && (w[0] == "shared" || w[0] == "vsys" || w[0] == "device-group" || w[0] == "config" || w[0] == "devices" || w[0] == "localhost.localdomain") {
		n := 1
		if w[0] == "vsys" || w[0] == "device-group" {
			if n = 2; len(w) < 3 {
				return nil
			}
			where := w[0] + " " + w[1]
			if strings.HasSuffix(w[2], "rulebase") && verb == "set" {
				if r.whole != "" && r.whole != where {
					return fmt.Errorf("rules of %.60s beside those of %.60s: give one at a time", where, r.whole)
				}
				r.whole = where
			}
		}
		r.prefix += strings.Join(w[:n], " ") + " "
		w = w[n:]
	}
	switch w[0] {
	case "address", "address-group", "service", "service-group":
		if len(w) < 2 {
			return fmt.Errorf("a name is missing")
		}
		return r.define(l, verb, w[0], w[1], w[2:])
	case "zone":
		if len(w) > 1 {
			r.zones[w[1]] = l.Number
			if verb == "delete" && len(w) == 2 {
				delete(r.zones, w[1])
			}
			if slices.ContainsFunc(w[2:], func(s string) bool { return s == "layer2" || s == "virtual-wire" || s == "tap" }) {
				return fmt.Errorf("the zone %.40s is no layer3 zone", w[1])
			}
		}
	case "rulebase", "pre-rulebase", "post-rulebase":
		return r.rulebase(l, verb, w)
	case "deviceconfig":
		if i := slices.Index(w, "ipv6-firewalling"); i > 0 && i+1 < len(w) {
			r.six = w[i+1]
		} else if i > 0 {
			r.six = ""
		}
	}
	return nil
}

// define reads an object or a group.
func (r *reader) define(l entry.Line, verb, kind, name string, w []string) error {
	if verb == "move" {
		return nil
	}
	if verb == "rename" {
		return fmt.Errorf("a new name of an object")
	}
	network := strings.HasPrefix(kind, "address")
	if verb == "delete" {
		if len(w) == 0 {
			if network {
				r.addresses.Drop(name)
			} else {
				r.services.Drop(name)
				delete(r.objects, name)
			}
			return nil
		}
		list, _ := members(w[1:])
		for _, m := range list {
			if !r.addresses.Remove(name, "group "+m) && !r.services.Remove(name, "group "+m) {
				return fmt.Errorf("%.60s has no member %.60s", name, m)
			}
		}
		return nil
	}
	if len(w) < 2 || w[0] == "description" || w[0] == "tag" {
		return nil
	}
	switch kind {
	case "address":
		ends, err := address(w)
		if err != nil {
			return err
		}
		r.addresses.Drop(name)
		r.addresses.Add(name, l.Number, w[1], ends)
	case "address-group":
		if w[0] != "static" {
			return fmt.Errorf("the members of %.60s are known by their tags alone", name)
		}
		list, _ := members(w[1:])
		for _, m := range list {
			r.addresses.Nest(name, l.Number, m)
		}
	case "service":
		return r.service(l, name, w)
	case "service-group":
		if w[0] == "members" {
			list, _ := members(w[1:])
			for _, m := range list {
				r.services.Nest(name, l.Number, m)
			}
		}
	}
	return nil
}

func address(w []string) (out entry.Ends, err error) {
	var s box.Span
	var family uint8
	switch w[0] {
	case "ip-netmask":
		s, family, err = entry.Network(w[1])
	case "ip-range":
		first, last, ok := strings.Cut(w[1], "-")
		if !ok {
			return out, fmt.Errorf("%.60q is no range", w[1])
		}
		s, family, err = entry.AddressRange(first, last)
	case "ip-wildcard":
		a, mask, _ := strings.Cut(w[1], "/")
		x, err1 := entry.Address(a)
		y, err2 := entry.Address(mask)
		if err1 != nil || err2 != nil {
			return out, fmt.Errorf("%.60q is no address with a mask", w[1])
		}
		out.Four, err = entry.Wildcard(x, y)
		return out, err
	default:
		return out, fmt.Errorf("an address by %.20s, which the device looks up", w[0])
	}
	if err == nil {
		out.Add(family, s)
	}
	return out, err
}

// service reads a service object, whose attributes may come one by one.
func (r *reader) service(l entry.Line, name string, w []string) error {
	o := r.objects[name]
	if o == nil {
		o = &object{line: l.Number}
		r.objects[name] = o
	}
	if w[0] != "protocol" {
		return fmt.Errorf("%.80s", l.Text)
	}
	if o.protocol != "" && o.protocol != w[1] {
		*o = object{line: l.Number}
	}
	o.protocol = w[1]
	for w = w[2:]; len(w) > 1; {
		switch w[0] {
		case "port":
			o.to, w = w[1], w[2:]
		case "source-port":
			o.from, w = w[1], w[2:]
		case "override", "timeout", "halfclose-timeout", "timewait-timeout", "yes", "no":
			w = w[1:]
		default:
			if _, err := entry.Number(w[0], 1<<30); err != nil {
				return fmt.Errorf("%.40q", w[0])
			}
			w = w[1:]
		}
	}
	var s service
	p, ok := entry.Protocol(o.protocol)
	if !ok || !box.HasPorts(uint8(p.First.Lo)) {
		return fmt.Errorf("%.40q is no protocol of a service", o.protocol)
	}
	s.Protocols = []box.Span{p}
	var err error
	if s.To, err = ports(o.to); err != nil {
		return err
	}
	if s.From, err = ports(o.from); err != nil {
		return err
	}
	r.services.Drop(name)
	if o.to != "" {
		r.services.Add(name, l.Number, name, s)
	}
	return nil
}

func ports(s string) (out []box.Span, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		a, err := entry.Number(first, 65535)
		if err != nil {
			return nil, err
		}
		b, err := entry.Number(last, 65535)
		if err != nil {
			return nil, err
		}
		span, err := entry.NumberRange(a, b)
		if err != nil {
			return nil, err
		}
		out = append(out, span)
	}
	return out, nil
}

func (r *reader) rulebase(l entry.Line, verb string, w []string) error {
	base := slices.Index([]string{"pre-rulebase", "rulebase", "post-rulebase"}, w[0])
	if len(w) < 2 {
		return nil
	}
	switch w[1] {
	case "security":
		if len(w) < 4 || w[2] != "rules" {
			return nil
		}
		return r.security(l, verb, base, w[3], w[4:])
	case "default-security-rules":
		if i := slices.Index(w, "action"); i > 3 && i+1 < len(w) {
			if r.defaults[w[3]] = w[i+1]; verb == "delete" {
				delete(r.defaults, w[3])
			}
		}
	case "nat":
		if slices.Contains(w, "destination-translation") || slices.Contains(w, "dynamic-destination-translation") || slices.Contains(w, "bi-directional") && slices.Contains(w, "yes") {
			return fmt.Errorf("a translation of destinations: security rules see the address before it, and the zone after it")
		}
	}
	return nil
}

// security reads attributes of a rule.
func (r *reader) security(l entry.Line, verb string, base int, name string, w []string) error {
	u := r.byName[name]
	switch verb {
	case "delete":
		if u == nil {
			return fmt.Errorf("there is no rule %.60q", name)
		}
		if len(w) == 0 {
			delete(r.byName, name)
			r.rules = slices.DeleteFunc(r.rules, func(v *rule) bool { return v == u })
			return nil
		}
		if len(w) == 1 {
			delete(u.lists, w[0])
			delete(u.scalars, w[0])
			u.commands = append(u.commands, l.Text)
			return nil
		}
		u.commands = append(u.commands, l.Text)
		gone, _ := members(w[1:])
		u.lists[w[0]] = slices.DeleteFunc(u.lists[w[0]], func(s string) bool { return slices.Contains(gone, s) })
		return nil
	case "move":
		return r.move(u, name, w)
	case "rename":
		if u == nil || len(w) != 2 || w[0] != "to" {
			return fmt.Errorf("%.80s", l.Text)
		}
		delete(r.byName, name)
		u.name = w[1]
		u.commands = append(u.commands, l.Text)
		r.byName[w[1]] = u
		return nil
	}
	if u == nil {
		if len(r.rules) >= maxRules {
			return fmt.Errorf("there are more than %d rules", maxRules)
		}
		u = &rule{name: name, line: l.Number, base: base, prefix: r.prefix + w0(base), lists: map[string][]string{}, lines: map[string]int{}, scalars: map[string]string{}}
		r.rules, r.byName[name] = append(r.rules, u), u
	}
	u.commands = append(u.commands, l.Text)
	for len(w) > 0 {
		key := w[0]
		w = w[1:]
		switch key {
		case "from", "to", "source", "destination", "application", "service", "source-user", "category", "source-hip", "destination-hip", "hip-profiles", "saas-user-list", "saas-tenant-list":
			var list []string
			list, w = members(w)
			for _, m := range list {
				if !slices.Contains(u.lists[key], m) {
					u.lists[key] = append(u.lists[key], m)
				}
			}
			u.lines[key] = l.Number
		case "action", "disabled", "negate-source", "negate-destination", "rule-type", "schedule", "log-start", "log-end", "log-setting", "description", "group-tag", "icmp-unreachable", "uuid":
			if len(w) == 0 {
				return fmt.Errorf("%s has no value", key)
			}
			u.scalars[key], w = w[0], w[1:]
			u.lines[key] = l.Number
		case "tag":
			_, w = members(w)
		case "profile-setting", "option", "qos", "target", "devices":
			return nil // the rest of the line is about it
		default:
			return fmt.Errorf("the attribute %.40q of the rule %.60s", key, name)
		}
	}
	return nil
}

// w0 returns the word of a rulebase.
func w0(base int) string { return []string{"pre-rulebase", "rulebase", "post-rulebase"}[base] }

// maxRules bounds the rules of a configuration.
const maxRules = 1 << 18

func (r *reader) move(u *rule, name string, w []string) error {
	if u == nil || len(w) == 0 {
		return fmt.Errorf("there is no rule %.60q to move", name)
	}
	rest := slices.DeleteFunc(slices.Clone(r.rules), func(v *rule) bool { return v == u })
	at := len(rest)
	switch {
	case w[0] == "top":
		at = 0
	case w[0] == "bottom":
	case len(w) == 2 && (w[0] == "before" || w[0] == "after"):
		if at = slices.Index(rest, r.byName[w[1]]); at < 0 {
			return fmt.Errorf("there is no rule %.60q", w[1])
		}
		if w[0] == "after" {
			at++
		}
	default:
		return fmt.Errorf("move %.40s", w[0])
	}
	r.rules = slices.Insert(rest, at, u)
	return nil
}
