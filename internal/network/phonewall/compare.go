package phonewall

import (
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/phoneports"
	"ringfence/internal/network/prove"
)

// Use says for whom a port stands open.
type Use string

// The uses.
const (
	Needed  Use = "needed"  // a row opens it from elsewhere
	Answers Use = "answers" // the phone sends from it, as a row says
	Link    Use = "link"    // the phone gets its address there
	Nobody  Use = "nobody"  // no row has to do with it
)

// Door is ports of the phone that stand open, all for the same.
type Door struct {
	Transport string     `json:"transport"` // udp, tcp or icmp
	Ports     need.Ports `json:"ports,omitzero"`
	Service   string     `json:"service"`
	Because   []string   `json:"because"`
	One       bool       `json:"one,omitempty"` // one port out of the range, by chance
	Use       Use        `json:"use"`
	Rows      []string   `json:"rows"`           // for which
	Do        string     `json:"do,omitempty"`   // what closes it, if it is for nobody
	Site      *Entrance  `json:"site,omitempty"` // what the site's firewall makes of it
}

// Entrance is whom the site's firewall lets in to a door, of those outside.
type Entrance struct {
	Open    Reach          `json:"open"`
	Through *prove.Finding `json:"through,omitempty"` // a packet that gets in and that no row needs, and the rules that let it in
}

// Reach says who outside the site gets in.
type Reach string

// The reaches.
const (
	Closed  Reach = "nobody"
	ByRows  Reach = "rows" // those whom rows name, and no others
	Exposed Reach = "others"
)

// Row is a row of the set that somebody opens to the phone.
type Row struct {
	ID        string       `json:"row"`
	Purpose   string       `json:"purpose"`
	Transport string       `json:"transport"`
	Ports     []need.Ports `json:"ports,omitempty"`
	Dropped   []need.Ports `json:"dropped"` // ports of the row that the phone's firewall keeps shut
	Shut      bool         `json:"shut"`    // it drops something that the row needs
	Unknown   string       `json:"unknown,omitempty"`
	Questions []string     `json:"questions,omitempty"`
}

// Findings is what a phone leaves open, and what that is in view of a set, if it was held against one.
type Findings struct {
	phoneports.View
	Compared *Comparison `json:"compared,omitempty"`
}

// Comparison is what was found.
type Comparison struct {
	Set    string   `json:"set"`
	Phone  []string `json:"phone"` // the roles that the phone has
	Doors  []Door   `json:"doors"`
	Rows   []Row    `json:"rows"`
	Shut   int      `json:"shut"`   // rows of which the phone drops something
	Excess int      `json:"excess"` // doors for nobody
	// What follows is of the site's firewall, if there is one to look at.
	Exposed int      `json:"exposed"`           // doors to which it lets others in than those whom rows name
	Unknown []string `json:"unknown,omitempty"` // what was not understood or resolved: nothing is proved then
}

// everything is what a phone without a firewall leaves open.
const everything = "whatever there is"

// maxRows bounds the rows that have to do with the phone.
const maxRows = 2000

// roles are what sets call a desk phone.
func roles() []string { return []string{"phone", "any-phone", "endpoint", "device"} }

// Roles returns the roles that a desk phone has in a set: those that are asked for, or else those whose names say so.
func Roles(set *need.Set, asked []string) ([]string, error) {
	var known, out []string
	for r := range set.Roles {
		known = append(known, r)
	}
	slices.Sort(known)
	for _, r := range asked {
		if !slices.Contains(known, r) {
			return nil, fault(fmt.Sprintf("there is no role %.60q in %s", r, set.ID), "there are "+strings.Join(known, ", "))
		}
	}
	if len(asked) > 0 {
		return asked, nil
	}
	for _, r := range roles() {
		if slices.Contains(known, r) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, fault("no role of "+set.ID+" is called a phone", "say which is, of "+strings.Join(known, ", "))
	}
	return out, nil
}

func fault(text, hint string) error {
	return &ringfence.Fault{Op: "phonewall", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}

// Compare compares what a phone leaves open with rows, of a set and of the site itself.
func Compare(v phoneports.View, set *need.Set, rows []need.Need, phone []string) (*Comparison, error) {
	c := &Comparison{Set: set.ID, Phone: phone, Doors: []Door{}, Rows: []Row{}}
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(r string) bool { return slices.Contains(phone, r) })
	}
	var to, from []need.Need
	for _, n := range rows {
		if has(n.To) {
			to = append(to, n)
		}
		// Ports that the system chooses are those of what it opened, and no firewall of a phone opens them for that.
		if has(n.From) && len(n.FromPorts) > 0 && !slices.Contains(n.FromPorts, need.Ephemeral()) {
			from = append(from, n)
		}
	}
	if len(to)+len(from) > maxRows {
		return nil, fault(fmt.Sprintf("%d rows of %s have to do with the phone, and %d are looked at", len(to)+len(from), set.ID, maxRows), "name those that matter under `rows` in the site file")
	}
	open := v.Open
	if !v.Firewall {
		for _, t := range []string{"udp", "tcp"} {
			open = append(open, phoneports.Open{Transport: t, Ports: need.Ports{First: 1, Last: 65535}, Service: everything, Because: []string{"the firewall is off"}, Close: "set Firewall to Enabled"})
		}
	}
	for _, o := range open {
		c.Doors = append(c.Doors, doors(o, to, from)...)
	}
	if v.Ping {
		d := Door{Transport: "icmp", Service: "answers ping", Because: []string{"Firewall_Config without NO_ICMP_PING"}, Rows: []string{}, Use: Nobody, Do: "add NO_ICMP_PING to Firewall_Config"}
		if !v.Firewall {
			d.Because, d.Do = []string{"the firewall is off"}, "set Firewall to Enabled, and add NO_ICMP_PING to Firewall_Config"
		}
		for _, n := range to {
			if slices.Contains(n.Transport, "icmp") {
				d.Rows, d.Use, d.Do = append(d.Rows, n.ID), Needed, ""
			}
		}
		c.Doors = append(c.Doors, d)
	}
	for _, d := range c.Doors {
		if d.Use == Nobody {
			c.Excess++
		}
	}
	for _, n := range to {
		for _, t := range n.Transport {
			r := look(v, open, n, t)
			if r.Shut {
				c.Shut++
			}
			if r.Unknown != "" {
				c.Unknown = append(c.Unknown, r.ID+" lacks "+r.Unknown)
			}
			c.Rows = append(c.Rows, r)
		}
	}
	return c, nil
}

