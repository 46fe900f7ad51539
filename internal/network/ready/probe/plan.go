package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/network/need"
)

// item is one row over one transport, as it is to be tested.
type item struct {
	row       need.Need
	transport string
	from, to  []need.Ports
	skip      string   // why it cannot be tested
	froms     []uint16 // samples
	tos       []uint16
}

// plan returns what of a set is tested in this direction, for these roles and rows; nil means all.
func plan(s *need.Set, direction need.Direction, roles, rows []string) (out []item) {
	for _, n := range s.Needs {
		if n.Direction != direction || len(rows) > 0 && !slices.Contains(rows, n.ID) || len(roles) > 0 && !slices.ContainsFunc(n.From, func(r string) bool { return slices.Contains(roles, r) }) {
			continue
		}
		for _, t := range n.Transport {
			i := item{row: n, transport: t, from: n.FromPorts, to: n.ToPorts}
			local := !slices.ContainsFunc(n.To, func(r string) bool { side := s.Roles[r].Side; return side != "host-defined" && side != "customer" })
			switch {
			case t == "icmp":
				i.skip = "ICMP carries no ports, and a reflector answers none"
			case len(i.to) == 0:
				i.skip = "which ports it needs is not in the table: they are " + cmp.Or(n.Chosen, "chosen elsewhere")
			case local && direction == need.Outbound:
				i.skip = "it goes to a server of the site, so a reflector elsewhere says nothing about it"
			}
			if len(i.from) == 0 {
				i.from = []need.Ports{need.Ephemeral()}
			}
			out = append(out, i)
		}
	}
	return out
}

// list writes ranges with commas.
func list(all []need.Ports) string {
	parts := make([]string, len(all))
	for i, p := range all {
		parts[i] = p.String()
	}
	return strings.Join(parts, ", ")
}

func texts(all []need.Ports) (out []string) {
	for _, p := range all {
		out = append(out, p.String())
	}
	return out
}

// title says what a row is for.
func (i item) title() string {
	return fmt.Sprintf("%s: %s, %s %s", i.row.Protocol, i.row.Purpose, strings.ToUpper(i.transport), list(i.to))
}

// allow says in words what a firewall has to let through.
func (i item) allow(from, to []need.Ports) string {
	return fmt.Sprintf("let %s pass from ports %s of %s to ports %s of %s, and what comes back on the same way (row %s)", strings.ToUpper(i.transport), list(from), strings.Join(i.row.From, ", "),
		list(to), strings.Join(i.row.To, ", "), i.row.ID)
}
