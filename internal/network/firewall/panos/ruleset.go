package panos

import (
	"fmt"
	"maps"
	"slices"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/entry"
)

// ruleset makes one chain: zones that are not there, the rules in order, and what happens within a zone and between zones if no rule decides.
func (r *reader) ruleset() (*firewall.Ruleset, error) {
	slices.SortStableFunc(r.rules, func(a, b *rule) int { return a.base - b.base })
	written := len(r.zones) > 0
	for _, u := range r.rules {
		for _, side := range []string{"from", "to"} {
			for _, z := range u.lists[side] {
				if z == "any" || r.zones[z] > 0 {
					continue
				}
				if written {
					r.strange.Add(u.lines[side], "there is no zone %.60q", z)
				} else { // a part of a configuration
					r.zones[z] = -1
				}
			}
		}
	}
	if !written {
		for z := range r.zones {
			r.zones[z] = 1
		}
	}
	zones := slices.Sorted(maps.Keys(r.zones))
	var open []box.Span
	for _, z := range zones {
		open = append(open, box.One(r.interfaces.Number(z)))
	}
	c := firewall.Chain{Name: "the security policy", Scope: r.real}
	boxes := 0
	put := func(u *rule, f firewall.Rule) error {
		if boxes += len(f.Boxes); boxes > entry.MaxBoxes {
			return entry.TooMany(op)
		}
		c.Rules, r.of = append(c.Rules, f), append(r.of, u)
		return nil
	}
	plain := func(name string, accept bool, pairs [][2][]box.Span) error {
		var all []entry.Entry
		for _, p := range pairs {
			all = append(all, entry.Cross(box.Forward, p[0], p[1], []entry.Service{{}}, entry.Anywhere(), entry.Anywhere())...)
		}
		l, err := entry.Compile(op, all, r.real)
		if err != nil {
			return err
		}
		return put(nil, firewall.Rule{Name: name, Fixed: true, Accept: accept, Boxes: l})
	}
	if len(zones) > 0 {
		others := entry.Not(open, box.N(box.MaxInterface))
		if err := plain("no zone of that name", false, [][2][]box.Span{{others, nil}, {nil, others}}); err != nil {
			return nil, err
		}
	}
	six := false
	for _, u := range r.rules {
		if u.scalars["disabled"] == "yes" {
			continue
		}
		f, err := r.compile(u, zones, &six)
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		if err := put(u, *f); err != nil {
			return nil, err
		}
	}
	switch {
	case r.six == "no", r.six == "" && six:
		r.strange.Add(0, "rules name addresses of IPv6, and nothing says `deviceconfig setting session ipv6-firewalling yes`")
	}
	var within [][2][]box.Span
	for _, o := range open {
		within = append(within, [2][]box.Span{{o}, {o}})
	}
	if err := plain("intrazone-default", r.defaults["intrazone-default"] != "deny" && r.defaults["intrazone-default"] != "drop", within); err != nil {
		return nil, err
	}
	c.Accept = r.defaults["interzone-default"] == "allow"
	return &firewall.Ruleset{Chains: []firewall.Chain{c}, Unknown: r.strange.List()}, nil
}

// compile returns the packets of a rule, or nothing if it was not understood.
func (r *reader) compile(u *rule, zones []string, six *bool) (*firewall.Rule, error) {
	bad := func(key string, format string, args ...any) (*firewall.Rule, error) {
		line := u.lines[key]
		if line == 0 {
			line = u.line
		}
		r.strange.Add(line, "the rule %.60s: %s", u.name, fmt.Sprintf(format, args...))
		return nil, nil
	}
	for _, key := range []string{"from", "to", "source", "destination", "application", "service"} {
		if len(u.lists[key]) == 0 {
			return bad(key, "it has no %s", key)
		}
	}
	for _, key := range []string{"source-user", "category", "source-hip", "destination-hip", "hip-profiles", "saas-user-list", "saas-tenant-list"} {
		if l := u.lists[key]; len(l) > 0 && !slices.Equal(l, []string{"any"}) {
			return bad(key, "%s, which the device alone knows", key)
		}
	}
	if s := u.scalars["schedule"]; s != "" {
		return bad("schedule", "it is not always in force")
	}
	accept := false
	switch a := u.scalars["action"]; a {
	case "allow":
		accept = true
	case "deny", "drop", "reset-client", "reset-server", "reset-both":
	default:
		return bad("action", "%.20q is no action", a)
	}
	from, err := r.ends(u, "source")
	if err != nil {
		return bad("source", "%s", err)
	}
	to, err := r.ends(u, "destination")
	if err != nil {
		return bad("destination", "%s", err)
	}
	services, key, err := r.what(u)
	if err != nil {
		return bad(key, "%s", err)
	}
	pairs, err := r.ways(u, zones)
	if err != nil {
		return bad("rule-type", "%s", err)
	}
	all := entry.Anywhere()
	*six = *six || !slices.Contains(from.Six, all.Six[0]) && len(from.Six) > 0 || !slices.Contains(to.Six, all.Six[0]) && len(to.Six) > 0
	var entries []entry.Entry
	for _, p := range pairs {
		entries = append(entries, entry.Cross(box.Forward, p[0], p[1], services, from, to)...)
	}
	l, err := entry.Compile(op, entries, r.real)
	if err != nil {
		return nil, err
	}
	return &firewall.Rule{Name: fmt.Sprintf("line %d: rule %s", u.line, u.name), Comment: u.scalars["description"], Line: u.line, Accept: accept, Boxes: l}, nil
}