// doors cuts a range of open ports at the bounds of rows.
func doors(o phoneports.Open, to, from []need.Need) (out []Door) {
	if len(o.Because) == 1 && o.Because[0] == "always" {
		return []Door{{Transport: o.Transport, Ports: o.Ports, Service: o.Service, Because: o.Because, Use: Link, Rows: []string{}}}
	}
	type part struct {
		ports need.Ports
		row   string
		use   Use
	}
	var parts []part
	cuts := []int{int(o.Ports.First), int(o.Ports.Last) + 1}
	take := func(n need.Need, ports []need.Ports, use Use) {
		if !slices.Contains(n.Transport, o.Transport) || media(n) && !o.Media && o.Service != everything {
			return
		}
		for _, p := range ports {
			if p.First <= o.Ports.Last && p.Last >= o.Ports.First {
				cuts = append(cuts, int(max(p.First, o.Ports.First)), int(min(p.Last, o.Ports.Last))+1)
				parts = append(parts, part{p, n.ID, use})
			}
		}
	}
	for _, n := range to {
		take(n, n.ToPorts, Needed)
	}
	for _, n := range from {
		take(n, n.FromPorts, Answers)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for i := range cuts[1:] {
		d := Door{Transport: o.Transport, Ports: need.Ports{First: uint16(cuts[i]), Last: uint16(cuts[i+1] - 1)}, Service: o.Service, Because: o.Because, One: o.One, Use: Nobody, Rows: []string{}, Do: o.Close}
		for _, use := range []Use{Needed, Answers} {
			for _, p := range parts {
				if p.use == use && p.ports.First <= d.Ports.First && p.ports.Last >= d.Ports.Last && !slices.Contains(d.Rows, p.row) {
					d.Rows = append(d.Rows, p.row)
					if d.Use == Nobody {
						d.Use, d.Do = use, ""
					}
				}
			}
		}
		if o.Media && d.Use == Nobody {
			d.Do = within(o, to, from)
		}
		if last := len(out) - 1; last >= 0 && out[last].Use == d.Use && slices.Equal(out[last].Rows, d.Rows) {
			out[last].Ports.Last = d.Ports.Last
			continue
		}
		out = append(out, d)
	}
	return out
}

// within says what the phone's range of media has to be for rows to name all of it.
func within(o phoneports.Open, to, from []need.Need) string {
	take := func(n need.Need, ports []need.Ports) string {
		if !media(n) || !slices.Contains(n.Transport, o.Transport) || len(ports) == 0 {
			return ""
		}
		return fmt.Sprintf("set RTP_Port_Min and RTP_Port_Max to a part of %s, as %s has it", ports[0], n.ID)
	}
	for _, n := range to {
		if do := take(n, n.ToPorts); do != "" {
			return do
		}
	}
	for _, n := range from {
		if do := take(n, n.FromPorts); do != "" {
			return do
		}
	}
	return "no row has to do with media of the phone"
}

// media reports whether the phone tells the other side which ports of a row it uses.
func media(n need.Need) bool { return strings.Contains(n.Protocol, "RTP") }

// look says what of a row the phone's firewall drops.
func look(v phoneports.View, open []phoneports.Open, n need.Need, transport string) Row {
	r := Row{ID: n.ID, Purpose: n.Purpose, Transport: transport, Ports: n.ToPorts, Dropped: []need.Ports{}, Questions: n.Questions}
	if transport == "icmp" {
		r.Ports, r.Shut = nil, !v.Ping
		return r
	}
	if len(n.ToPorts) == 0 {
		r.Unknown = "the ports (" + n.Chosen + ")"
		return r
	}
	met := false
	for _, p := range n.ToPorts {
		left := []need.Ports{p}
		for _, o := range open {
			if o.Transport != transport {
				continue
			}
			if o.Ports.First <= p.Last && o.Ports.Last >= p.First && (o.Media || !v.Firewall) {
				met = true
			}
			var next []need.Ports
			for _, l := range left {
				next = append(next, minus(l, o.Ports)...)
			}
			left = next
		}
		r.Dropped = append(r.Dropped, left...)
	}
	r.Shut = len(r.Dropped) > 0 && !(media(n) && met)
	return r
}

// minus returns what of a is not in b.
func minus(a, b need.Ports) (out []need.Ports) {
	if b.First > a.Last || b.Last < a.First {
		return []need.Ports{a}
	}
	if a.First < b.First {
		out = append(out, need.Ports{First: a.First, Last: b.First - 1})
	}
	if a.Last > b.Last {
		out = append(out, need.Ports{First: b.Last + 1, Last: a.Last})
	}
	return out
}
