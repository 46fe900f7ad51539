package box

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// small makes a box of a universe of 4 numbers in four dimensions and 1 in the others, so that every packet can be looked at.
func small(r *rand.Rand) Box {
	b := Everything(IPv4)
	for d := range b {
		b[d] = One(4)
	}
	for _, d := range []Dim{Protocol, From, To, ToPort} {
		a, c := r.IntN(4), r.IntN(4)
		b[d] = Range(min(a, c), max(a, c))
	}
	return b
}

func some(r *rand.Rand) (l List) {
	for range r.IntN(7) {
		l = append(l, small(r))
	}
	return l
}

// members looks at every packet.
func members(l List) (out [256]bool) {
	for i := range out {
		for _, b := range l {
			in := true
			for k, d := range []Dim{Protocol, From, To, ToPort} {
				in = in && b[d].Has(N(i>>(2*k)&3))
			}
			out[i] = out[i] || in
		}
	}
	return out
}

// TestAgainstBruteForce compares each operation with looking at every packet of a small universe.
func TestAgainstBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		a, b := some(r), some(r)
		am, bm := members(a), members(b)
		cut, err1 := a.Intersect(b)
		rest, err2 := a.Subtract(b)
		covers, err3 := a.Covers(b)
		form, err4 := a.Canonical()
		n, err5 := a.Count()
		again, err6 := append(slices.Clone(form), cut...).Canonical()
		if err := first(err1, err2, err3, err4, err5, err6); err != nil {
			t.Fatal(err)
		}
		cm, rm, fm := members(cut), members(rest), members(form)
		count, all := 0, true
		for i := range am {
			if cm[i] != (am[i] && bm[i]) || rm[i] != (am[i] && !bm[i]) || fm[i] != am[i] {
				t.Fatalf("packet %d of %v and %v", i, a, b)
			}
			if am[i] {
				count++
			}
			all = all && (am[i] || !bm[i])
		}
		if covers != all || n.Int64() != int64(count) {
			t.Fatalf("%v covers %v: %v; %s of %d", a, b, covers, n, count)
		}
		if !slices.Equal(form, again) {
			t.Fatalf("two forms of one set:\n%v\n%v", form, again)
		}
		shuffled := append(slices.Clone(rest), cut...) // the same set in other pieces
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if other, err := shuffled.Canonical(); err != nil || !slices.Equal(form, other) {
			t.Fatalf("%v: two forms of one set:\n%v\n%v", err, form, other)
		}
		for i, x := range form {
			for _, y := range form[:i] {
				if x.overlaps(&y) {
					t.Fatalf("%v and %v overlap", x, y)
				}
			}
		}
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestWitness takes a packet of each box, which is in it and not in what was taken away.
func TestWitness(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	port := func() Span { a, b := r.IntN(65536), r.IntN(65536); return Range(min(a, b), max(a, b)) }
	wide := func() Box {
		b := Everything(IPv4)
		b[Hook], b[Protocol], b[FromPort], b[ToPort] = One(Forward), One(UDP), port(), port()
		p, _ := netip.AddrFrom4([4]byte{byte(r.IntN(4)), byte(r.IntN(256))}).Prefix(r.IntN(33))
		b[To] = Prefix(p)
		return b
	}
	for range 500 {
		l, m := List{wide(), wide()}, List{wide(), wide(), wide()}
		rest, err := l.Subtract(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range rest {
			if p := b.Packet(); !b.Has(p) || !l.Has(p) || m.Has(p) {
				t.Fatalf("%+v of %v", p, b)
			}
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, c := range [][3]string{
		{"10.0.0.0/8", "10.0.0.0", "10.255.255.255"}, {"192.0.2.7/32", "192.0.2.7", "192.0.2.7"}, {"0.0.0.0/0", "0.0.0.0", "255.255.255.255"},
		{"2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"}, {"2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"},
		{"2001:db8::1/128", "2001:db8::1", "2001:db8::1"}, {"2001:db8::/65", "2001:db8::", "2001:db8::7fff:ffff:ffff:ffff"}, {"::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		s := Prefix(netip.MustParsePrefix(c[0]))
		if s.First != Addr(netip.MustParseAddr(c[1])) || s.Last != Addr(netip.MustParseAddr(c[2])) {
			t.Errorf("%s: %v", c[0], s)
		}
	}
}

// TestReal has every packet that can be sent, once, and no type above 255.
func TestReal(t *testing.T) {
	l := Real()
	for i, b := range l {
		for _, c := range l[:i] {
			if b.overlaps(&c) {
				t.Errorf("%v and %v", b, c)
			}
		}
	}
	p := Packet{Protocol: ICMP, From: netip.MustParseAddr("192.0.2.1"), To: netip.MustParseAddr("192.0.2.2"), FromPort: 255}
	q := p
	q.FromPort = 256
	tcp := q
	tcp.Protocol = TCP
	esp := q
	esp.Protocol, esp.FromPort = 50, 0
	if !l.Has(p) || l.Has(q) || !l.Has(tcp) || !l.Has(esp) {
		t.Error("what is real is not")
	}
	if got := p.Describe(nil); got != "forward icmp type 255 code 0 192.0.2.1 -> 192.0.2.2" {
		t.Error(got)
	}
	if n := len(l); n != 2*3*(6+7) {
		t.Errorf("%d boxes", n)
	}
}

// TestTooMany says that a set falls into too many pieces, instead of filling the memory.
func TestTooMany(t *testing.T) {
	var grid List
	for d := range Dims {
		if d == Family {
			continue
		}
		for i := range 40 {
			b := Everything(IPv6)
			b[d] = One(3 * i)
			grid = append(grid, b)
		}
	}
	if _, err := (List{Everything(IPv6)}).Subtract(grid); err == nil {
		t.Error("a set in a million pieces")
	}
}
