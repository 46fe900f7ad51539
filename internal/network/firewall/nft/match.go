package nft

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
)

// field is what a match looks at.
type field struct {
	dim     box.Dim
	last    box.Num  // the largest value
	implies box.List // what every packet that has the field is
	number  func(string) (box.Num, bool)
	wild    bool    // a value may end with "*", which is not understood
	mask    box.Num // with which values are compared; all ones if there is none
	masked  bool
}

func both() box.List { return box.List{box.Everything(box.IPv4), box.Everything(box.IPv6)} }

// within returns the part of each box whose numbers of a dimension are in an interval.
func within(l box.List, d box.Dim, s box.Span) (out box.List) {
	for _, b := range l {
		c := b
		c[d] = s
		if c, ok := b.Intersect(c); ok {
			out = append(out, c)
		}
	}
	return out
}

// limited sets a dimension of each box.
func limited(l box.List, d box.Dim, s box.Span) (out box.List) {
	for _, b := range l {
		b[d] = s
		out = append(out, b)
	}
	return out
}

// match returns the packets that a match has. An error says, in words for people, what is not understood.
func (r *reader) match(u *rule, m map[string]any) (box.List, error) {
	op, _ := m["op"].(string)
	left, right := m["left"], m["right"]
	l, _ := left.(map[string]any)
	if list, done, err := r.special(u, op, l, right); done || err != nil {
		return list, err
	}
	if parts, ok := l["concat"].([]any); ok {
		return r.concat(u, op, parts, right)
	}
	f, err := r.field(left)
	if err != nil {
		return nil, err
	}
	spans, err := r.spans(u, f, right)
	if err != nil {
		return nil, err
	}
	switch op {
	case "==":
	case "!=":
		spans = box.Inverse(spans, f.last)
	case "<", ">", "<=", ">=":
		if len(spans) != 1 || spans[0].First != spans[0].Last || f.masked {
			return nil, fmt.Errorf("a comparison %s with what is no number", op)
		}
		n := spans[0].First
		equal := box.Span{First: n, Last: n}
		below, above := box.Inverse([]box.Span{{First: n, Last: f.last}}, f.last), box.Inverse([]box.Span{{Last: n}}, f.last)
		switch op {
		case "<":
			spans = below
		case "<=":
			spans = append(below, equal)
		case ">":
			spans = above
		case ">=":
			spans = append(above, equal)
		}
	default:
		return nil, fmt.Errorf("the comparison %.20q", op)
	}
	var out box.List
	for _, s := range box.Merge(spans) {
		out = append(out, within(f.implies, f.dim, s)...)
	}
	return out, nil
}

// special reads what is not one number of a packet: the state of its connection, and the flags of TCP.
func (r *reader) special(u *rule, op string, left map[string]any, right any) (box.List, bool, error) {
	if ct, ok := left["ct"].(map[string]any); ok {
		key := ct["key"]
		if key == "direction" {
			if r.later {
				return nil, true, fmt.Errorf("a match of the direction of a connection that is up")
			}
			reply := right == "reply" || fmt.Sprint(right) == "1"
			if reply == (op == "!=") {
				return both(), true, nil
			}
			return nil, true, nil
		}
		if key != "state" || op != "==" && op != "in" && op != "!=" {
			return nil, true, fmt.Errorf("a match of ct %.20v", key)
		}
		states, err := r.words(u, right)
		if err != nil {
			return nil, true, err
		}
		has := func(name, number string) bool {
			return (slices.Contains(states, name) || slices.Contains(states, number)) != (op == "!=")
		}
		if r.later {
			if has("established", "2") {
				return both(), true, nil
			}
			return nil, true, nil
		}
		return firewall.FirstPackets(has("new", "8"), has("untracked", "64"), has("invalid", "1")), true, nil
	}
	var mask uint64 = 0xff
	if parts, ok := left["&"].([]any); ok && len(parts) == 2 {
		inner, _ := parts[0].(map[string]any)
		if isField(inner, "tcp", "flags") {
			n, err := r.flags(parts[1])
			if err != nil {
				return nil, true, err
			}
			left, mask = inner, n
		}
	}
	if !isField(left, "tcp", "flags") {
		return nil, false, nil
	}
	values := []any{right}
	if s, ok := right.(map[string]any); ok {
		if list, ok := s["set"].([]any); ok {
			values = list
		}
	}
	var wants []uint64
	for _, v := range values {
		n, err := r.flags(v)
		if err != nil {
			return nil, true, err
		}
		wants = append(wants, n)
	}
	seen := []uint64{2} // SYN
	if r.later {
		seen = []uint64{2 | 16, 16, 8 | 16, 1 | 16} // and ACK, with PSH or FIN
	}
	matched := 0
	for _, flags := range seen {
		has := slices.Contains(wants, flags&mask)
		switch op {
		case "==":
		case "!=":
			has = !has
		case "in":
			has = len(wants) == 1 && wants[0]&flags != 0
		default:
			return nil, true, fmt.Errorf("the comparison %.20q of flags", op)
		}
		if has {
			matched++
		}
	}
	switch matched {
	case 0:
		return nil, true, nil
	case len(seen):
		return limited(both(), box.Protocol, box.One(box.TCP)), true, nil
	}
	return nil, true, fmt.Errorf("a match of flags that some packets of a connection have and others have not")
}

