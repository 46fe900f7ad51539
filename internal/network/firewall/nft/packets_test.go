package nft

import (
	"math/rand/v2"
	"slices"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
)

// around returns packets at and around each bound of the boxes: one of each box, and those that differ from it in one thing.
func around(boxes box.List, n *box.Interfaces) (out []box.Packet) {
	seen := map[box.Packet]bool{}
	add := func(p box.Packet) {
		if p.In == 0 && p.Hook != box.Output { // any interface is one of the two
			p.In = n.Number("eth1")
		}
		if p.Out == 0 && p.Hook != box.Input {
			p.Out = n.Number("eth0")
		}
		if travels(p) && !seen[p] {
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

// disagreements sends packets through the kernel, and returns those that it does not treat as the boxes say.
func (w *wire) disagreements(packets []box.Packet, n *box.Interfaces, has func(box.Packet) bool) (out []box.Packet) {
	inside := n.Number("eth1")
	for _, fromInside := range []bool{true, false} { // what goes in one direction may not be the answer to what goes in the other
		var some []box.Packet
		for _, p := range packets {
			if (p.In == inside) == fromInside {
				some = append(some, p)
			}
		}
		for try := range 2 { // a packet may be lost on a busy machine, but not twice
			w.forget()
			var wrong []box.Packet
			for i, ok := range w.travel(some, n, false) {
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

// policyOf returns the policy of a site file of the tests.
func policyOf(t testing.TB, name string) *site.Policy {
	t.Helper()
	file := "testdata/" + name + ".yaml"
	return resolved(t, sets(t)[file], file)
}

// TestPackets sends boundary packets of every row through the rendering (V01): the kernel, the boxes that were read back and the needs agree.
func TestPackets(t *testing.T) {
	t.Parallel()
	if !ownNetwork(t) {
		return
	}
	w := newWire(t)
	for _, name := range []string{"webex-calling", "dedicated-instance"} {
		p := policyOf(t, name)
		text, _, err := Render(p)
		if err != nil {
			t.Fatal(err)
		}
		rules := load(t, text, p.Interfaces)
		accepted, err := firewall.Accepted(rules.Chains)
		if err != nil {
			t.Fatal(err)
		}
		needs := p.Boxes()
		packets := around(needs, p.Interfaces)
		pass := 0
		for _, q := range packets {
			if needs.Has(q) {
				pass++
			}
			if needs.Has(q) != accepted.Has(q) {
				t.Errorf("%s: needed %v, read back %v", q.Describe(p.Interfaces), needs.Has(q), accepted.Has(q))
			}
		}
		if pass < 100 || len(packets) < 2*pass/3 {
			t.Errorf("%s: %d of %d packets should pass", name, pass, len(packets))
		}
		wrong := w.disagreements(packets, p.Interfaces, needs.Has)
		for _, q := range wrong[:min(len(wrong), 10)] {
			t.Errorf("%s: %s: needed %v, and the kernel does not think so", name, q.Describe(p.Interfaces), needs.Has(q))
		}
		t.Logf("%s: %d packets, %d of which pass, %d disagreements", name, len(packets), pass, len(wrong))
		if lost := w.replies(p); lost > 0 {
			t.Errorf("%s: %d connections do not come up", name, lost)
		}
	}
}

// TestHost sends boundary packets to and from the host itself, through the rules for one host.
func TestHost(t *testing.T) {
	t.Parallel()
	if !ownNetwork(t) {
		return
	}
	w := newWire(t)
	p := policyOf(t, "self")
	text, _, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	rules := load(t, text, p.Interfaces)
	accepted, err := firewall.Accepted(rules.Chains)
	if err != nil {
		t.Fatal(err)
	}
	needs := p.Boxes()
	lo := p.Interfaces.Number("lo")
	for _, hook := range []uint8{box.Input, box.Output} {
		packets := slices.DeleteFunc(around(needs, p.Interfaces), func(q box.Packet) bool { return q.Hook != hook || q.In == lo || q.Out == lo })
		pass := 0
		for _, q := range packets {
			if needs.Has(q) {
				pass++
			}
			if needs.Has(q) != accepted.Has(q) {
				t.Errorf("%s: needed %v, read back %v", q.Describe(p.Interfaces), needs.Has(q), accepted.Has(q))
			}
		}
		wrong := w.disagreements(packets, p.Interfaces, needs.Has)
		for _, q := range wrong[:min(len(wrong), 10)] {
			t.Errorf("%s: needed %v, and the kernel does not think so", q.Describe(p.Interfaces), needs.Has(q))
		}
		if pass < 20 || len(packets)-pass < 20 {
			t.Errorf("%d of %d packets should pass", pass, len(packets))
		}
		t.Logf("hook %d: %d packets, %d of which pass, %d disagreements", hook, len(packets), pass, len(wrong))
	}
}

// replies opens a connection of each row, and answers it.
func (w *wire) replies(p *site.Policy) (lost int) {
	w.Helper()
	w.forget()
	var there, back []box.Packet
	for _, r := range p.Rows {
		boxes := r.Boxes(p.Interfaces)
		q := boxes[0].Packet()
		if q.In == 0 {
			q.In, q.Out = p.Interfaces.Number("eth1"), p.Interfaces.Number("eth0")
		}
		if !travels(q) || !box.HasPorts(q.Protocol) {
			continue
		}
		there = append(there, q)
		q.In, q.Out, q.From, q.To, q.FromPort, q.ToPort = q.Out, q.In, q.To, q.From, q.ToPort, q.FromPort
		back = append(back, q)
	}
	first, second := w.travel(there, p.Interfaces, false), w.travel(back, p.Interfaces, true)
	for i := range there {
		if !first[i] || !second[i] {
			lost++
		}
	}
	return lost
}

// proof returns what the proof says of rules for the needs, failing where it cannot say it.
func proof(t testing.TB, p *site.Policy, rules *firewall.Ruleset) *prove.Result {
	t.Helper()
	r, err := prove.Compare(p, rules)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRandom sends 100,000 random packets through the rendering, near enough to the needs that many get through.
func TestRandom(t *testing.T) {
	t.Parallel()
	if !ownNetwork(t) {
		return
	}
	w := newWire(t)
	p := policyOf(t, "webex-calling")
	text, cert, err := Render(p)
	if err != nil || !cert.Exact {
		t.Fatal(err, cert)
	}
	load(t, text, p.Interfaces)
	needs := p.Boxes()
	r := rand.New(rand.NewPCG(5, 6))
	seen := map[box.Packet]bool{}
	var packets []box.Packet
	passing := 0
	for len(packets) < 100_000 {
		b, other := needs[r.IntN(len(needs))], needs[r.IntN(len(needs))]
		for d := range b {
			if r.IntN(12) == 0 { // one thing of another row
				b[d] = other[d]
			}
			if s := b[d]; r.IntN(3) > 0 && s.First.Hi == s.Last.Hi && s.First.Less(s.Last) {
				n := s.First.Lo + r.Uint64N(s.Last.Lo-s.First.Lo+1)
				b[d] = box.Range(n, n)
			}
		}
		q := b.Packet()
		if r.IntN(6) == 0 {
			q.ToPort = uint16(r.UintN(65536))
		}
		if q.In == 0 || q.Out == 0 || !travels(q) || seen[q] {
			continue
		}
		seen[q] = true
		if packets = append(packets, q); needs.Has(q) {
			passing++
		}
	}
	wrong := 0
	for part := range slices.Chunk(packets, 10_000) {
		for _, q := range w.disagreements(part, p.Interfaces, needs.Has) {
			if wrong++; wrong < 10 {
				t.Errorf("%s: needed %v, and the kernel does not think so", q.Describe(p.Interfaces), needs.Has(q))
			}
		}
	}
	if passing < 20_000 || passing > 80_000 {
		t.Errorf("%d packets should get through", passing)
	}
	t.Logf("%d packets, %d of which get through, %d disagreements", len(packets), passing, wrong)
}
