package duties

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/ready/verdict"
)

// Status says whether a duty is done.
type Status string

// The statuses.
const (
	Done   Status = "done"   // tools found it so
	Undone Status = "undone" // tools found that it is not so
	Open   Status = "open"   // no tool saw it
)

// Evidence is one thing that a tool found.
type Evidence struct {
	File string `json:"file"`
	Tool string `json:"tool"`
	Says string `json:"says"`
	Good Status `json:"good"` // what follows for the duty; open: nothing does by itself
}

// Duty is one item of the list.
type Duty struct {
	ID       string     `json:"id"`
	Layer    string     `json:"layer"` // network, endpoint, applications
	Owner    string     `json:"owner"`
	Title    string     `json:"title"`
	Collect  string     `json:"collect"` // what to look at, or which verb finds out
	Status   Status     `json:"status"`
	Evidence []Evidence `json:"evidence"`
	ByHand   string     `json:"by_hand"` // who saw what, and when
}

// Checklist is the whole list.
type Checklist struct {
	Format string `json:"format"` // Format
	Duties []Duty `json:"duties"`
}

// Format names the form of a checklist.
const Format = "ringfence-duties/1"

const (
	partner   = "partner"
	either    = "partner or customer"
	instance  = "dedicated-instance" // the set
	maxFile   = 64 << 20             // the proof of a large firewall
	maxByHand = 2000
)

// New returns the list without any evidence.
func New() *Checklist {
	c := &Checklist{Format: Format}
	add := func(layer, owner, id, title, collect string) {
		c.Duties = append(c.Duties, Duty{ID: id, Layer: layer, Owner: owner, Title: title, Collect: collect, Status: Open, Evidence: []Evidence{}})
	}
	add("network", partner, "vlans", "Voice and data are in VLANs of their own", "the switch: `show vlan brief`, `show interfaces switchport`")
	add("network", partner, "port-security", "Each port of a switch takes few hardware addresses, so that nobody fills its table", "the switch: `show port-security`")
	add("network", partner, "source-guard", "Packets with a source address that was not leased to the port are dropped (IP source guard)", "the switch: `show ip verify source`, `show ip dhcp snooping binding`")
	add("network", partner, "arp-inspection", "ARP that does not fit a lease is dropped, gratuitous ARP too (dynamic ARP inspection)", "the switch: `show ip arp inspection`")
	add("network", partner, "dot1x", "Phones prove themselves to the switch, each in its VLAN (IEEE 802.1X)", "`ringfence phone dot1x eth0 --json` at a port for phones")
	add("network", partner, "marks", "Voice keeps its marks of quality of service on the way", "`ringfence ready run --json`: the check dscp")
	add("network", partner, "firewall", "The firewall lets the rows of the set through and nothing else", "`ringfence network prove --json`")
	add("network", partner, "no-nat", "Between phones and Unified CM nothing translates addresses", "`ringfence ready run --set dedicated-instance --json`: the check nat")
	add("network", partner, "forwarder", "The site's resolvers forward the zone of the instance to its own servers", "`ringfence ready run --set dedicated-instance --resolver ADDRESS --customer NAME --json`")
	add("network", partner, "reserved-ports", "Nothing of the site uses the ports 5063 to 5080, which are reserved", "gateways and trunks: which ports they signal from and to")
	add("endpoint", either, "sealed", "Phones signal over TLS", "`ringfence phone explain --cfg cfg.xml`: SIP_Transport of each line")
	add("endpoint", either, "unused", "What a phone does not need is shut: web access, files, ping", "`ringfence network phone cfg.xml --set SET --json`")
	add("endpoint", either, "console", "PC port, voice VLAN behind it, gratuitous ARP, settings, SSH and console are off where nobody uses them", "the phone's configuration")
	add("endpoint", either, "firmware", "Phones take signed firmware and configurations only, and start securely where the model can", "the phone's status page; `ringfence phone firmware` checks a signature")
	add("endpoint", either, "certificates", "Phones that need one have a locally significant certificate", "the cluster: the list of CAPF certificates")
	add("applications", partner, "mixed-mode", "The cluster is in mixed mode, and soft phones sign in by SIP OAuth", "the cluster: enterprise parameters")
	add("applications", partner, "trunks", "Trunks, gateways, survivable gateways and voicemail ports are sealed", "the cluster: security profiles of each")
	add("applications", partner, "toll-fraud", "Devices must prove themselves, and call policies and the dial plan restrict who dials where", "the cluster: device security profiles, calling search spaces, call policy of Expressway")
	return c
}