func isField(left map[string]any, protocol, name string) bool {
	p, _ := left["payload"].(map[string]any)
	return p["protocol"] == protocol && p["field"] == name
}

// words returns the plain values of the right side.
func (r *reader) words(u *rule, right any) (out []string, err error) {
	values := []any{right}
	switch v := right.(type) {
	case []any:
		values = v
	case map[string]any:
		if values, err = r.elements(u, v); err != nil {
			return nil, err
		}
	}
	for _, v := range values {
		switch v := v.(type) {
		case string:
			if strings.HasPrefix(v, "@") {
				return nil, fmt.Errorf("a set of states")
			}
			out = append(out, v)
		case json.Number:
			out = append(out, v.String())
		case []any:
			more, err := r.words(u, v)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		default:
			return nil, fmt.Errorf("a value that is no word")
		}
	}
	return out, nil
}

// flags adds the flags of TCP.
func (r *reader) flags(v any) (sum uint64, err error) {
	switch v := v.(type) {
	case json.Number:
		return strconv.ParseUint(v.String(), 10, 8)
	case string:
		if i := slices.Index([]string{"fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"}, v); i >= 0 {
			return 1 << i, nil
		}
	case []any:
		for _, one := range v {
			n, err := r.flags(one)
			if err != nil {
				return 0, err
			}
			sum |= n
		}
		return sum, nil
	case map[string]any:
		if list, ok := v["|"].([]any); ok {
			return r.flags(list)
		}
	}
	return 0, fmt.Errorf("flags of TCP that are no numbers")
}

// field finds what the left side of a match looks at.
func (r *reader) field(left any) (*field, error) {
	l, _ := left.(map[string]any)
	if parts, ok := l["&"].([]any); ok && len(parts) == 2 {
		f, err := r.field(parts[0])
		if err != nil {
			return nil, err
		}
		text := fmt.Sprint(parts[1])
		mask, ok := f.number(text)
		if !ok || f.masked {
			return nil, fmt.Errorf("a mask %.40q", text)
		}
		f.mask, f.masked = mask, true
		return f, nil
	}
	if meta, ok := l["meta"].(map[string]any); ok {
		return r.meta(fmt.Sprint(meta["key"]))
	}
	p, _ := l["payload"].(map[string]any)
	protocol, _ := p["protocol"].(string)
	name, _ := p["field"].(string)
	port := &field{last: box.N(65535), number: plain}
	family := map[string]uint8{"ip": box.IPv4, "ip6": box.IPv6}[protocol]
	what := protocol + " " + name
	switch what {
	case "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr":
		all := box.Everything(family)
		f := &field{dim: box.From, last: all[box.From].Last, implies: box.List{all}, number: func(s string) (box.Num, bool) {
			a, err := netip.ParseAddr(s)
			return box.Addr(a), err == nil && a.Zone() == "" && a.Is4() == (family == box.IPv4)
		}}
		if name == "daddr" {
			f.dim = box.To
		}
		return f, nil
	case "ip protocol", "ip6 nexthdr":
		return &field{dim: box.Protocol, last: box.N(255), implies: box.List{box.Everything(family)}, number: protocolNumber}, nil
	case "icmp type", "icmpv6 type", "icmp code", "icmpv6 code":
		f := &field{dim: box.FromPort, last: box.N(255), number: icmpType(protocol)}
		if name == "code" {
			f.dim, f.number = box.ToPort, plain
		}
		if protocol == "icmp" {
			f.implies = limited(both()[:1], box.Protocol, box.One(box.ICMP))
		} else {
			f.implies = limited(both()[1:], box.Protocol, box.One(box.ICMPv6))
		}
		return f, nil
	}
	number := map[string]uint8{"tcp": box.TCP, "udp": box.UDP, "sctp": box.SCTP, "dccp": box.DCCP, "udplite": box.UDPLite}[protocol]
	switch name {
	case "sport":
		port.dim = box.FromPort
	case "dport":
		port.dim = box.ToPort
	default:
		return nil, fmt.Errorf("a match of %.40s", describe(left))
	}
	switch {
	case number != 0:
		port.implies = limited(both(), box.Protocol, box.One(number))
	case protocol == "th": // bytes where ports would be; only protocols with ports are taken, because the others have no first bytes here
		for _, b := range box.Real() {
			if b[box.Protocol].First == b[box.Protocol].Last && box.HasPorts(uint8(b[box.Protocol].First.Lo)) {
				port.implies = append(port.implies, b)
			}
		}
	default:
		return nil, fmt.Errorf("a match of %.40s", describe(left))
	}
	return port, nil
}

