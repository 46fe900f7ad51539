package router

import (
	"math/rand/v2"
	"slices"

	"ringfence/internal/network/box"
	"ringfence/internal/network/site"
)

// Around returns packets at and around each bound of the boxes: one of each box, and those that differ from it in one thing.
func Around(boxes box.List, n *box.Interfaces) (out []box.Packet) {
	seen := map[box.Packet]bool{}
	add := func(p box.Packet) {
		if p.In == 0 && p.Hook != box.Output { // any interface is one of the two
			p.In = n.Number("eth1")
		}
		if p.Out == 0 && p.Hook != box.Input {
			p.Out = n.Number("eth0")
		}
		if Travels(p) && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	for _, b := range boxes {
		p := b.Packet()
		add(p)
		for _, v := range bounds(b[box.FromPort], 65535) {
			q := p
			q.FromPort = uint16(v)
			add(q)
		}
		for _, v := range bounds(b[box.ToPort], 65535) {
			q := p
			q.ToPort = uint16(v)
			add(q)
		}
		for _, a := range b.Bounds(box.From) {
			q := p
			q.From = a
			add(q)
		}
		for _, a := range b.Bounds(box.To) {
			q := p
			q.To = a
			add(q)
		}
		for _, protocol := range []uint8{box.TCP, box.UDP, 50} {
			q := p
			if q.Protocol = protocol; protocol == 50 {
				q.FromPort, q.ToPort = 0, 0
			}
			if box.HasPorts(p.Protocol) {
				add(q)
			}
		}
		for _, in := range []string{"eth1", "eth0"} {
			for _, to := range []string{"eth1", "eth0"} {
				q := p
				if q.Hook != box.Output {
					q.In = n.Number(in)
				}
				if q.Hook != box.Input {
					q.Out = n.Number(to)
				}
				add(q)
			}
		}
	}
	real := box.Real()
	return slices.DeleteFunc(out, func(p box.Packet) bool { return !real.Has(p) })
}

func bounds(s box.Span, last uint64) (out []uint64) {
	for _, v := range []uint64{s.First.Lo - 1, s.First.Lo, s.First.Lo + (s.Last.Lo-s.First.Lo)/2, s.Last.Lo, s.Last.Lo + 1} {
		if v <= last {
			out = append(out, v)
		}
	}
	return out
}

// Disagreements sends packets through the kernel, and returns those that it does not treat as the boxes say.
func (w *Router) Disagreements(packets []box.Packet, n *box.Interfaces, has func(box.Packet) bool) (out []box.Packet) {
	inside := n.Number("eth1")
	for _, fromInside := range []bool{true, false} { // what goes in one direction may not be the answer to what goes in the other
		var some []box.Packet
		for _, p := range packets {
			if (p.In == inside) == fromInside {
				some = append(some, p)
			}
		}
		for try := range 2 { // a packet may be lost on a busy machine, but not twice
			w.Forget()
			var wrong []box.Packet
			for i, ok := range w.Travel(some, n, false) {
				if ok != has(some[i]) {
					wrong = append(wrong, some[i])
				}
			}
			if some = wrong; try == 1 {
				out = append(out, wrong...)
			}
		}
	}
	return out
}

// Replies opens a connection of each row, and answers it; lost are those of which one of both does not get through.
func (w *Router) Replies(p *site.Policy) (lost int) {
	w.Helper()
	w.Forget()
	var there, back []box.Packet
	for _, r := range p.Rows {
		boxes := r.Boxes(p.Interfaces)
		q := boxes[0].Packet()
		if q.In == 0 {
			q.In, q.Out = p.Interfaces.Number("eth1"), p.Interfaces.Number("eth0")
		}
		if !Travels(q) || !box.HasPorts(q.Protocol) {
			continue
		}
		there = append(there, q)
		q.In, q.Out, q.From, q.To, q.FromPort, q.ToPort = q.Out, q.In, q.To, q.From, q.ToPort, q.FromPort
		back = append(back, q)
	}
	first, second := w.Travel(there, p.Interfaces, false), w.Travel(back, p.Interfaces, true)
	for i := range there {
		if !first[i] || !second[i] {
			lost++
		}
	}
	return lost
}

// within returns a number of an interval.
func within(r *rand.Rand, s box.Span) box.Num {
	between := func(a, b uint64) uint64 {
		if b-a == ^uint64(0) {
			return r.Uint64()
		}
		return a + r.Uint64N(b-a+1)
	}
	if s.First.Hi == s.Last.Hi {
		return box.Num{Hi: s.First.Hi, Lo: between(s.First.Lo, s.Last.Lo)}
	}
	n := box.Num{Hi: between(s.First.Hi, s.Last.Hi), Lo: r.Uint64()}
	if !s.Has(n) {
		return s.First
	}
	return n
}

// Random returns how many packets are wanted, no two the same, near enough to the boxes that many are in them; the seed decides which.
func Random(boxes box.List, n *box.Interfaces, wanted int, seed uint64) (out []box.Packet) {
	r := rand.New(rand.NewPCG(seed, 6))
	inside, outside, real := n.Number("eth1"), n.Number("eth0"), box.Real()
	seen := map[box.Packet]bool{}
	for len(out) < wanted {
		b, other := boxes[r.IntN(len(boxes))], boxes[r.IntN(len(boxes))]
		for d := range b {
			if r.IntN(12) == 0 && b[box.Hook] == other[box.Hook] && b[box.Family] == other[box.Family] { // one thing of another row
				b[d] = other[d]
			}
			if r.IntN(3) > 0 {
				v := within(r, b[d])
				b[d] = box.Span{First: v, Last: v}
			}
		}
		q := b.Packet()
		if q.Hook != box.Output && q.In != inside && q.In != outside {
			q.In = []int{inside, outside}[r.IntN(2)]
		}
		if q.Hook != box.Input && q.Out != inside && q.Out != outside {
			q.Out = []int{inside, outside}[r.IntN(2)]
		}
		if r.IntN(6) == 0 && box.HasPorts(q.Protocol) {
			q.ToPort = uint16(r.UintN(65536))
		}
		if Travels(q) && !seen[q] && real.Has(q) {
			seen[q] = true
			out = append(out, q)
		}
	}
	return out
}
