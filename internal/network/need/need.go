package need

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence"
)

// Ports is a range of ports, inclusive, written as 5061 or 16384-32767.
type Ports ringfence.PortRange

// Ephemeral are the ports that an operating system chooses by itself for what it opens.
func Ephemeral() Ports { return Ports{First: 1024, Last: 65535} }

// ParsePorts reads one port, or two with a dash; nothing about 65535, and no range the wrong way round.
func ParsePorts(s string) (Ports, error) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || a > b {
		return Ports{}, &ringfence.Fault{Op: "need.ports", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.40q is neither a port nor a range of ports", s), Hint: "write 5061 or 16384-32767"}
	}
	return Ports{First: uint16(a), Last: uint16(b)}, nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Ports) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePorts(string(b))
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (p Ports) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String returns "5061", "16384-32767" or "any".
func (p Ports) String() string { return ringfence.PortRange(p).String() }

// Direction says who opens, seen from the site.
type Direction string

// The directions. What comes back on the way that was opened is never a row of its own.
const (
	Outbound Direction = "outbound" // from the site to the service
	Inbound  Direction = "inbound"  // from the service into the site
	Internal Direction = "internal" // within the site
)

// Need is one row.
type Need struct {
	ID        string    `json:"id" yaml:"id"`
	Purpose   string    `json:"purpose" yaml:"purpose"`
	Protocol  string    `json:"protocol" yaml:"protocol"`   // as people call it, e.g. SIP-TLS
	Transport []string  `json:"transport" yaml:"transport"` // tcp, udp, icmp
	Direction Direction `json:"direction" yaml:"direction"`
	From      []string  `json:"from" yaml:"from"` // roles
	FromPorts []Ports   `json:"from_ports,omitempty" yaml:"from-ports"`
	To        []string  `json:"to" yaml:"to"` // roles
	ToPorts   []Ports   `json:"to_ports,omitempty" yaml:"to-ports"`
	Chosen    string    `json:"chosen,omitempty" yaml:"chosen"`   // who chooses the ports, if the table names none
	Typical   []Ports   `json:"typical,omitempty" yaml:"typical"` // what is chosen most often
	DSCP      *uint8    `json:"dscp,omitempty" yaml:"dscp"`
	Note      string    `json:"note,omitempty" yaml:"note"`
	Line      int       `json:"line,omitempty" yaml:"line"`           // of the document
	Repairs   []string  `json:"repairs,omitempty" yaml:"repairs"`     // what was mended in this row
	Questions []string  `json:"questions,omitempty" yaml:"questions"` // what is contradictory about it
}

// Web reports whether a web proxy carries the row: HTTP and HTTPS go through one, SIP and media never do.
func (n Need) Web() bool {
	for p := range strings.SplitSeq(n.Protocol, "/") {
		if p != "HTTP" && p != "HTTPS" {
			return false
		}
	}
	return slices.Contains(n.Transport, "tcp")
}

// Confidence says how far a row can be believed.
type Confidence string

// The confidences.
const (
	Running  Confidence = "running"  // it is what a node really does
	Printed  Confidence = "printed"  // as the document prints it
	Repaired Confidence = "repaired" // damage of the document was mended
	Open     Confidence = "open"     // the document contradicts itself; see the question for what is decided
)

// Confidence returns how far the row can be believed.
func (n Need) Confidence() Confidence {
	switch {
	case len(n.Questions) > 0:
		return Open
	case len(n.Repairs) > 0:
		return Repaired
	case n.Line > 0:
		return Printed
	}
	return Running
}

// Role is somebody at one end of a row.
type Role struct {
	Text string `json:"text" yaml:"text"`
	Side string `json:"side" yaml:"side"` // customer, or whose it is
}

// Network is one address range of a group.
type Network struct {
	Prefix    netip.Prefix `json:"prefix" yaml:"prefix"`
	Line      int          `json:"line,omitempty" yaml:"line"`
	Printed   string       `json:"printed,omitempty" yaml:"printed"` // how the document prints it, where that was mended
	Repairs   []string     `json:"repairs,omitempty" yaml:"repairs"`
	Questions []string     `json:"questions,omitempty" yaml:"questions"`
}

