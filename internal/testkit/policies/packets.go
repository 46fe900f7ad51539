package policies

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
)

// Check tells which of some packets a firewall does not treat as expected. Each line is a packet: what happens to it (pass or drop; with "later", when its connection is up),
// where it comes in and leaves, the protocol, and both ends: "pass inside>outside tcp 10.0.0.1:1024 192.0.2.1:443". ICMP has type and code in place of ports: "icmp 10.0.0.1 192.0.2.1 8/0".
func Check(rules *firewall.Ruleset, n *box.Interfaces, packets string) (wrong []string) {
	for line := range strings.Lines(packets) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		w := strings.Fields(line)
		chains := rules.Chains
		if w[1] == "later" {
			chains, w = rules.Later, append(w[:1:1], w[2:]...)
		}
		p, err := packet(w[1:], n)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", line, err))
			continue
		}
		passes, why := true, ""
		for i := range chains {
			if c := &chains[i]; c.Scope.Has(p) {
				rule, accept := c.Decide(p)
				if !accept {
					passes = false
					why = "the policy of " + c.Name
					if rule != nil {
						why = rule.Name
					}
				}
			}
		}
		if (w[0] == "pass") != passes {
			wrong = append(wrong, fmt.Sprintf("%s: it passes: %v %s", line, passes, why))
		}
	}
	return wrong
}

// Judge reads a configuration and tells which packets (see Check) it does not treat as expected, and whether what is not understood is other than that: unknown is part of it, or empty if all is.
func Judge(read func([]byte, *box.Interfaces) (*firewall.Ruleset, error), text, packets, unknown string) []string {
	n := &box.Interfaces{}
	rules, err := read([]byte(text), n)
	if err != nil {
		return []string{err.Error()}
	}
	var said []string
	for _, u := range rules.Unknown {
		said = append(said, u.Where+": "+u.What)
	}
	wrong := Check(rules, n, packets)
	if got := strings.Join(said, "\n"); unknown == "" && got != "" || !strings.Contains(got, unknown) {
		wrong = append(wrong, "not understood:\n"+got+"\nwant:\n"+unknown)
	}
	return wrong
}

// Sound says what is wrong with rules that a reader made of any text: they come to more boxes than most, or do not accept what they are said to accept. It is empty if nothing is;
// of many boxes only the number is looked at.
func Sound(rules *firewall.Ruleset, most int) string {
	boxes := 0
	for _, c := range rules.Chains {
		for _, u := range c.Rules {
			boxes += len(u.Boxes)
		}
	}
	if boxes > most {
		return fmt.Sprintf("%d boxes", boxes)
	}
	if boxes > 2000 {
		return ""
	}
	accepted, err := firewall.Accepted(rules.Chains)
	if err != nil {
		return ""
	}
	for _, b := range accepted[:min(len(accepted), 50)] {
		p := b.Packet()
		for i := range rules.Chains {
			if c := &rules.Chains[i]; c.Scope.Has(p) {
				if _, ok := c.Decide(p); !ok {
					return p.Describe(nil) + " is accepted, and " + c.Name + " drops it"
				}
			}
		}
	}
	return ""
}

func packet(w []string, n *box.Interfaces) (p box.Packet, err error) {
	if len(w) < 4 {
		return p, fmt.Errorf("a packet has a way, a protocol and two ends")
	}
	in, out, _ := strings.Cut(w[0], ">")
	number := func(name string) int {
		if name == "" || name == "-" {
			return 0
		}
		return n.Number(name)
	}
	p.In, p.Out = number(in), number(out)
	switch {
	case out == "" && in != "":
		p.Hook = box.Input
	case in == "":
		p.Hook = box.Output
	}
	known := map[string]uint8{"tcp": box.TCP, "udp": box.UDP, "icmp": box.ICMP, "icmp6": box.ICMPv6, "sctp": box.SCTP, "gre": 47, "esp": 50}
	if p.Protocol = known[w[1]]; p.Protocol == 0 {
		return p, fmt.Errorf("%s is no protocol", w[1])
	}
	if box.HasPorts(p.Protocol) {
		from, err1 := netip.ParseAddrPort(w[2])
		to, err2 := netip.ParseAddrPort(w[3])
		if err1 != nil || err2 != nil {
			return p, fmt.Errorf("%s and %s are no ends", w[2], w[3])
		}
		p.From, p.FromPort, p.To, p.ToPort = from.Addr(), from.Port(), to.Addr(), to.Port()
		return p, nil
	}
	if p.From, err = netip.ParseAddr(w[2]); err != nil {
		return p, err
	}
	if p.To, err = netip.ParseAddr(w[3]); err != nil || len(w) < 5 {
		return p, err
	}
	kind, code, _ := strings.Cut(w[4], "/")
	a, err1 := strconv.Atoi(kind)
	b, err2 := strconv.Atoi(code)
	if err1 != nil || err2 != nil {
		return p, fmt.Errorf("%s is no type and code", w[4])
	}
	p.FromPort, p.ToPort = uint16(a), uint16(b)
	return p, nil
}
