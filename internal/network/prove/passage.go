package prove

import (
	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/site"
)

// Passage is what a firewall lets through of packets that somebody asks about.
type Passage struct {
	Some   bool      `json:"some"`   // it lets some of them through
	Count  int       `json:"count"`  // sets of packets that get through and that no row needs, of which Excess has the first
	Excess []Finding `json:"excess"` // and for each a packet, with the rules that let it through
}

// Passages says of each list of packets, as those that begin a connection, what of it gets through. What was not understood of the firewall is told as well; then more may get through, or less.
func Passages(p *site.Policy, rules *firewall.Ruleset, asked ...box.List) ([]Passage, []firewall.Unknown, error) {
	accepted, err := firewall.Accepted(rules.Chains)
	if err != nil {
		return nil, nil, err
	}
	judged := judgedOf(p)
	needs, err := p.Boxes().Intersect(judged)
	if err != nil {
		return nil, nil, err
	}
	unknown := []firewall.Unknown{}
	for _, u := range rules.Unknown {
		if u.Hooks == 0 || u.Hooks&firewall.Hooks(judged) != 0 {
			unknown = append(unknown, u)
		}
	}
	w := &work{policy: p, rules: rules}
	out := make([]Passage, len(asked))
	for i, packets := range asked {
		pass, err := packets.Intersect(judged)
		if err != nil {
			return nil, nil, err
		}
		if pass, err = pass.Intersect(accepted); err != nil {
			return nil, nil, err
		}
		excess, err := pass.Subtract(needs)
		if err != nil {
			return nil, nil, err
		}
		out[i] = Passage{Some: len(pass) > 0, Count: len(excess), Excess: []Finding{}}
		for _, b := range excess[:min(len(excess), maxFindings)] {
			out[i].Excess = append(out[i].Excess, w.finding("", b, rules.Chains))
		}
	}
	return out, unknown, nil
}