func describe(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "something"
	}
	return string(b)
}

func (r *reader) meta(key string) (*field, error) {
	switch key {
	case "l4proto":
		return &field{dim: box.Protocol, last: box.N(255), implies: both(), number: protocolNumber}, nil
	case "nfproto":
		return &field{dim: box.Family, last: box.N(255), implies: both(), number: func(s string) (box.Num, bool) {
			n, ok := map[string]uint8{"ipv4": box.IPv4, "2": box.IPv4, "ipv6": box.IPv6, "10": box.IPv6}[s]
			return box.N(n), ok
		}}, nil
	case "protocol":
		return &field{dim: box.Family, last: box.N(255), implies: both(), number: func(s string) (box.Num, bool) {
			n, ok := map[string]uint8{"ip": box.IPv4, "2048": box.IPv4, "ip6": box.IPv6, "34525": box.IPv6}[s]
			return box.N(n), ok
		}}, nil
	case "iifname", "oifname", "iif", "oif":
		f := &field{dim: box.In, last: box.N(box.MaxInterface), implies: both(), wild: true, number: func(s string) (box.Num, bool) { return box.N(r.interfaces.Number(s)), s != "" && len(s) < 16 }}
		if key[0] == 'o' {
			f.dim = box.Out
		}
		return f, nil
	}
	return nil, fmt.Errorf("a match of meta %.40s", key)
}

func plain(s string) (box.Num, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return box.N(n), err == nil
}

