package nft

import (
	"slices"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/router"
)

// TestPackets sends boundary packets of every row through the rendering (V01): the kernel, the boxes that were read back and the needs agree.
func TestPackets(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	for _, name := range []string{"webex-calling", "dedicated-instance"} {
		p := branch.Policy(t, name)
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
		packets := router.Around(needs, p.Interfaces)
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
		wrong := w.Disagreements(packets, p.Interfaces, needs.Has)
		for _, q := range wrong[:min(len(wrong), 10)] {
			t.Errorf("%s: %s: needed %v, and the kernel does not think so", name, q.Describe(p.Interfaces), needs.Has(q))
		}
		t.Logf("%s: %d packets, %d of which pass, %d disagreements", name, len(packets), pass, len(wrong))
		if lost := w.Replies(p); lost > 0 {
			t.Errorf("%s: %d connections do not come up", name, lost)
		}
	}
}

// TestHost sends boundary packets to and from the host itself, through the rules for one host.
func TestHost(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	p := branch.Policy(t, "self")
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
		packets := slices.DeleteFunc(router.Around(needs, p.Interfaces), func(q box.Packet) bool { return q.Hook != hook || q.In == lo || q.Out == lo })
		pass := 0
		for _, q := range packets {
			if needs.Has(q) {
				pass++
			}
			if needs.Has(q) != accepted.Has(q) {
				t.Errorf("%s: needed %v, read back %v", q.Describe(p.Interfaces), needs.Has(q), accepted.Has(q))
			}
		}
		wrong := w.Disagreements(packets, p.Interfaces, needs.Has)
		for _, q := range wrong[:min(len(wrong), 10)] {
			t.Errorf("%s: needed %v, and the kernel does not think so", q.Describe(p.Interfaces), needs.Has(q))
		}
		if pass < 20 || len(packets)-pass < 20 {
			t.Errorf("%d of %d packets should pass", pass, len(packets))
		}
		t.Logf("hook %d: %d packets, %d of which pass, %d disagreements", hook, len(packets), pass, len(wrong))
	}
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
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	p := branch.Policy(t, "webex-calling")
	text, cert, err := Render(p)
	if err != nil || !cert.Exact {
		t.Fatal(err, cert)
	}
	load(t, text, p.Interfaces)
	needs := p.Boxes()
	packets := router.Random(needs, p.Interfaces, 100_000, 5)
	passing := 0
	for _, q := range packets {
		if needs.Has(q) {
			passing++
		}
	}
	wrong := 0
	for part := range slices.Chunk(packets, 10_000) {
		for _, q := range w.Disagreements(part, p.Interfaces, needs.Has) {
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
