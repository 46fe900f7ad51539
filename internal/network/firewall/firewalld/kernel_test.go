package firewalld

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/nft"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/router"
)

// firewalld is the programs of the service, whose files nobody else sees.
type firewalld struct {
	testing.TB
	cmd, offline, nft string
}

func newFirewalld(t testing.TB) *firewalld {
	f := &firewalld{t, testkit.Need(t, "/usr/bin/firewall-cmd", "firewalld"), testkit.Need(t, "/usr/bin/firewall-offline-cmd", "firewalld"), testkit.Need(t, "/usr/sbin/nft", "nftables")}
	router.Private(t, "/etc/firewalld")
	settings := "/etc/firewalld/firewalld.conf"
	b, err := os.ReadFile(settings)
	if err == nil { // the router has no routes of IPv6 back to where packets come from
		err = os.WriteFile(settings, []byte(strings.Replace(string(b), "IPv6_rpfilter=yes", "IPv6_rpfilter=no", 1)), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	router.Firewalld(t)
	return f
}

// load has firewalld take files instead of those that it had, and reads back what the kernel then has.
func (f *firewalld) load(files []firewall.File, p *site.Policy) *firewall.Ruleset {
	f.Helper()
	for _, kind := range []string{"zones", "policies", "ipsets"} {
		old, err := filepath.Glob("/etc/firewalld/" + kind + "/*.xml")
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range old {
			if err := os.Remove(name); err != nil {
				f.Fatal(err)
			}
		}
	}
	for _, file := range files {
		if err := os.WriteFile("/etc/firewalld/"+file.Name, []byte(file.Text), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	router.Run(f, f.offline, "", "--check-config")
	router.Run(f, f.cmd, "", "--reload")
	rules, err := nft.Parse([]byte(router.Run(f, f.nft, "", "-j", "-n", "list", "ruleset")), p.Interfaces)
	if err != nil {
		f.Fatal(err)
	}
	for _, u := range rules.Unknown {
		f.Errorf("%s: %s is not understood", u.Where, u.What)
	}
	return rules
}

// says renders a policy, and returns what its certificate says of packets.
func says(t testing.TB, p *site.Policy) ([]firewall.File, *firewall.Certificate, box.List) {
	t.Helper()
	r, err := render(p)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := firewall.Certify(p, r.rendered)
	if err != nil {
		t.Fatal(err)
	}
	var all box.List
	for _, l := range r.rendered {
		all = append(all, l...)
	}
	return r.files(), cert, all
}

// judged returns the packets at a hook: none is forwarded by the loopback interface, and none is of the ICMP of the other family, since nft leaves the family out where it lists a rule for ICMP.
func judged(hook uint8, lo int) (out box.List) {
	for _, b := range box.Real() {
		odd := map[uint8]uint8{box.IPv4: box.ICMPv6, box.IPv6: box.ICMP}[uint8(b[box.Family].First.Lo)]
		if b[box.Hook] != box.One(hook) {
			continue
		}
		for _, b[box.Protocol] = range without(b[box.Protocol], int(odd)) {
			for _, b[box.In] = range without(b[box.In], lo) {
				for _, b[box.Out] = range without(b[box.Out], lo) {
					out = append(out, b)
				}
			}
		}
	}
	return out
}

// without returns an interval without a number.
func without(s box.Span, n int) []box.Span {
	if !s.Has(box.N(n)) {
		return []box.Span{s}
	}
	var out []box.Span
	if s.First != box.N(n) {
		out = append(out, box.Span{First: s.First, Last: box.N(n - 1)})
	}
	if s.Last != box.N(n) {
		out = append(out, box.Span{First: box.N(n + 1), Last: s.Last})
	}
	return out
}

// TestFirewalld has firewalld load the rendering of each set: what the kernel then has is what the certificate says, in the whole space of packets, and by boundary packets of needs and certificate.
func TestFirewalld(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, syscall.CLONE_NEWNS) {
		return
	}
	f, w := newFirewalld(t), router.New(t)
	for _, name := range branch.Names() {
		p := branch.Policy(t, name)
		files, cert, rendered := says(t, p)
		rules := f.load(files, p)
		accepted, err := firewall.Accepted(rules.Chains)
		if err != nil {
			t.Fatal(err)
		}
		hooks := []uint8{box.Forward}
		if p.Host {
			hooks = []uint8{box.Input, box.Output}
		}
		lo := p.Interfaces.Number("lo")
		for _, hook := range hooks {
			at := judged(hook, lo)
			here, err := accepted.Intersect(at)
			if err != nil {
				t.Fatal(err)
			}
			said, err := rendered.Intersect(at)
			if err != nil {
				t.Fatal(err)
			}
			more, err := here.Subtract(said)
			if err != nil {
				t.Fatal(err)
			}
			less, err := said.Subtract(here)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range more[:min(len(more), 5)] {
				t.Errorf("%s: more than the certificate says: %s", name, b.Describe(p.Interfaces))
			}
			for _, b := range less[:min(len(less), 5)] {
				t.Errorf("%s: less than the certificate says: %s", name, b.Describe(p.Interfaces))
			}
			packets := slices.DeleteFunc(append(router.Around(p.Boxes(), p.Interfaces), router.Around(said, p.Interfaces)...), func(q box.Packet) bool { return q.Hook != hook || q.In == lo || q.Out == lo })
			pass := 0
			for _, q := range packets {
				if said.Has(q) {
					pass++
				}
			}
			wrong := w.Disagreements(packets, p.Interfaces, said.Has)
			for _, q := range wrong[:min(len(wrong), 10)] {
				t.Errorf("%s: %s: the certificate says %v, and the kernel does not think so", name, q.Describe(p.Interfaces), said.Has(q))
			}
			if pass < 20 || len(packets)-pass < 20 {
				t.Errorf("%s: %d of %d packets should pass", name, pass, len(packets))
			}
			t.Logf("%s, hook %d: %d packets, %d of which pass, %d disagreements", name, hook, len(packets), pass, len(wrong))
		}
		t.Logf("%s: exact %v, %d rows differ: %+v", name, cert.Exact, len(cert.Losses), cert.Losses)
	}
}

// TestRandom sends 100,000 random packets through the renderings of both sets: what passes is what the certificate says, packet by packet.
func TestRandom(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, syscall.CLONE_NEWNS) {
		return
	}
	f, w := newFirewalld(t), router.New(t)
	for _, name := range []string{"webex-calling", "dedicated-instance"} {
		p := branch.Policy(t, name)
		files, cert, rendered := says(t, p)
		if cert.Exact != (name == "webex-calling") {
			t.Errorf("%s: %+v", name, cert)
		}
		f.load(files, p)
		packets := router.Random(append(p.Boxes(), rendered...), p.Interfaces, 50_000, 11)
		passing, lost, wrong := 0, 0, 0
		needs := p.Boxes()
		for _, q := range packets {
			if rendered.Has(q) {
				passing++
			}
			if rendered.Has(q) != needs.Has(q) {
				lost++
			}
		}
		for part := range slices.Chunk(packets, 10_000) {
			for _, q := range w.Disagreements(part, p.Interfaces, rendered.Has) {
				if wrong++; wrong < 10 {
					t.Errorf("%s: %s: the certificate says %v, and the kernel does not think so", name, q.Describe(p.Interfaces), rendered.Has(q))
				}
			}
		}
		if passing < 10_000 || passing > 45_000 || (lost > 0) == cert.Exact {
			t.Errorf("%s: %d packets should get through, %d of which are lost on the way to the rules", name, passing, lost)
		}
		t.Logf("%s: %d packets, %d of which get through, %d not as needed, %d disagreements", name, len(packets), passing, lost, wrong)
	}
}