func protocolNumber(s string) (box.Num, bool) {
	if n, ok := map[string]uint8{"icmp": box.ICMP, "igmp": 2, "tcp": box.TCP, "udp": box.UDP, "dccp": box.DCCP, "gre": 47, "esp": 50, "ah": 51, "icmpv6": box.ICMPv6, "ipv6-icmp": box.ICMPv6, "sctp": box.SCTP, "udplite": box.UDPLite}[s]; ok {
		return box.N(n), true
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return box.N(n), err == nil
}

func icmpType(protocol string) func(string) (box.Num, bool) {
	names := map[string]uint8{"echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8, "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
		"timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16, "address-mask-request": 17, "address-mask-reply": 18}
	if protocol == "icmpv6" {
		names = map[string]uint8{"destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4, "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131,
			"mld-listener-done": 132, "mld-listener-reduction": 132, "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138,
			"ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143}
	}
	return func(s string) (box.Num, bool) {
		if n, ok := names[s]; ok {
			return box.N(n), true
		}
		n, err := strconv.ParseUint(s, 10, 8)
		return box.N(n), err == nil
	}
}

// elements returns the values of a set, which stands in the rule or has a name.
func (r *reader) elements(u *rule, right any) ([]any, error) {
	if name, ok := right.(string); ok {
		if name, ok = strings.CutPrefix(name, "@"); ok {
			s := r.sets[u.Family+" "+u.Table+" "+name]
			if s == nil {
				return nil, fmt.Errorf("the set %.60q, which is not there", name)
			}
			if flags := fmt.Sprint(s.Flags); strings.Contains(flags, "dynamic") || strings.Contains(flags, "timeout") {
				return nil, fmt.Errorf("the set %.60q, whose elements come and go", name)
			}
			return unwrapped(s.Elem), nil
		}
	}
	if m, ok := right.(map[string]any); ok {
		if list, ok := m["set"].([]any); ok {
			return unwrapped(list), nil
		}
	}
	return []any{right}, nil
}

// unwrapped takes away what stands around an element with a counter or a comment.
func unwrapped(list []any) []any {
	out := make([]any, len(list))
	for i, e := range list {
		out[i] = unwrap(e)
		if pair, ok := e.([]any); ok && len(pair) == 2 {
			out[i] = []any{unwrap(pair[0]), pair[1]}
		}
	}
	return out
}

func unwrap(e any) any {
	if m, ok := e.(map[string]any); ok {
		if inner, ok := m["elem"].(map[string]any); ok {
			return inner["val"]
		}
	}
	return e
}

// spans returns the values that the right side has.
func (r *reader) spans(u *rule, f *field, right any) (out []box.Span, err error) {
	list, err := r.elements(u, right)
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		s, err := f.span(v)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// span reads one value: a number, a name, a network, a range.
func (f *field) span(v any) (box.Span, error) {
	one := func(v any) (box.Num, error) {
		var text string
		switch v := v.(type) {
		case string:
			text = v
		case json.Number:
			text = v.String()
		default:
			return box.Num{}, fmt.Errorf("a value %.60s", describe(v))
		}
		if f.wild && strings.HasSuffix(text, "*") {
			return box.Num{}, fmt.Errorf("all interfaces whose name begins with %.20q", strings.TrimSuffix(text, "*"))
		}
		n, ok := f.number(text)
		if !ok {
			return box.Num{}, fmt.Errorf("a value %.60q", text)
		}
		return n, nil
	}
	if v == "*" && !f.wild {
		return box.Span{Last: f.last}, nil
	}
	if f.masked {
		n, err := one(v)
		if err != nil {
			return box.Span{}, err
		}
		return f.behindMask(n)
	}
	m, _ := v.(map[string]any)
	if r, ok := m["range"].([]any); ok && len(r) == 2 && !f.wild {
		a, err := one(r[0])
		if err != nil {
			return box.Span{}, err
		}
		b, err := one(r[1])
		if err == nil && b.Less(a) {
			err = fmt.Errorf("a range the wrong way round")
		}
		return box.Span{First: a, Last: b}, err
	}
	if p, ok := m["prefix"].(map[string]any); ok {
		addr, _ := p["addr"].(string)
		bits, err := strconv.Atoi(fmt.Sprint(p["len"]))
		a, err2 := netip.ParseAddr(addr)
		if err != nil || err2 != nil || bits < 0 || bits > a.BitLen() || f.dim != box.From && f.dim != box.To {
			return box.Span{}, fmt.Errorf("a network %.60s", describe(v))
		}
		if _, ok := f.number(addr); !ok {
			return box.Span{}, fmt.Errorf("a network of the other family, %.60s", addr)
		}
		return box.Prefix(netip.PrefixFrom(a, bits)), nil
	}
	n, err := one(v)
	return box.Span{First: n, Last: n}, err
}

// behindMask returns the numbers that are n behind the mask; a mask with holes has too many intervals, and is not understood.
func (f *field) behindMask(n box.Num) (box.Span, error) {
	host := box.Num{Hi: f.last.Hi &^ f.mask.Hi, Lo: f.last.Lo &^ f.mask.Lo}
	next := box.Num{Hi: host.Hi, Lo: host.Lo + 1}
	if next.Lo == 0 {
		next.Hi++
	}
	if host.Hi&next.Hi|host.Lo&next.Lo != 0 {
		return box.Span{}, fmt.Errorf("a mask with holes")
	}
	if n.Hi&host.Hi|n.Lo&host.Lo != 0 {
		return box.Span{}, fmt.Errorf("a value outside its mask")
	}
	return box.Span{First: n, Last: box.Num{Hi: n.Hi | host.Hi, Lo: n.Lo | host.Lo}}, nil
}

// concat reads a match of several fields at once.
func (r *reader) concat(u *rule, op string, parts []any, right any) (box.List, error) {
	var fields []*field
	all := both()
	for _, p := range parts {
		f, err := r.field(p)
		if err != nil {
			return nil, err
		}
		if all, err = all.Intersect(f.implies); err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	list, err := r.elements(u, right)
	if err != nil {
		return nil, err
	}
	var out box.List
	for _, e := range list {
		m, _ := e.(map[string]any)
		values, ok := m["concat"].([]any)
		if !ok || len(values) != len(fields) {
			return nil, fmt.Errorf("an element %.60s", describe(e))
		}
		one := all
		for i, v := range values {
			s, err := fields[i].span(unwrap(v))
			if err != nil {
				return nil, err
			}
			one = within(one, fields[i].dim, s)
		}
		out = append(out, one...)
	}
	switch op {
	case "==":
		return out, nil
	case "!=":
		return all.Subtract(out)
	}
	return nil, fmt.Errorf("the comparison %.20q of several fields", op)
}