// NetworkGroup is the addresses of a service.
type NetworkGroup struct {
	Name     string    `json:"name" yaml:"name"`
	Text     string    `json:"text" yaml:"text"`
	Networks []Network `json:"networks" yaml:"networks"`
}

// Domain is a name, or all names below one, that must be reachable.
type Domain struct {
	ID        string   `json:"id" yaml:"id"`
	Pattern   string   `json:"pattern" yaml:"pattern"` // *.example.com means example.com too
	Purpose   string   `json:"purpose" yaml:"purpose"`
	UsedBy    []string `json:"used_by,omitempty" yaml:"used-by"`
	Line      int      `json:"line,omitempty" yaml:"line"`
	Repairs   []string `json:"repairs,omitempty" yaml:"repairs"`
	Questions []string `json:"questions,omitempty" yaml:"questions"`
}

// Mark is how traffic of a role is marked (RFC 2474).
type Mark struct {
	ID        string   `json:"id" yaml:"id"`
	From      string   `json:"from" yaml:"from"` // role
	Traffic   string   `json:"traffic" yaml:"traffic"`
	FromPorts []Ports  `json:"from_ports" yaml:"from-ports"`
	ToPorts   []Ports  `json:"to_ports" yaml:"to-ports"`
	DSCP      []uint8  `json:"dscp" yaml:"dscp"`
	Line      int      `json:"line,omitempty" yaml:"line"`
	Repairs   []string `json:"repairs,omitempty" yaml:"repairs"`
	Questions []string `json:"questions,omitempty" yaml:"questions"`
}

// Proxy is how a product can be told of a web proxy, and how it proves itself there.
type Proxy struct {
	ID             string   `json:"id" yaml:"id"`
	Product        string   `json:"product" yaml:"product"`
	SetUp          []string `json:"set_up" yaml:"set-up"`
	Authentication []string `json:"authentication" yaml:"authentication"`
	Line           int      `json:"line,omitempty" yaml:"line"`
}

// Forwarder is a name server that answers for a zone of the service.
type Forwarder struct {
	ID      string     `json:"id" yaml:"id"`
	Region  string     `json:"region" yaml:"region"`
	Site    string     `json:"site" yaml:"site"`
	Address netip.Addr `json:"address" yaml:"address"`
	Zone    string     `json:"zone" yaml:"zone"`
	Line    int        `json:"line,omitempty" yaml:"line"`
}

// Reserved is a range of ports that nothing may use.
type Reserved struct {
	ID        string   `json:"id" yaml:"id"`
	Transport []string `json:"transport" yaml:"transport"`
	Ports     []Ports  `json:"ports" yaml:"ports"`
	Why       string   `json:"why" yaml:"why"`
	Line      int      `json:"line,omitempty" yaml:"line"`
}

// Fact is something that the document says beside its tables.
type Fact struct {
	ID   string `json:"id" yaml:"id"`
	Text string `json:"text" yaml:"text"`
	Line int    `json:"line,omitempty" yaml:"line"`
}

// Change is one entry of the document's history.
type Change struct {
	ID         string   `json:"id" yaml:"id"`
	Date       string   `json:"date" yaml:"date"` // YYYY-MM-DD
	Confidence string   `json:"confidence" yaml:"confidence"`
	Change     string   `json:"change" yaml:"change"` // add, modify or remove
	Category   string   `json:"category" yaml:"category"`
	Subject    string   `json:"subject" yaml:"subject"`
	Items      []string `json:"items,omitempty" yaml:"items"`
	Was        string   `json:"was,omitempty" yaml:"was"`
	Is         string   `json:"is,omitempty" yaml:"is"`
	Note       string   `json:"note,omitempty" yaml:"note"`
	Line       int      `json:"line,omitempty" yaml:"line"`
	Repairs    []string `json:"repairs,omitempty" yaml:"repairs"`
}

