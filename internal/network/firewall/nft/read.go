package nft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
)

const (
	maxRuleset = 128 << 20 // bytes
	maxVisits  = 500_000   // rules, each as often as chains jump to it
	maxDepth   = 16        // of jumps, as in the kernel
	maxBoxes   = 1 << 20   // of all rules
	maxUnknown = 1000
)

// Parse reads the output of `nft -j list ruleset`. Names of interfaces get numbers of n.
func Parse(b []byte, n *box.Interfaces) (*firewall.Ruleset, error) {
	r, err := read(b, n)
	if err != nil {
		return nil, err
	}
	return r.out, nil
}

// read does the same, and keeps where each rule stands.
func read(b []byte, n *box.Interfaces) (*reader, error) {
	fault := func(text string, err error) error {
		return &ringfence.Fault{Op: "nft.parse", Kind: ringfence.KindInvalid, Text: text, Hint: "write the file with `nft -j list ruleset`", Err: err}
	}
	if len(b) > maxRuleset {
		return nil, fault("the ruleset is larger than 128 MiB", nil)
	}
	var doc struct {
		Objects []map[string]json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fault("this is no ruleset of nft in JSON", err)
	}
	if doc.Objects == nil {
		return nil, fault("there is no member nftables", nil)
	}
	r := &reader{interfaces: n, sets: map[string]*set{}, chains: map[string]*chain{}, named: map[firewall.Unknown]bool{}, dormant: map[string]bool{}, out: &firewall.Ruleset{}, real: box.Real()}
	for i, o := range doc.Objects {
		for kind, body := range o {
			if err := r.object(kind, body); err != nil {
				return nil, fault(fmt.Sprintf("object %d (%.40s) is not as nft writes it", i, kind), err)
			}
		}
	}
	for _, r.later = range []bool{false, true} {
		for _, c := range r.order {
			if c.Hook != "" && !r.dormant[c.Family+" "+c.Table] {
				if err := r.base(c); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(r.out.Unknown) > maxUnknown {
		r.out.Unknown = append(r.out.Unknown[:maxUnknown], firewall.Unknown{Where: "the ruleset", What: "and more"})
	}
	r.objects = doc.Objects
	return r, nil
}

type set struct {
	Family, Name, Table string
	Flags               any
	Map                 any
	Elem                []any
}

type chain struct {
	Family, Table, Name, Type, Hook, Policy string
	Prio                                    int
	rules                                   []rule
}

type rule struct {
	Family, Table, Chain, Comment string
	Handle                        uint64
	Expr                          []map[string]any
}

type reader struct {
	interfaces *box.Interfaces
	sets       map[string]*set
	chains     map[string]*chain
	order      []*chain
	out        *firewall.Ruleset
	real       box.List
	later      bool // packets of connections that are up are looked at, not first ones
	named      map[firewall.Unknown]bool
	dormant    map[string]bool // tables whose chains judge nothing
	visits     int
	boxes      int
	of         [][]*rule // for each chain, which rules its rules are
	chainOf    []*chain
	objects    []map[string]json.RawMessage
	translates bool // something changes the source address after it was forwarded
}

func (r *reader) unknown(where, what string, args ...any) {
	r.note(firewall.Unknown{Where: where, What: fmt.Sprintf(what, args...)})
}

func (r *reader) note(u firewall.Unknown) {
	if len(r.out.Unknown) <= maxUnknown && !r.named[u] {
		r.named[u] = true
		r.out.Unknown = append(r.out.Unknown, u)
	}
}

func decode(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(to)
}

func (r *reader) object(kind string, body []byte) error {
	switch kind {
	case "table":
		var t struct {
			Family, Name string
			Flags        any
		}
		if err := decode(body, &t); err != nil {
			return err
		}
		if strings.Contains(fmt.Sprint(t.Flags), "dormant") {
			r.dormant[t.Family+" "+t.Name] = true
		}
	case "metainfo", "counter", "quota", "ct helper", "ct timeout", "ct expectation", "limit", "secmark", "element", "synproxy":
		// Rules that use them say so.
	case "set", "map":
		s := &set{}
		if err := decode(body, s); err != nil {
			return err
		}
		r.sets[s.Family+" "+s.Table+" "+s.Name] = s
	case "chain":
		c := &chain{}
		if err := decode(body, c); err != nil {
			return err
		}
		key := c.Family + " " + c.Table + " " + c.Name
		if r.chains[key] != nil {
			return fmt.Errorf("the chain %.100s comes twice", key)
		}
		r.chains[key] = c
		r.order = append(r.order, c)
	case "rule":
		var u rule
		if err := decode(body, &u); err != nil {
			return err
		}
		c := r.chains[u.Family+" "+u.Table+" "+u.Chain]
		if c == nil {
			return fmt.Errorf("there is no chain %.100s", u.Chain)
		}
		c.rules = append(c.rules, u)
	case "flowtable":
		r.unknown("the ruleset", "a flow table")
	default:
		r.unknown("the ruleset", "%.40q", kind)
	}
	return nil
}

// scope returns the packets that come by a base chain.
func scope(c *chain) (out box.List, ok bool) {
	families := map[string][]uint8{"inet": {box.IPv4, box.IPv6}, "ip": {box.IPv4}, "ip6": {box.IPv6}}[c.Family]
	hooks := map[string][]uint8{"prerouting": {box.Forward, box.Input}, "input": {box.Input}, "forward": {box.Forward}, "output": {box.Output}, "postrouting": {box.Forward, box.Output}}[c.Hook]
	for _, f := range families {
		for _, h := range hooks {
			b := box.Everything(f)
			b[box.Hook] = box.One(h)
			out = append(out, b)
		}
	}
	return out, len(out) > 0
}

// base reads a base chain with all that it jumps to.
func (r *reader) base(c *chain) error {
	where := fmt.Sprintf("%.20s %.100s %.100s", c.Family, c.Table, c.Name)
	s, ok := scope(c)
	if !ok {
		if c.Family != "arp" && (len(c.rules) > 0 || c.Policy == "drop") {
			r.unknown(where, "a chain at %.20s of the family %.20s", c.Hook, c.Family)
		}
		return nil
	}
	real, err := s.Intersect(r.real)
	if err != nil {
		return err
	}
	out := firewall.Chain{Name: where, Scope: real, Accept: c.Policy != "drop"}
	w := &walk{reader: r, chain: c, to: &out}
	if !r.later {
		r.of, r.chainOf = append(r.of, nil), append(r.chainOf, c)
	}
	if err := w.walk(c, real, 0); err != nil {
		return err
	}
	if c.Hook == "postrouting" && c.Prio > 100 && r.translates && len(c.rules) > 0 {
		r.unknown(where, "it sees addresses after another chain has changed them")
	}
	if r.later {
		r.out.Later = append(r.out.Later, out)
	} else {
		r.out.Chains = append(r.out.Chains, out)
	}
	return nil
}

type walk struct {
	*reader
	chain *chain // the base chain
	to    *firewall.Chain
}

// unknown notes what is not understood of the packets that come by.
func (w *walk) unknown(where, what string, args ...any) {
	w.note(firewall.Unknown{Where: where, What: fmt.Sprintf(what, args...), Hooks: firewall.Hooks(w.to.Scope)})
}

// walk reads the rules of a chain for the packets that come into it.
func (w *walk) walk(c *chain, come box.List, depth int) (err error) {
	if depth > maxDepth {
		return &ringfence.Fault{Op: "nft.parse", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("chains jump to each other more than %d deep", maxDepth)}
	}
	for i := range c.rules {
		u := &c.rules[i]
		if w.visits++; w.visits > maxVisits || w.boxes > maxBoxes {
			return &ringfence.Fault{Op: "nft.parse", Kind: ringfence.KindOverload, Text: "the ruleset is too large: its chains and sets multiply to too many rules"}
		}
		if len(come) == 0 {
			return nil
		}
		if come, err = w.rule(u, come, depth); err != nil {
			return err
		}
	}
	return nil
}

// rule reads one rule for the packets that come to it, and returns those that go on in this chain. What was decided stays among them: the first decision counts.
func (w *walk) rule(u *rule, come box.List, depth int) (box.List, error) {
	where := fmt.Sprintf("%.20s %.100s %.100s handle %d", u.Family, u.Table, u.Chain, u.Handle)
	if u.Comment != "" {
		where += fmt.Sprintf(" (%.100s)", u.Comment)
	}
	if u.idle() {
		return come, nil
	}
	cond := both() // what the matches say; it is small, and what comes may be much
	strange := func(what string, args ...any) (box.List, error) {
		if have, err := come.Intersect(cond); err != nil || len(have) > 0 {
			w.unknown(where, what, args...)
		}
		return come, nil
	}
	for _, e := range u.Expr {
		if len(cond) == 0 { // whatever else it says, it says it of no packet
			return come, nil
		}
		if len(e) != 1 {
			return strange("a statement with %d members", len(e))
		}
		for kind, body := range e {
			switch kind {
			case "match":
				m, _ := body.(map[string]any)
				list, err := w.match(u, m)
				if err != nil {
					return strange("%s", err)
				}
				if cond, err = cond.Intersect(list); err != nil {
					return nil, err
				}
			case "counter", "log", "ct helper", "ct timeout", "comment", "last":
			case "mangle":
				if !harmless(body) {
					return strange("it changes what later rules look at")
				}
			default:
				have, err := come.Intersect(cond)
				if err != nil || len(have) == 0 {
					return come, err
				}
				if kind == "vmap" {
					return w.vmap(u, where, body, have, come, depth)
				}
				rest, done, err := w.verdict(u, where, kind, body, have, come, depth)
				if err != nil || done {
					return rest, err
				}
			}
		}
	}
	return come, nil
}

// idle reports whether a rule only counts and logs, however often: then nothing depends on what it matches.
func (u *rule) idle() bool {
	for _, e := range u.Expr {
		for kind := range e {
			if !slices.Contains([]string{"match", "counter", "log", "limit", "last", "comment"}, kind) {
				return false
			}
		}
	}
	return true
}

// harmless reports whether a statement changes only what no rule that is understood looks at.
func harmless(body any) bool {
	m, _ := body.(map[string]any)
	key, _ := m["key"].(map[string]any)
	if meta, ok := key["meta"].(map[string]any); ok {
		return slices.Contains([]any{"mark", "priority", "nftrace"}, meta["key"])
	}
	if ct, ok := key["ct"].(map[string]any); ok {
		return slices.Contains([]any{"mark", "label", "event"}, ct["key"])
	}
	payload, ok := key["payload"].(map[string]any)
	return ok && slices.Contains([]any{"dscp", "ecn", "ttl", "hoplimit"}, payload["field"])
}

// verdict reads what ends a rule; done is false for a statement after which the rule goes on.
func (w *walk) verdict(u *rule, where, kind string, body any, have, come box.List, depth int) (rest box.List, done bool, err error) {
	decide := func(accept bool) {
		if len(have) > 0 { // a rule for what comes back has no first packet
			w.boxes += len(have)
			w.to.Rules = append(w.to.Rules, firewall.Rule{Name: where, Comment: u.Comment, Accept: accept, Boxes: have})
			if !w.later {
				w.of[len(w.of)-1] = append(w.of[len(w.of)-1], u)
			}
		}
	}
	switch kind {
	case "accept":
		decide(true)
	case "drop":
		decide(false)
	case "reject":
		m, _ := body.(map[string]any)
		only := box.List{box.Everything(box.IPv4), box.Everything(box.IPv6)}
		switch m["type"] {
		case "icmp":
			only = only[:1]
		case "icmpv6":
			only = only[1:]
		case "tcp reset":
			only = limited(only, box.Protocol, box.One(box.TCP))
		}
		if have, err = have.Intersect(only); err != nil {
			return nil, true, err
		}
		decide(false)
	case "continue":
		return nil, false, nil
	case "xt": // of iptables, whose own matches and targets nft names and does not tell
		m, _ := body.(map[string]any)
		switch {
		case m["type"] == "match" && m["name"] == "comment", m["type"] == "target" && (m["name"] == "LOG" || m["name"] == "NFLOG" || m["name"] == "MARK"):
			return nil, false, nil
		case m["type"] == "target" && m["name"] == "REJECT":
			decide(false)
		default:
			w.unknown(where, "the %.10v %.40v of iptables, of which nft does not say more", m["type"], m["name"])
		}
	case "return":
		rest, err = come.Subtract(have)
		return rest, true, err
	case "jump", "goto":
		m, _ := body.(map[string]any)
		target, _ := m["target"].(string)
		c := w.chains[u.Family+" "+u.Table+" "+target]
		if c == nil {
			return nil, true, &ringfence.Fault{Op: "nft.parse", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%s goes to the chain %.60q, which is not there", where, target)}
		}
		if len(have) > 0 {
			if err := w.walk(c, have, depth+1); err != nil {
				return nil, true, err
			}
		}
		if kind == "goto" {
			rest, err = come.Subtract(have)
			return rest, true, err
		}
	case "snat", "masquerade":
		w.translates = true
		decide(true)
	default:
		w.unknown(where, "the statement %.40q", kind)
	}
	return come, true, nil
}

// vmap reads a map of verdicts: of several elements that have a packet there is only one, and "*" is for what no other has.
func (w *walk) vmap(u *rule, where string, body any, have, come box.List, depth int) (box.List, error) {
	m, _ := body.(map[string]any)
	elements, err := w.elements(u, m["data"])
	if err != nil {
		w.unknown(where, "%s", err)
		return come, nil
	}
	left := have
	var other map[string]any
	for _, e := range elements {
		pair, _ := e.([]any)
		if len(pair) != 2 {
			w.unknown(where, "an element of a map that is no pair")
			return come, nil
		}
		verdict, _ := pair[1].(map[string]any)
		if pair[0] == "*" {
			other = verdict
			continue
		}
		list, err := w.match(u, map[string]any{"op": "==", "left": m["key"], "right": map[string]any{"set": []any{pair[0]}}})
		if err != nil {
			w.unknown(where, "%s", err)
			return come, nil
		}
		mine, err := have.Intersect(list)
		if err != nil {
			return nil, err
		}
		if left, err = left.Subtract(list); err != nil {
			return nil, err
		}
		if come, err = w.one(u, where, verdict, mine, come, depth); err != nil {
			return nil, err
		}
	}
	if other != nil {
		return w.one(u, where, other, left, come, depth)
	}
	return come, nil
}

func (w *walk) one(u *rule, where string, verdict map[string]any, have, come box.List, depth int) (box.List, error) {
	for kind, body := range verdict {
		rest, done, err := w.verdict(u, where, kind, body, have, come, depth)
		if err != nil || !done {
			return come, err
		}
		return rest, nil
	}
	w.unknown(where, "an element of a map without a verdict")
	return come, nil
}
