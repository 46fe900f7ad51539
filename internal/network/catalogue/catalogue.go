package catalogue

import (
	"embed"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"ringfence"
	"ringfence/internal/network/need"
)

//go:embed sets/*.yaml
var sets embed.FS

// Names returns the sets that are built in.
func Names() []string { return []string{"dedicated-instance", "webex-calling"} }

// Open returns a set that is built in.
func Open(name string) (*need.Set, error) {
	if !slices.Contains(Names(), name) {
		return nil, &ringfence.Fault{Op: "catalogue.open", Kind: ringfence.KindNotFound, Text: fmt.Sprintf("there is no set %.60q", name), Hint: "there are self, " + strings.Join(Names(), " and ")}
	}
	b, err := sets.ReadFile("sets/" + name + ".yaml")
	if err != nil {
		return nil, &ringfence.Fault{Op: "catalogue.open", Kind: ringfence.KindInternal, Text: "a set that is built in cannot be read", Err: err}
	}
	return Parse(b, name)
}

// maxSet bounds a set, in bytes.
const maxSet = 4 << 20

// Parse reads a set, and says everything that is wrong with it.
func Parse(b []byte, name string) (*need.Set, error) {
	if len(b) > maxSet {
		return nil, invalid(name + " is larger than 4 MiB")
	}
	var s need.Set
	if err := yaml.UnmarshalWithOptions(b, &s, yaml.Strict()); err != nil {
		return nil, invalid(name + ": " + strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	if wrong := s.Check(); len(wrong) > 0 {
		return nil, invalid(name + ": " + strings.Join(wrong, "\n"+name+": "))
	}
	return &s, nil
}

func invalid(text string) error {
	return &ringfence.Fault{Op: "catalogue.parse", Kind: ringfence.KindInvalid, Text: text}
}

// Self makes a set of the flow table of a node: what listens is opened by those whom it serves, what dials is opened by the node. A Unix socket needs no network.
func Self(node string, flows []ringfence.Flow) *need.Set {
	s := &need.Set{ID: "self", Title: "What " + node + " needs of the network", Roles: map[string]need.Role{"node": {Text: "this node, " + node, Side: "customer"}}}
	for _, f := range flows {
		if f.Transport == "unix" {
			continue
		}
		n := need.Need{ID: f.Name, Purpose: f.Purpose, Protocol: string(f.TLS), Transport: []string{f.Transport}, FromPorts: []need.Ports{need.Ephemeral()}}
		if f.Ports != (ringfence.PortRange{}) {
			n.ToPorts = []need.Ports{need.Ports(f.Ports)}
		} else {
			n.Chosen = "the other side, as DNS says"
		}
		if f.DSCP > 0 {
			n.DSCP = &f.DSCP
		}
		peer := roleOf(f.Peers)
		s.Roles[peer] = need.Role{Text: f.Peers, Side: "elsewhere"}
		if f.Direction == ringfence.Listens {
			n.Direction, n.From, n.To = need.Inbound, []string{peer}, []string{"node"}
			if f.TLS == ringfence.MediaSRTP { // phones send from where they listen
				n.Note = "the other direction is opened by the node, from the same ports"
			}
		} else {
			n.Direction, n.From, n.To = need.Outbound, []string{"node"}, []string{peer}
		}
		if f.Until != "" {
			n.Note = strings.TrimPrefix(n.Note+"; until "+f.Until, "; ")
		}
		s.Needs = append(s.Needs, n)
	}
	return s
}

// roleOf makes a word of who is at the other end.
func roleOf(peers string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(peers), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }), "-")
}

// Past is a set as it was, with what of the history could not be undone.
type Past struct {
	*need.Set
	Undone    []need.Change // the latest first
	NotUndone []need.Change // what the history tells in words only, or of what the tables do not hold
}

// groupOf returns the group whose networks changes of a category are about.
func groupOf(category string) string {
	return map[string]string{"webex-calling-subnets": "webex-calling", "device-configuration": "device-configuration", "application-configuration": "application-configuration"}[category]
}

// At returns a set as it was at the end of a day, as far as its history tells: networks come and go as the changes after that day say, the other way round.
func At(s *need.Set, day time.Time) Past {
	out := Past{Set: clone(s)}
	date := day.UTC().Format(time.DateOnly)
	for _, c := range s.Changes { // the latest first
		if c.Date <= date {
			continue
		}
		if apply(out.Set, c, true) {
			out.Undone = append(out.Undone, c)
		} else {
			out.NotUndone = append(out.NotUndone, c)
		}
	}
	out.Set.Changes = slices.DeleteFunc(slices.Clone(s.Changes), func(c need.Change) bool { return c.Date > date })
	return out
}

// Replay makes the changes that were undone again, the oldest first.
func (p Past) Replay() *need.Set {
	s := clone(p.Set)
	for _, c := range slices.Backward(p.Undone) {
		apply(s, c, false)
	}
	return s
}

func clone(s *need.Set) *need.Set {
	c := *s
	c.Groups = slices.Clone(s.Groups)
	for i := range c.Groups {
		c.Groups[i].Networks = slices.Clone(c.Groups[i].Networks)
	}
	c.Roles = maps.Clone(s.Roles)
	return &c
}

// apply makes a change, or takes it back, if all that it names can be found and put: a change is made whole or not at all.
func apply(s *need.Set, c need.Change, back bool) bool {
	g := s.Group(groupOf(c.Category))
	if g == nil {
		return false
	}
	var gone, come []netip.Prefix
	items := prefixes(c.Items)
	switch {
	case len(items) == 0 || len(items) != len(c.Items):
		return false
	case c.Change == "add":
		come = items
	case c.Change == "remove":
		gone = items
	case c.Was != "" && c.Is != "":
		gone, come = prefixes([]string{c.Was}), prefixes([]string{c.Is})
	default:
		return false
	}
	if back {
		gone, come = come, gone
	}
	nets := g.Networks
	for _, p := range gone {
		i := slices.IndexFunc(nets, func(n need.Network) bool { return n.Prefix == p })
		if i < 0 {
			return false
		}
		nets = slices.Delete(slices.Clone(nets), i, i+1)
	}
	for _, p := range come {
		if slices.ContainsFunc(nets, func(n need.Network) bool { return n.Prefix.Overlaps(p) }) {
			return false
		}
		nets = append(slices.Clone(nets), need.Network{Prefix: p})
	}
	g.Networks = nets
	return len(gone)+len(come) > 0
}

func prefixes(items []string) (out []netip.Prefix) {
	for _, i := range items {
		if a, err := netip.ParseAddr(i); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		} else if p, err := netip.ParsePrefix(i); err == nil {
			out = append(out, p)
		}
	}
	return out
}
