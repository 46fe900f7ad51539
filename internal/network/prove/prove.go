package prove

import (
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/site"
)

// Verdict says in a word what was found.
type Verdict string

// The verdicts.
const (
	Exact   Verdict = "exact"   // all that is needed gets through, and nothing else
	Missing Verdict = "missing" // something that is needed is dropped, and nothing else gets through
	Wide    Verdict = "wide"    // something gets through that nobody needs
	Unknown Verdict = "unknown" // something of the firewall was not understood, or something of the needs not resolved
)

// Finding is a set of packets that is not as it should be.
type Finding struct {
	Row     string   `json:"row,omitempty"` // that needs it
	Packets string   `json:"packets"`       // in words
	Example string   `json:"example"`       // one of them
	Why     []string `json:"why"`           // what decides about the example: a rule, or the policy of a chain
	packet  box.Packet
}

// Packet returns the example.
func (f Finding) Packet() box.Packet { return f.packet }

// Coverage says how much of a row gets through.
type Coverage struct {
	Row     string   `json:"row"`
	Purpose string   `json:"purpose"`
	Covered string   `json:"covered"` // all, some or none
	Rules   []string `json:"rules"`   // that accept some of it
}

// Idle is a rule that does nothing.
type Idle struct {
	Rule string `json:"rule"`
	Why  string `json:"why"` // shadowed: rules before it have all its packets; redundant: without it the same would happen
}

// Result is a proof, or what stands against it.
type Result struct {
	Set          string             `json:"set"`
	Verdict      Verdict            `json:"verdict"`
	Rules        int                `json:"rules"`
	MissingCount int                `json:"missing_count"` // sets of packets, of which Missing has the first
	LaterCount   int                `json:"later_count"`   // the same of Later
	WideCount    int                `json:"wide_count"`
	Missing      []Finding          `json:"missing"`
	Later        []Finding          `json:"later"` // of connections that are needed and may begin: packets that are dropped afterwards, both ways
	Wide         []Finding          `json:"wide"`
	Idle         []Idle             `json:"idle"`
	Rows         []Coverage         `json:"rows"`
	Unknown      []firewall.Unknown `json:"unknown"`
	Unresolved   []site.Unresolved  `json:"unresolved"`
	Passes       string             `json:"passes"`  // SHA-256 of what gets through, the same for all rules that let the same through; empty: too many pieces to tell
	Needed       string             `json:"needed"`  // how many packets are needed,
	Excess       string             `json:"excess"`  // how many get through that are not,
	Dropped      string             `json:"dropped"` // and how many do not get through that are; empty: too many pieces to count
	Privilege    *Privilege         `json:"least_privilege,omitempty"`
}

// maxFindings bounds how many findings of a kind are told; all are counted.
const maxFindings = 100

// Compare proves a firewall against the needs of a site.
func Compare(p *site.Policy, rules *firewall.Ruleset) (*Result, error) {
	r := &Result{Set: p.Set, Missing: []Finding{}, Later: []Finding{}, Wide: []Finding{}, Idle: []Idle{}, Rows: []Coverage{}, Unknown: []firewall.Unknown{}, Unresolved: append([]site.Unresolved{}, p.Missing...)}
	accepted, err := firewall.Accepted(rules.Chains)
	if err != nil {
		return nil, err
	}
	judged := judgedOf(p)
	needs, err := p.Boxes().Intersect(judged)
	if err != nil {
		return nil, err
	}
	for _, u := range rules.Unknown {
		if u.Hooks == 0 || u.Hooks&firewall.Hooks(judged) != 0 { // else it is about other packets
			r.Unknown = append(r.Unknown, u)
		}
	}
	if accepted, err = accepted.Intersect(judged); err != nil {
		return nil, err
	}
	w := &work{policy: p, rules: rules, result: r, real: judged, accepted: accepted, index: box.NewIndex(accepted)}
	if err := w.rows(); err != nil {
		return nil, err
	}
	excess, err := accepted.Subtract(needs)
	if err != nil {
		return nil, err
	}
	r.WideCount = len(excess)
	for _, b := range excess[:min(len(excess), maxFindings)] {
		r.Wide = append(r.Wide, w.finding("", b, w.rules.Chains))
	}
	if err := w.later(); err != nil {
		return nil, err
	}
	if err := w.idle(); err != nil {
		return nil, err
	}
	missing, err := needs.Subtract(accepted)
	if err != nil {
		return nil, err
	}
	r.Needed, r.Excess, r.Dropped = count(needs), count(excess), count(missing)
	r.Privilege = privilege(judged, needs, excess, missing)
	r.Passes = digest(accepted, p.Interfaces)
	switch {
	case len(r.Unknown)+len(r.Unresolved) > 0:
		r.Verdict = Unknown
	case r.WideCount > 0:
		r.Verdict = Wide
	case r.MissingCount+r.LaterCount > 0:
		r.Verdict = Missing
	default:
		r.Verdict = Exact
	}
	return r, nil
}