// Repair is damage of the document that was mended.
type Repair struct {
	ID       string `json:"id" yaml:"id"`
	Printed  string `json:"printed" yaml:"printed"`
	Restored string `json:"restored" yaml:"restored"`
	Why      string `json:"why" yaml:"why"`
}

// Loss is something that a rendering of a set does not say, or says differently.
type Loss struct {
	Row string `json:"row"` // id
	Why string `json:"why"`
}

// Question is a contradiction of the document that was not mended, with what is done about it until somebody decides otherwise.
type Question struct {
	ID       string `json:"id" yaml:"id"`
	Text     string `json:"text" yaml:"text"`
	Decision string `json:"decision" yaml:"decision"`
}

// Set is all that one service needs.
type Set struct {
	ID         string            `json:"set" yaml:"set"`
	Title      string            `json:"title" yaml:"title"`
	Document   string            `json:"document,omitempty" yaml:"document"` // where the rows come from
	Roles      map[string]Role   `json:"roles" yaml:"roles"`
	Groups     []NetworkGroup    `json:"groups,omitempty" yaml:"groups"`
	Addresses  map[string]string `json:"addresses,omitempty" yaml:"addresses"` // which group holds the addresses of a role
	Needs      []Need            `json:"needs" yaml:"needs"`
	Domains    []Domain          `json:"domains,omitempty" yaml:"domains"`
	Marks      []Mark            `json:"marks,omitempty" yaml:"marks"`
	Proxies    []Proxy           `json:"proxies,omitempty" yaml:"proxies"`
	Forwarders []Forwarder       `json:"forwarders,omitempty" yaml:"forwarders"`
	Reserved   []Reserved        `json:"reserved,omitempty" yaml:"reserved"`
	Facts      []Fact            `json:"facts,omitempty" yaml:"facts"`
	Changes    []Change          `json:"changes,omitempty" yaml:"changes"`
	Repairs    []Repair          `json:"repairs,omitempty" yaml:"repairs"`
	Questions  []Question        `json:"questions,omitempty" yaml:"questions"`
}

// Group returns a group by its name, or nil.
func (s *Set) Group(name string) *NetworkGroup {
	for i := range s.Groups {
		if s.Groups[i].Name == name {
			return &s.Groups[i]
		}
	}
	return nil
}

// NetworksOf returns the addresses of a role, if the set knows them.
func (s *Set) NetworksOf(role string) (out []netip.Prefix) {
	if g := s.Group(s.Addresses[role]); g != nil {
		for _, n := range g.Networks {
			out = append(out, n.Prefix)
		}
	}
	return out
}

