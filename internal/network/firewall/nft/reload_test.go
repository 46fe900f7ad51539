package nft

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"ringfence/internal/network/box"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/router"
)

// TestReload puts a new version of a set into force again and again while a connection that both versions need goes on: none of its packets is lost, none that neither needs gets through for a moment, and what the
// versions differ in changes and nothing else.
func TestReload(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	nft := testkit.Need(t, "/usr/sbin/nft", "nftables")
	w := router.New(t)
	set := branch.Set(t, "webex-calling")
	g := set.Group("webex-calling") // a version to come, in which a network has become smaller
	g.Networks[slices.IndexFunc(g.Networks, func(n need.Network) bool { return n.Prefix.String() == "144.196.0.0/16" })].Prefix = netip.MustParsePrefix("144.196.0.0/17")
	now := branch.Resolve(t, "webex-calling", set)
	old := branch.Resolve(t, "webex-calling", catalogue.At(branch.Set(t, "webex-calling"), time.Date(2023, 12, 10, 0, 0, 0, 0, time.UTC)).Set)
	old.Interfaces = now.Interfaces
	n := now.Interfaces
	write := func(p *site.Policy) string {
		t.Helper()
		text, cert, err := Render(p)
		if err != nil || !cert.Exact {
			t.Fatal(err, cert)
		}
		return text
	}
	before, after := write(old), write(now)
	less := func(a, b *site.Policy) box.List {
		t.Helper()
		out, err := a.Boxes().Subtract(b.Boxes())
		if err != nil || len(out) == 0 {
			t.Fatal(err, len(out))
		}
		return out
	}
	come, gone := less(now, old), less(old, now)
	both, err := old.Boxes().Intersect(now.Boxes())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(both, func(b box.Box) bool { return b[box.Protocol] == box.One(box.UDP) && router.Travels(b.Packet()) })
	kept := both[i].Packet()
	back := kept
	back.In, back.Out, back.From, back.To, back.FromPort, back.ToPort = kept.Out, kept.In, kept.To, kept.From, kept.ToPort, kept.FromPort
	stray := kept
	stray.ToPort = 7
	if old.Boxes().Has(stray) || now.Boxes().Has(stray) {
		t.Fatal("somebody needs the packet that nobody should")
	}
	router.Run(t, nft, before, "-f", "-")
	for _, x := range []struct {
		packet box.Packet
		answer bool
	}{{kept, false}, {back, true}} {
		if !w.Travel([]box.Packet{x.packet}, n, x.answer)[0] {
			t.Fatalf("%s does not get through", x.packet.Describe(n))
		}
	}
	// As long as the reloads take, and once more: packets of the connection, both ways, and strays between.
	over := make(chan struct{})
	reloads := 20
	go func() {
		defer close(over)
		for i := range reloads {
			router.Run(t, nft, []string{after, before}[i%2], "-f", "-")
		}
	}()
	sent, rounds := 0, 0
	for done := false; !done; rounds++ {
		select {
		case <-over:
			done = true
		default:
		}
		var packets []box.Packet
		for range 100 {
			packets = append(packets, kept, back, stray)
		}
		for i, through := range w.Travel(packets, n, true) {
			if want := packets[i] != stray; through != want {
				t.Errorf("%s: got through %v, want %v", packets[i].Describe(n), through, want)
			}
			sent++
		}
	}
	t.Logf("%d packets in %d rounds, while the rules were exchanged %d times", sent, rounds, reloads)
	router.Run(t, nft, after, "-f", "-")
	for _, x := range []struct {
		boxes box.List
		want  bool
	}{{come, true}, {gone, false}} {
		var packets []box.Packet
		for _, b := range x.boxes {
			if p := b.Packet(); router.Travels(p) {
				packets = append(packets, p)
			}
		}
		w.Forget()
		for i, through := range w.Travel(packets, n, false) {
			if through != x.want {
				t.Errorf("%s: got through %v, want %v", packets[i].Describe(n), through, x.want)
			}
		}
		if len(packets) == 0 {
			t.Error("nothing was sent")
		}
	}
}
