package box

import (
	"math/big"
	"slices"

	"ringfence"
)

// List is a union of boxes, which may overlap.
type List []Box

const (
	maxPieces = 1 << 20 // bounds what one difference, intersection or canonical form may fall into,
	maxRest   = 1 << 15 // and what is left of one box
)

func tooMany() error {
	return &ringfence.Fault{Op: "box", Kind: ringfence.KindOverload, Text: "the sets fall into too many pieces", Hint: "prove fewer rules, or fewer rows, at a time"}
}

// Intersect returns what is in both.
func (l List) Intersect(m List) (out List, err error) {
	if len(l)*len(m) <= 1<<12 { // an index does not pay
		for _, b := range l {
			for i := range m {
				if b.overlaps(&m[i]) {
					c, _ := b.Intersect(m[i])
					out = append(out, c)
				}
			}
		}
		return out, nil
	}
	ix := NewIndex(m)
	for _, b := range l {
		ix.Overlapping(b, func(i int) bool {
			if c, ok := b.Intersect(m[i]); ok {
				out = append(out, c)
			}
			return len(out) <= maxPieces
		})
		if len(out) > maxPieces {
			return nil, tooMany()
		}
	}
	return out, nil
}

// Subtract returns what is in l and not in m.
func (l List) Subtract(m List) (out List, err error) {
	ix := NewIndex(m)
	for _, b := range l {
		rest, err := ix.Rest(b, len(m))
		if err != nil {
			return nil, err
		}
		if out = append(out, rest...); len(out) > maxPieces {
			return nil, tooMany()
		}
	}
	return out, nil
}

// Covers reports whether all of m is in l.
func (l List) Covers(m List) (bool, error) {
	ix := NewIndex(l)
	for _, b := range m {
		if rest, err := ix.Rest(b, len(l)); err != nil || len(rest) > 0 {
			return false, err
		}
	}
	return true, nil
}

// Has reports whether a packet is in one of the boxes.
func (l List) Has(p Packet) bool {
	n := p.numbers()
	for i := range l {
		if l[i].has(&n) {
			return true
		}
	}
	return false
}

// Canonical returns the only form that a set has: boxes that do not overlap, cut at the dimensions in order and nowhere else. Two lists are the same set if and only if theirs are equal.
func (l List) Canonical() (List, error) {
	pieces := 0
	out := canonical(l, 0, &pieces)
	if pieces > maxPieces {
		return nil, tooMany()
	}
	return out, nil
}

func canonical(l List, d Dim, pieces *int) List {
	if len(l) == 0 || d == Dims || *pieces > maxPieces {
		*pieces += min(len(l), 1)
		return l[:min(len(l), 1)]
	}
	starts := make([]Num, 0, 2*len(l)) // of the intervals in which the same boxes are
	for _, b := range l {
		starts = append(starts, b[d].First)
		if end := b[d].Last.next(); end != (Num{}) {
			starts = append(starts, end)
		}
	}
	slices.SortFunc(starts, compare)
	starts = slices.Compact(starts)
	sorted := slices.Clone(l)
	slices.SortStableFunc(sorted, func(a, b Box) int { return compare(a[d].First, b[d].First) })
	var out, before, active List
	for i, from := range starts {
		active = slices.DeleteFunc(active, func(b Box) bool { return b[d].Last.Less(from) })
		for len(sorted) > 0 && !from.Less(sorted[0][d].First) {
			active, sorted = append(active, sorted[0]), sorted[1:]
		}
		if len(active) == 0 {
			before = nil
			continue
		}
		to := Num{^uint64(0), ^uint64(0)}
		if i+1 < len(starts) {
			to = starts[i+1].prev()
		}
		part := canonical(slices.Clone(active), d+1, pieces)
		part = slices.Clone(part)
		for j := range part {
			part[j][d] = Span{from, to}
		}
		if same(before, part, d) {
			for j := range before {
				out[len(out)-len(before)+j][d].Last = to
			}
		} else {
			out = append(out, part...)
		}
		before = out[len(out)-len(part):]
		if *pieces > maxPieces {
			return nil
		}
	}
	return out
}

// same reports whether two canonical lists agree in all dimensions after d, and the second begins where the first ends.
func same(a, b List, d Dim) bool {
	if len(a) == 0 || len(a) != len(b) || a[0][d].Last.next() != b[0][d].First {
		return false
	}
	for i := range a {
		for e := d + 1; e < Dims; e++ {
			if a[i][e] != b[i][e] {
				return false
			}
		}
	}
	return true
}

func compare(a, b Num) int {
	switch {
	case a.Less(b):
		return -1
	case b.Less(a):
		return 1
	}
	return 0
}

// Count returns how many packets there are.
func (l List) Count() (*big.Int, error) {
	c, err := l.Canonical()
	if err != nil {
		return nil, err
	}
	sum := new(big.Int)
	for _, b := range c {
		n := big.NewInt(1)
		for _, s := range b {
			n.Mul(n, s.size())
		}
		sum.Add(sum, n)
	}
	return sum, nil
}