// Check returns everything that is wrong with a set: ids that come twice, roles, repairs and questions that are not there, networks with host bits, rows that say nothing.
func (s *Set) Check() (wrong []string) {
	bad := func(when bool, format string, args ...any) {
		if when {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	ids, repairs, questions := map[string]bool{}, map[string]bool{}, map[string]bool{}
	id := func(name string) {
		bad(name == "" || ids[name], "%q is no id, or comes twice", name)
		ids[name] = true
	}
	for _, r := range s.Repairs {
		id(r.ID)
		repairs[r.ID] = true
	}
	for _, q := range s.Questions {
		id(q.ID)
		questions[q.ID] = true
		bad(q.Decision == "", "%s: nothing is decided", q.ID)
	}
	refers := func(where string, to []string, known map[string]bool) {
		for _, x := range to {
			bad(!known[x], "%s refers to %s, which is not there", where, x)
		}
	}
	for _, n := range s.Needs {
		id(n.ID)
		bad(n.Purpose == "" || len(n.Transport) == 0 || len(n.From) == 0 || len(n.To) == 0, "%s: a row needs a purpose, a transport and two ends", n.ID)
		for _, role := range append(slices.Clone(n.From), n.To...) {
			_, ok := s.Roles[role]
			bad(!ok, "%s: there is no role %s", n.ID, role)
		}
		for _, t := range n.Transport {
			bad(!slices.Contains([]string{"tcp", "udp", "icmp"}, t), "%s: %q is no transport", n.ID, t)
		}
		bad(!slices.Contains([]Direction{Outbound, Inbound, Internal}, n.Direction), "%s: %q is no direction", n.ID, n.Direction)
		bad(len(n.ToPorts) == 0 && n.Chosen == "" && !slices.Equal(n.Transport, []string{"icmp"}), "%s: neither ports nor who chooses them", n.ID)
		refers(n.ID, n.Repairs, repairs)
		refers(n.ID, n.Questions, questions)
	}
	for role, group := range s.Addresses {
		_, ok := s.Roles[role]
		bad(!ok || s.Group(group) == nil, "addresses: there is no role %s, or no group %s", role, group)
	}
	for _, g := range s.Groups {
		sorted := slices.Clone(g.Networks)
		slices.SortFunc(sorted, func(a, b Network) int {
			return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
		})
		for i := 1; i < len(sorted); i++ {
			a, b := sorted[i-1].Prefix, sorted[i].Prefix
			bad(a.Overlaps(b), "%s: %s and %s overlap", g.Name, a, b)
		}
		for _, n := range g.Networks {
			bad(!n.Prefix.IsValid() || n.Prefix != n.Prefix.Masked(), "%s: %s has host bits", g.Name, n.Prefix)
			refers(g.Name, n.Repairs, repairs)
			refers(g.Name, n.Questions, questions)
		}
	}
	for _, d := range s.Domains {
		id(d.ID)
		refers(d.ID, d.Repairs, repairs)
	}
	for _, m := range s.Marks {
		id(m.ID)
		for _, v := range m.DSCP {
			bad(v > 63, "%s: DSCP %d is above 63", m.ID, v)
		}
	}
	for i, c := range s.Changes {
		id(c.ID)
		bad(i > 0 && cmp.Compare(s.Changes[i-1].Date, c.Date) < 0, "%s is later than what stands before it", c.ID)
		refers(c.ID, c.Repairs, repairs)
	}
	return wrong
}

// Concerns returns whose work a change is: firewall, proxy, dns or qos; none for one that only rewords the document.
func (c Change) Concerns() []string {
	switch c.Category {
	case "domain", "host":
		for _, i := range c.Items {
			if strings.HasPrefix(i, "tcp/") || strings.HasPrefix(i, "udp/") {
				return []string{"firewall", "proxy", "dns"}
			}
		}
		return []string{"proxy", "dns"}
	case "qos", "mark":
		return []string{"qos"}
	case "forwarder":
		return []string{"dns"}
	case "row":
		if cut := func(s string) string { before, _, _ := strings.Cut(s, ", DSCP "); return before }; c.Change == "modify" && cut(c.Was) == cut(c.Is) {
			return []string{"qos"}
		}
		return []string{"firewall"}
	case "document":
		return nil
	case "media-ports":
		return []string{"firewall", "qos"}
	}
	return []string{"firewall"}
}

// Version names a state of the set: the day of its latest change and how many there were. A set without a history has none.
func (s *Set) Version() string {
	if len(s.Changes) == 0 {
		return ""
	}
	return fmt.Sprintf("%s.%d", s.Changes[0].Date, len(s.Changes))
}

// Since returns the changes after a day or a version, the latest first; all of them for "".
func (s *Set) Since(from string) ([]Change, error) {
	if from == "" {
		return s.Changes, nil
	}
	day, count, versioned := strings.Cut(from, ".")
	if _, err := time.Parse(time.DateOnly, day); err != nil {
		return nil, &ringfence.Fault{Op: "need.since", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.40q is neither a day nor a version", from), Hint: "write 2024-01-31, or a version such as " + cmp.Or(s.Version(), "2024-07-02.78")}
	}
	if versioned {
		n, err := strconv.Atoi(count)
		if err != nil || n < 0 || n > len(s.Changes) {
			return nil, &ringfence.Fault{Op: "need.since", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("there was no version %.40q of %s", from, s.ID), Hint: "the latest is " + s.Version()}
		}
		return s.Changes[:len(s.Changes)-n], nil
	}
	var out []Change
	for _, c := range s.Changes {
		if c.Date > day {
			out = append(out, c)
		}
	}
	return out, nil
}