// ends returns the addresses of one end of a rule.
func (r *reader) ends(u *rule, key string) (out entry.Ends, err error) {
	for _, name := range u.lists[key] {
		if name == "any" {
			out.Join(entry.Anywhere())
			continue
		}
		if !r.addresses.Has(name) { // addresses may stand in a rule as they are
			if s, family, err := entry.Network(name); err == nil {
				out.Add(family, s)
				continue
			}
			if e, err := address([]string{"ip-range", name}); err == nil {
				out.Join(e)
				continue
			}
		}
		all, err := r.addresses.All(name)
		if err != nil {
			return out, err
		}
		for _, e := range all {
			out.Join(e)
		}
	}
	if u.scalars["negate-"+key] == "yes" {
		out = out.Not()
	}
	return out, nil
}

// what returns the services of a rule, as far as its applications let them be known; key is the attribute that is at fault.
func (r *reader) what(u *rule) (out []entry.Service, key string, err error) {
	var services []service
	for _, name := range u.lists["service"] {
		switch {
		case name == "any":
			services = append(services, service{any: true})
		case name == "application-default":
			services = append(services, service{standard: true})
		case r.services.Has(name):
			all, err := r.services.All(name)
			if err != nil {
				return nil, "service", err
			}
			services = append(services, all...)
		case name == "service-http":
			services = append(services, service{Service: entry.Service{Protocols: []box.Span{box.One(box.TCP)}, To: []box.Span{box.One(80), box.One(8080)}}})
		case name == "service-https":
			services = append(services, service{Service: entry.Service{Protocols: []box.Span{box.One(box.TCP)}, To: []box.Span{box.One(443)}}})
		default:
			_, err := r.services.All(name)
			return nil, "service", err
		}
	}
	for _, app := range u.lists["application"] {
		var one entry.Service
		switch app {
		case "any":
		case "ping":
			one = entry.Service{Family: box.IPv4, Protocols: []box.Span{box.One(box.ICMP)}, From: []box.Span{box.One(entry.EchoRequest)}, To: []box.Span{box.One(0)}}
		case "ping6":
			one = entry.Service{Family: box.IPv6, Protocols: []box.Span{box.One(box.ICMPv6)}, From: []box.Span{box.One(entry.EchoRequest6)}, To: []box.Span{box.One(0)}}
		default:
			return nil, "application", fmt.Errorf("whether a packet is of the application %.40q, the device finds out from what it carries", app)
		}
		for _, s := range services {
			switch {
			case app == "any" && s.standard:
				return nil, "service", fmt.Errorf("the standard ports of any application")
			case app == "any":
				out = append(out, s.Service)
			case s.any || s.standard:
				out = append(out, one)
			}
		}
	}
	return out, "", nil
}

// ways returns by which zones packets of a rule come and leave.
func (r *reader) ways(u *rule, zones []string) (out [][2][]box.Span, err error) {
	list := func(key string) (names []string, spans []box.Span) {
		for _, z := range u.lists[key] {
			if z == "any" {
				return zones, nil
			}
			names, spans = append(names, z), append(spans, box.One(r.interfaces.Number(z)))
		}
		return names, spans
	}
	fromNames, from := list("from")
	toNames, to := list("to")
	one := func(z string) []box.Span { return []box.Span{box.One(r.interfaces.Number(z))} }
	switch kind := u.scalars["rule-type"]; kind {
	case "", "universal":
		return [][2][]box.Span{{from, to}}, nil
	case "intrazone":
		for _, z := range fromNames {
			out = append(out, [2][]box.Span{one(z), one(z)})
		}
		return out, nil
	case "interzone":
		for _, z := range fromNames {
			var others []box.Span
			for _, y := range toNames {
				if y != z {
					others = append(others, one(y)...)
				}
			}
			if len(others) > 0 {
				out = append(out, [2][]box.Span{one(z), others})
			}
		}
		return out, nil
	default:
		return nil, fmt.Errorf("%.40q is no type of a rule", kind)
	}
}