// judgedOf returns the packets that the proof is about: what one host takes in and sends out, or what is forwarded, which never is by the loopback interface.
func judgedOf(p *site.Policy) (out box.List) {
	others := []box.Span{box.Range(0, box.MaxInterface)} // unless somebody names lo, it is any interface
	if lo, known := p.Interfaces.Known("lo"); known {
		others = []box.Span{box.Range(0, lo-1), box.Range(lo+1, box.MaxInterface)}
	}
	for _, b := range box.Real() {
		switch forwarded := b[box.Hook] == box.One(box.Forward); {
		case forwarded == p.Host:
		case p.Host:
			out = append(out, b)
		default:
			for _, b[box.In] = range others {
				for _, b[box.Out] = range others {
					out = append(out, b)
				}
			}
		}
	}
	return out
}

// countable bounds what is counted: the counts are for people, and never decide.
const countable = 3000

// digest names a set of packets by its canonical form, in words: interfaces have other numbers elsewhere.
func digest(l box.List, n *box.Interfaces) string {
	if len(l) > countable {
		return ""
	}
	c, err := l.Canonical()
	if err != nil {
		return ""
	}
	lines := make([]string, len(c))
	for i, b := range c {
		lines[i] = b.Describe(n)
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:])
}

func count(l box.List) string {
	if len(l) > countable {
		return ""
	}
	n, err := l.Count()
	if err != nil {
		return ""
	}
	return n.String()
}

type work struct {
	policy   *site.Policy
	rules    *firewall.Ruleset
	result   *Result
	real     box.List // the packets that the proof is about
	accepted box.List
	index    *box.Index
}

func (w *work) finding(row string, b box.Box, chains []firewall.Chain) Finding {
	p := b.Packet()
	f := Finding{Row: row, Packets: b.Describe(w.policy.Interfaces), Example: p.Describe(w.policy.Interfaces), packet: p, Why: []string{}}
	var accepts, policies, silent []string
	for i := range chains {
		c := &chains[i]
		if !c.Scope.Has(p) {
			continue
		}
		rule, accept := c.Decide(p)
		word := " drops it"
		if accept {
			word = " accepts it"
		}
		what := "the policy of " + c.Name
		if rule != nil {
			what = rule.Name
		}
		switch {
		case accept && c.Fixed && rule == nil: // it forbids a few things, and says nothing of others
			silent = append(silent, what+word)
		case accept && rule != nil:
			accepts = append(accepts, what+word)
		case accept:
			policies = append(policies, what+word)
		default:
			f.Why = append(f.Why, what+word)
		}
	}
	for _, others := range [][]string{accepts, policies, silent} { // one that drops it decides, else the rules that accept it, else policies
		if len(f.Why) == 0 {
			f.Why = append(f.Why, others...)
		}
	}
	if len(f.Why) == 0 {
		f.Why = []string{"no chain judges it, so it gets through"}
	}
	return f
}

// rows looks at each row: how much of it gets through, by which rules.
func (w *work) rows() error {
	var order []string
	needs, purposes := map[string]box.List{}, map[string]string{}
	for _, row := range w.policy.Rows {
		boxes, err := row.Boxes(w.policy.Interfaces).Intersect(w.real)
		if err != nil {
			return err
		}
		if purposes[row.ID] == "" {
			order = append(order, row.ID)
			purposes[row.ID] = row.Purpose
		}
		needs[row.ID] = append(needs[row.ID], boxes...)
	}
	type place struct{ chain, rule int }
	var all box.List
	var of []place
	for i, c := range w.rules.Chains {
		for j, u := range c.Rules {
			if u.Accept {
				for _, b := range u.Boxes {
					all, of = append(all, b), append(of, place{i, j})
				}
			}
		}
	}
	ix := box.NewIndex(all)
	for _, id := range order {
		c := Coverage{Row: id, Purpose: purposes[id], Covered: "all", Rules: []string{}}
		some := false
		by := map[place]bool{}
		for _, b := range needs[id] {
			rest, err := w.index.Rest(b, len(w.accepted))
			if err != nil {
				return err
			}
			w.result.MissingCount += len(rest)
			for _, m := range rest {
				if len(w.result.Missing) < maxFindings {
					w.result.Missing = append(w.result.Missing, w.finding(id, m, w.rules.Chains))
				}
			}
			if len(rest) > 0 {
				c.Covered = "some"
			}
			if len(rest) != 1 || rest[0] != b {
				some = true
			}
			ix.Overlapping(b, func(i int) bool { by[of[i]] = true; return true })
		}
		if !some {
			c.Covered = "none"
		}
		var at []place
		for p := range by {
			at = append(at, p)
		}
		slices.SortFunc(at, func(a, b place) int { return (a.chain-b.chain)<<32 + a.rule - b.rule })
		for _, p := range at {
			if name := w.rules.Chains[p.chain].Rules[p.rule].Name; len(c.Rules) < 20 && !slices.Contains(c.Rules, name) { // several ways may lead to a rule
				c.Rules = append(c.Rules, name)
			}
		}
		w.result.Rows = append(w.result.Rows, c)
	}
	return nil
}