func invalid(name, text string, err error) error {
	return &ringfence.Fault{Op: "duties", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%s: %s", name, text), Err: err,
		Hint: "give what `ready run`, `network prove`, `network phone`, `phone dot1x` or `ready checklist` wrote with --json"}
}

// add notes evidence; what says that a duty is not done weighs more than what says that it is.
func (c *Checklist) add(id string, e Evidence) {
	i := slices.IndexFunc(c.Duties, func(d Duty) bool { return d.ID == id })
	d := &c.Duties[i]
	d.Evidence = append(d.Evidence, e)
	if e.Good == Undone || e.Good == Done && d.Status == Open {
		d.Status = e.Good
	}
}

// file is as much as is needed of what each tool writes to know it, and to judge by it.
type file struct {
	Format string `json:"format"`
	// of network prove
	Verdict *string `json:"verdict"`
	Set     string  `json:"set"`
	Missing int     `json:"missing_count"`
	Later   int     `json:"later_count"`
	Wide    int     `json:"wide_count"`
	// of network phone
	Ping     *bool `json:"answers_ping"`
	Firewall bool  `json:"firewall"`
	Open     []struct {
		Transport string `json:"transport"`
		Ports     string `json:"ports"`
		Service   string `json:"service"`
	} `json:"open"`
	Compared *struct {
		Set    string `json:"set"`
		Excess int    `json:"excess"`
	} `json:"compared"`
	// of phone dot1x
	State    *string `json:"state"`
	Protocol string  `json:"protocol"`
	Server   string  `json:"server"`
	Error    string  `json:"error"`
	// of ready checklist
	Duties []Duty `json:"duties"`
}

// Parse reads what a tool wrote as JSON, and enters what it found.
func (c *Checklist) Parse(b []byte, name string) error {
	if len(b) > maxFile {
		return invalid(name, "it is longer than 64 MiB", nil)
	}
	var kind struct {
		Format   string          `json:"format"`
		Firewall json.RawMessage `json:"firewall"` // a word in a readiness report, a truth in what is said of a phone
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return invalid(name, "it is no JSON of a tool", err)
	}
	if kind.Format == verdict.Format {
		r, err := verdict.ParseReport(b)
		if err != nil {
			return err
		}
		c.readiness(r, name)
		return nil
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return invalid(name, "it is no JSON of a tool", err)
	}
	switch {
	case f.Format == Format:
		return c.again(f.Duties, name)
	case f.Verdict != nil:
		c.proof(f, name)
	case f.Ping != nil:
		c.phone(f, name)
	case f.State != nil:
		c.access(f, name)
	default:
		return invalid(name, "it is of no tool whose findings count here", nil)
	}
	return nil
}

// again takes over what somebody wrote by hand.
func (c *Checklist) again(old []Duty, name string) error {
	for _, o := range old {
		i := slices.IndexFunc(c.Duties, func(d Duty) bool { return d.ID == o.ID })
		if i < 0 {
			return invalid(name, fmt.Sprintf("there is no duty %.40q", o.ID), nil)
		}
		if len(o.ByHand) > maxByHand {
			return invalid(name, fmt.Sprintf("what was written by hand at %s is longer than %d bytes", o.ID, maxByHand), nil)
		}
		if o.ByHand != "" {
			c.Duties[i].ByHand = o.ByHand
		}
	}
	return nil
}