func (s Span) size() *big.Int {
	n := func(v Num) *big.Int {
		hi := new(big.Int).Lsh(new(big.Int).SetUint64(v.Hi), 64)
		return hi.Add(hi, new(big.Int).SetUint64(v.Lo))
	}
	d := new(big.Int).Sub(n(s.Last), n(s.First))
	return d.Add(d, big.NewInt(1))
}

// Index finds the boxes of a list that a box overlaps.
type Index struct {
	boxes List
	trees map[uint8]*tree // by protocol; boxes of several protocols are in the tree of wide
	wide  *tree
}

// tree is a balanced tree of intervals, in an array: the middle of a part is its root.
type tree struct {
	dim  Dim
	at   []int // into boxes, in the order of where they begin
	last []Num // the largest end below each root
}

// NewIndex makes an index. The list must not change afterwards.
func NewIndex(l List) *Index {
	ix := &Index{boxes: l, trees: map[uint8]*tree{}}
	parts, wide := map[uint8][]int{}, []int(nil)
	for i := range l {
		if p := l[i][Protocol]; p.First == p.Last {
			parts[uint8(p.First.Lo)] = append(parts[uint8(p.First.Lo)], i)
		} else {
			wide = append(wide, i)
		}
	}
	for p, at := range parts {
		ix.trees[p] = newTree(l, at)
	}
	ix.wide = newTree(l, wide)
	return ix
}

func newTree(l List, at []int) *tree {
	distinct := func(d Dim) int {
		seen := map[Span]bool{}
		for _, i := range at {
			seen[l[i][d]] = true
		}
		return len(seen)
	}
	t := &tree{dim: To, at: at, last: make([]Num, len(at))}
	most := distinct(To)
	for _, d := range []Dim{From, ToPort, FromPort} { // where boxes differ most, a tree finds fewest
		if n := distinct(d); n > most {
			t.dim, most = d, n
		}
	}
	slices.SortStableFunc(at, func(a, b int) int { return compare(l[a][t.dim].First, l[b][t.dim].First) })
	var fill func(lo, hi int) Num
	fill = func(lo, hi int) (last Num) {
		if lo >= hi {
			return
		}
		mid := (lo + hi) / 2
		last = l[at[mid]][t.dim].Last
		for _, n := range []Num{fill(lo, mid), fill(mid+1, hi)} {
			if last.Less(n) {
				last = n
			}
		}
		t.last[mid] = last
		return last
	}
	fill(0, len(at))
	return t
}

// Overlapping calls f with the position of each box that b overlaps, in no order, until f returns false.
func (ix *Index) Overlapping(b Box, f func(int) bool) {
	more := true
	var visit func(t *tree, lo, hi int)
	visit = func(t *tree, lo, hi int) {
		for more && lo < hi {
			mid := (lo + hi) / 2
			if t.last[mid].Less(b[t.dim].First) {
				return
			}
			visit(t, lo, mid)
			c := &ix.boxes[t.at[mid]]
			if b[t.dim].Last.Less(c[t.dim].First) {
				return
			}
			if more && c.overlaps(&b) {
				more = f(t.at[mid])
			}
			lo = mid + 1
		}
	}
	visit(ix.wide, 0, len(ix.wide.at))
	p := b[Protocol]
	if p.First == p.Last {
		if t := ix.trees[uint8(p.First.Lo)]; t != nil {
			visit(t, 0, len(t.at))
		}
		return
	}
	for q, t := range ix.trees {
		if p.Has(N(q)) {
			visit(t, 0, len(t.at))
		}
	}
}

// Rest returns what of b is in none of the first n boxes.
func (ix *Index) Rest(b Box, n int) (List, error) {
	var cut []int
	covered := false
	ix.Overlapping(b, func(i int) bool {
		if i < n {
			cut = append(cut, i)
			covered = ix.boxes[i].Covers(b)
		}
		return !covered
	})
	if covered {
		return nil, nil
	}
	slices.Sort(cut)
	rest, spare := List{b}, List(nil)
	for _, i := range cut {
		next := spare[:0]
		for _, r := range rest {
			next = r.minus(&ix.boxes[i], next)
		}
		if rest, spare = next, rest; len(rest) == 0 {
			return nil, nil
		}
		if len(rest) > maxRest {
			return nil, tooMany()
		}
	}
	return slices.Clone(rest), nil
}

// Merge returns the same numbers as intervals in order that neither overlap nor touch.
func Merge(spans []Span) (out []Span) {
	sorted := slices.Clone(spans)
	slices.SortFunc(sorted, func(a, b Span) int { return compare(a.First, b.First) })
	for _, s := range sorted {
		if n := len(out); n > 0 {
			if end := out[n-1].Last.next(); end == (Num{}) || !end.Less(s.First) {
				if out[n-1].Last.Less(s.Last) {
					out[n-1].Last = s.Last
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}
