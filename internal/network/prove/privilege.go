package prove

import (
	"math"
	"math/big"

	"ringfence/internal/network/box"
)

// Privilege says how much more gets through than is needed, by counting packets. Addresses, ports and protocols are so many that shares of them say nothing to the eye, so it is told by powers of two: each point fewer is the same factor more.
type Privilege struct {
	// Score is 100 if nothing gets through but what is needed, and 0 if everything does: 100 · (1 − log(passes/good) / log(all/good)), rounded down to a tenth, of the family where it is lower.
	Score    float64           `json:"score"`
	Families []FamilyPrivilege `json:"families"` // of which something is needed or gets through
}

// FamilyPrivilege is the same of one family: in the packets of IPv6 those of IPv4 would not be seen.
type FamilyPrivilege struct {
	Family string  `json:"family"` // IPv4 or IPv6
	Needed string  `json:"needed"` // how many packets are needed,
	Good   string  `json:"good"`   // how many of those get through,
	Passes string  `json:"passes"` // how many get through altogether,
	All    string  `json:"all"`    // and how many there are that the proof is about
	Share  float64 `json:"share"`  // good of passes
	Bits   float64 `json:"bits"`   // the logarithm to base 2 of passes/good: 0 is exact, and each bit doubles what gets through; -1 if nothing of it is good
	Score  float64 `json:"score"`
}

// privilege counts, and returns nil if there are too many pieces to count.
func privilege(judged, needs, excess, missing box.List) *Privilege {
	out := &Privilege{Score: 100, Families: []FamilyPrivilege{}}
	for _, f := range []struct {
		name   string
		family uint8
	}{{"IPv4", box.IPv4}, {"IPv6", box.IPv6}} {
		var n [4]*big.Int
		for i, l := range []box.List{judged, needs, excess, missing} {
			var of box.List
			for _, b := range l {
				if b[box.Family] == box.One(f.family) { // a real packet is of one family, and so is a box of such
					of = append(of, b)
				}
			}
			if len(of) > countable {
				return nil
			}
			var err error
			if n[i], err = of.Count(); err != nil {
				return nil
			}
		}
		p := score(n[0], n[1], n[2], n[3])
		if n[1].Sign() == 0 && n[2].Sign() == 0 {
			continue
		}
		p.Family = f.name
		out.Families = append(out.Families, p)
		out.Score = min(out.Score, p.Score)
	}
	return out
}

// score works out the numbers of one family from how many packets there are, are needed, get through in vain, and are dropped though needed.
func score(all, needed, excess, dropped *big.Int) FamilyPrivilege {
	good := new(big.Int).Sub(needed, dropped)
	passes := new(big.Int).Add(good, excess)
	p := FamilyPrivilege{Needed: needed.String(), Good: good.String(), Passes: passes.String(), All: all.String(), Share: 1, Score: 100}
	switch {
	case excess.Sign() == 0:
		return p
	case good.Sign() == 0:
		p.Share, p.Bits, p.Score = 0, -1, 0
		return p
	}
	p.Share = ratio(good, passes)
	p.Bits = bits(excess, good)
	// The largest that it could be: everything gets through.
	most := bits(new(big.Int).Sub(all, good), good)
	p.Score = math.Max(0, math.Floor(1000*(1-p.Bits/most))/10) // what is not exact is never 100
	if p.Score == 100 {
		p.Score = 99.9
	}
	return p
}

// bits returns the logarithm to base 2 of (good+more)/good, which is not lost in rounding if more is very small.
func bits(more, good *big.Int) float64 {
	return math.Log1p(ratio(more, good)) / math.Ln2
}

func ratio(a, b *big.Int) float64 {
	r, _ := new(big.Rat).SetFrac(a, b).Float64()
	return r
}