func (c *Checklist) readiness(r *verdict.Report, name string) {
	when := ""
	if !r.Began.IsZero() {
		when = ", " + r.Began.UTC().Format("2006-01-02")
	}
	for _, k := range r.Checks {
		if k.Status == verdict.Skip {
			continue
		}
		good := Done
		if k.Status != verdict.Pass {
			good = Undone
		}
		e := Evidence{File: name, Tool: "ready run" + when, Says: fmt.Sprintf("%s: %s (%s)", k.ID, k.Status, k.Seen), Good: good}
		switch {
		case k.ID == "dscp":
			c.add("marks", e)
		case k.Kind == "dns" && strings.HasPrefix(k.Title, "Forwarding of "):
			c.add("forwarder", e)
		case k.ID == "nat":
			mapping := k.Values["mapping"]
			e.Says = "mapping: " + mapping
			switch none := strings.HasPrefix(mapping, "none"); {
			case mapping == "":
				continue
			case r.Set != instance: // on the way to another service there may be one
				e.Good = Open
				e.Says += fmt.Sprintf("; that is on the way to %s, and the duty is about the instance", r.Set)
			case none:
				e.Good = Done
			default:
				e.Good = Undone
			}
			c.add("no-nat", e)
		case k.Kind == "tcp" || k.Kind == "udp": // whether anything else passes, it does not tell
			if k.Status != verdict.Fail {
				continue
			}
			e.Says = fmt.Sprintf("%s: %s; blocked: %s", k.ID, k.Status, strings.Join(k.Blocked, ", "))
			c.add("firewall", e)
		}
	}
}

func (c *Checklist) proof(f file, name string) {
	e := Evidence{File: name, Tool: "network prove", Says: fmt.Sprintf("%s for %s: %d sets of packets missing, %d too wide", *f.Verdict, f.Set, f.Missing+f.Later, f.Wide), Good: Undone}
	switch *f.Verdict {
	case "exact":
		e.Good = Done
	case "unknown":
		e.Good = Open
	}
	c.add("firewall", e)
}

func (c *Checklist) phone(f file, name string) {
	// A line that signals by TCP opens no port, so that this alone proves nothing.
	clear := Evidence{File: name, Tool: "network phone", Says: "no line listens for SIP by UDP; `ringfence phone explain` tells how each signals", Good: Open}
	for _, o := range f.Open {
		if strings.HasPrefix(o.Service, "SIP of line ") {
			clear.Good, clear.Says = Undone, o.Service+" (udp "+o.Ports+")"
		}
	}
	e := Evidence{File: name, Tool: "network phone", Good: Open}
	switch {
	case !f.Firewall:
		clear.Says = "the phone's firewall is off, which says nothing of its lines"
		e.Good, e.Says = Undone, "the phone's firewall is off"
	case f.Compared == nil:
		e.Says = fmt.Sprintf("%d ports or ranges are open; --set tells for whom", len(f.Open))
	case f.Compared.Excess > 0:
		e.Good, e.Says = Undone, fmt.Sprintf("%d ports or ranges are open that no row of %s needs", f.Compared.Excess, f.Compared.Set)
	default:
		e.Good, e.Says = Done, "nothing is open that no row of "+f.Compared.Set+" needs"
	}
	c.add("sealed", clear)
	c.add("unused", e)
}

func (c *Checklist) access(f file, name string) {
	e := Evidence{File: name, Tool: "phone dot1x", Good: Open, Says: *f.State}
	switch *f.State {
	case "Authenticated":
		e.Good, e.Says = Done, fmt.Sprintf("authenticated by %s; the server is %s", f.Protocol, f.Server)
	case "Held":
		e.Good, e.Says = Undone, "refused: "+f.Error
	case "Disabled":
		e.Good, e.Says = Undone, "802.1X is off"
	}
	c.add("dot1x", e)
}

// Count returns how many duties stand so.
func (c *Checklist) Count(s Status) (n int) {
	for _, d := range c.Duties {
		if d.Status == s {
			n++
		}
	}
	return n
}

// Err returns a conflict if a tool found a duty undone.
func (c *Checklist) Err() error {
	var ids []string
	for _, d := range c.Duties {
		if d.Status == Undone {
			ids = append(ids, d.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return &ringfence.Fault{Op: "duties", Kind: ringfence.KindConflict, Text: fmt.Sprintf("%d of %d duties are not done: %s", len(ids), len(c.Duties), strings.Join(ids, ", ")), Hint: "the evidence of each says what was found; change that and test again"}
}