// later looks at the packets of connections that are up, in both directions.
func (w *work) later() error {
	accepted, err := firewall.Accepted(w.rules.Later)
	if err != nil {
		return err
	}
	ix := box.NewIndex(accepted)
	for _, row := range w.policy.Rows {
		boxes, err := row.Boxes(w.policy.Interfaces).Intersect(w.real)
		if err != nil {
			return err
		}
		var begin box.List
		for _, b := range boxes { // what does not begin has nothing afterwards
			never, err := w.index.Rest(b, len(w.accepted))
			if err != nil {
				return err
			}
			rest, err := box.List{b}.Subtract(never)
			if err != nil {
				return err
			}
			begin = append(begin, rest...)
		}
		for _, b := range begin {
			for _, c := range []box.Box{b, b.Reply()} {
				rest, err := ix.Rest(c, len(accepted))
				if err != nil {
					return err
				}
				w.result.LaterCount += len(rest)
				for _, m := range rest {
					if len(w.result.Later) < maxFindings {
						w.result.Later = append(w.result.Later, w.finding(row.ID, m, w.rules.Later))
					}
				}
			}
		}
	}
	return nil
}

// idle finds rules that do nothing. Of a rule to which several ways lead, that must hold on each; rules about other packets than those that are judged are left alone.
func (w *work) idle() error {
	for i := range w.rules.Chains {
		c := &w.rules.Chains[i]
		if firewall.Hooks(c.Scope)&firewall.Hooks(w.real) == 0 {
			continue
		}
		var all box.List
		var of []int
		for j, u := range c.Rules {
			for _, b := range u.Boxes {
				all, of = append(all, b), append(of, j)
			}
		}
		ix, before := box.NewIndex(all), 0
		why := map[string]string{}
		var names []string
		for j, u := range c.Rules {
			var rest box.List
			for _, b := range u.Boxes {
				r, err := ix.Rest(b, before)
				if err != nil {
					return err
				}
				rest = append(rest, r...)
			}
			before += len(u.Boxes)
			if u.Fixed {
				continue
			}
			here := "shadowed"
			if len(rest) > 0 {
				here = ""
				if u.Accept { // a rule that drops what would be dropped anyway counts it, and says so
					same, err := redundant(c, rest, ix, all, of, j)
					if err != nil {
						return err
					}
					if same {
						here = "redundant"
					}
				}
			}
			was, again := why[u.Name]
			if !again {
				names = append(names, u.Name)
			}
			if !again || was != "" && here != "shadowed" { // what does something on one way does something
				why[u.Name] = here
			}
		}
		w.result.Rules += len(names)
		for _, n := range names {
			if why[n] != "" {
				w.result.Idle = append(w.result.Idle, Idle{n, why[n]})
			}
		}
	}
	return nil
}

// redundant reports whether what is left to rule j would be accepted as well by those after it, or by the policy.
func redundant(c *firewall.Chain, rest box.List, ix *box.Index, all box.List, of []int, j int) (bool, error) {
	for _, b := range rest {
		var later []int
		ix.Overlapping(b, func(i int) bool {
			if of[i] > j {
				later = append(later, i)
			}
			return true
		})
		slices.Sort(later)
		left := box.List{b}
		for _, i := range later {
			next, err := left.Subtract(all[i : i+1])
			if err != nil {
				return false, err
			}
			if !c.Rules[of[i]].Accept && !sameSize(next, left) {
				return false, nil
			}
			if left = next; len(left) == 0 {
				break
			}
			if len(left) > 1000 { // not worth knowing
				return false, nil
			}
		}
		if len(left) > 0 && !c.Accept {
			return false, nil
		}
	}
	return true, nil
}

// sameSize reports whether nothing was taken away: what was cut is in other pieces.
func sameSize(a, b box.List) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x box.Box) bool { return !slices.Contains(b, x) })
}

// Share returns how much of what gets through is needed, from 0 to 1, or -1 if it was not counted.
func (r *Result) Share() float64 {
	needed, ok1 := new(big.Float).SetString(r.Needed)
	excess, ok2 := new(big.Float).SetString(r.Excess)
	dropped, ok3 := new(big.Float).SetString(r.Dropped)
	if !ok1 || !ok2 || !ok3 {
		return -1
	}
	good := new(big.Float).Sub(needed, dropped)
	all := new(big.Float).Add(good, excess)
	if all.Sign() == 0 {
		return 1
	}
	share, _ := new(big.Float).Quo(good, all).Float64()
	return share
}
