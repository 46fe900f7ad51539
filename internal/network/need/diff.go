package need

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Diff returns what has to change where the needs of one set are met, for those of another to be met: rows, networks, domains, marks and forwarders that come, change and go. Where things stand in a document, and how far they
// are believed, is not compared.
func Diff(old, now *Set) (all []Change) {
	d := &differ{}
	compare(d, "row", old.Needs, now.Needs, func(n Need) string { return n.ID }, needText, func(n Need) []string { return n.About() })
	type network struct{ group, prefix string }
	networks := func(s *Set) (out []network) {
		for _, g := range s.Groups {
			for _, n := range g.Networks {
				out = append(out, network{g.Name, n.Prefix.String()})
			}
		}
		return out
	}
	compare(d, "network", networks(old), networks(now), func(n network) string { return n.group + " " + n.prefix }, nil, nil)
	compare(d, "domain", old.Domains, now.Domains, func(x Domain) string { return x.Pattern }, nil, nil)
	compare(d, "mark", old.Marks, now.Marks, func(m Mark) string { return m.ID }, markText, nil)
	compare(d, "forwarder", old.Forwarders, now.Forwarders, func(f Forwarder) string { return f.Zone + " " + f.Address.String() }, nil, nil)
	compare(d, "reserved", old.Reserved, now.Reserved, func(r Reserved) string { return r.ID }, func(r Reserved) string { return join(r.Transport) + " " + joinPorts(r.Ports) }, nil)
	return d.all
}

type differ struct{ all []Change }

// compare finds what comes, changes and goes in a list, in the order of what there is now; what goes stands last.
func compare[T any](d *differ, category string, old, now []T, key func(T) string, text func(T) string, about func(T) []string) {
	if text == nil {
		text = func(T) string { return "" }
	}
	items := func(v T) []string {
		if about == nil {
			return []string{key(v)}
		}
		return about(v)
	}
	before := map[string]T{}
	for _, v := range old {
		before[key(v)] = v
	}
	seen := map[string]bool{}
	for _, v := range now {
		k := key(v)
		if seen[k] {
			continue
		}
		seen[k] = true
		was, ok := before[k]
		switch {
		case !ok:
			d.all = append(d.all, Change{Change: "add", Category: category, Subject: k, Items: items(v), Is: text(v)})
		case text(was) != text(v):
			d.all = append(d.all, Change{Change: "modify", Category: category, Subject: k, Items: items(v), Was: text(was), Is: text(v)})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(before)) {
		if !seen[k] {
			d.all = append(d.all, Change{Change: "remove", Category: category, Subject: k, Items: items(before[k]), Was: text(before[k])})
		}
	}
}

// About returns the ends of a row as a history names them: protocol and port.
func (n Need) About() (out []string) {
	for _, t := range n.Transport {
		for _, p := range n.ToPorts {
			out = append(out, t+"/"+p.String())
		}
		if len(n.ToPorts) == 0 {
			out = append(out, t)
		}
	}
	return out
}

// needText is what of a row a firewall or a mark goes by.
func needText(n Need) string {
	mark := ""
	if n.DSCP != nil {
		mark = fmt.Sprintf(", DSCP %d", *n.DSCP)
	}
	to := joinPorts(n.ToPorts)
	if len(n.ToPorts) == 0 {
		to = cmp.Or(n.Chosen, "any")
	}
	return fmt.Sprintf("%s %s, %s port %s to %s port %s%s", n.Direction, join(n.Transport), join(n.From), joinPorts(n.FromPorts), join(n.To), to, mark)
}

func markText(m Mark) string {
	values := make([]string, len(m.DSCP))
	for i, v := range m.DSCP {
		values[i] = fmt.Sprint(v)
	}
	return fmt.Sprintf("%s, %s port %s to port %s, DSCP %s", m.Traffic, m.From, joinPorts(m.FromPorts), joinPorts(m.ToPorts), join(values))
}

func join(list []string) string { return strings.Join(list, " and ") }

func joinPorts(list []Ports) string {
	if len(list) == 0 {
		return "any"
	}
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}
	return strings.Join(out, ",")
}
