package ufw

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/iptables"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/branch"
	"ringfence/internal/testkit/router"
)

// ufw is the program, whose files are copies that nobody else sees.
type ufw struct {
	testing.TB
	program  string
	outgoing string // its default
}

// newUFW puts copies in the place of what ufw reads and writes; the process has mounts of its own.
func newUFW(t testing.TB) *ufw {
	u := &ufw{t, testkit.Need(t, "/usr/sbin/ufw", "ufw"), "allow"}
	testkit.Need(t, "/usr/sbin/iptables", "iptables")
	router.Private(t, "/etc/ufw", "/etc/default/ufw")
	b, err := os.ReadFile("/etc/default/ufw")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/etc/default/ufw", []byte(strings.Replace(string(b), "IPT_SYSCTL=/etc/ufw/sysctl.conf", "IPT_SYSCTL=", 1)), 0o644); err != nil { // the router has settings of its own
		t.Fatal(err)
	}
	router.Run(t, u.program, "", "--force", "enable")
	return u
}

// load has ufw take files, and reads back what the kernel then has.
func (u *ufw) load(files []firewall.File, p *site.Policy) *firewall.Ruleset {
	u.Helper()
	for _, f := range files {
		if err := os.WriteFile("/etc/ufw/"+f.Name, []byte(f.Text), 0o640); err != nil {
			u.Fatal(err)
		}
	}
	outgoing := "allow" // as Debian has it, and all else denied
	if p.Host {
		outgoing = "deny"
	}
	if outgoing != u.outgoing {
		router.Run(u, u.program, "", "default", outgoing, "outgoing")
		u.outgoing = outgoing
	}
	router.Run(u, u.program, "", "reload")
	rules, err := iptables.Parse([]iptables.Dump{
		{Family: box.IPv4, Text: []byte(router.Run(u, "iptables-save", ""))},
		{Family: box.IPv6, Text: []byte(router.Run(u, "ip6tables-save", ""))},
	}, p.Interfaces)
	if err != nil {
		u.Fatal(err)
	}
	return rules
}

// TestUFW has ufw load the rendering of each set, proves what the kernel then has, and sends boundary packets through it; and ufw knows the rules as its own.
func TestUFW(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, syscall.CLONE_NEWNS) {
		return
	}
	u, w := newUFW(t), router.New(t)
	for _, name := range branch.Names() {
		p := branch.Policy(t, name)
		files, cert, err := Render(p)
		if err != nil || !cert.Exact {
			t.Fatalf("%s: %v %+v", name, err, cert)
		}
		rules := u.load(files, p)
		r, err := prove.Compare(p, rules)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != prove.Exact {
			t.Errorf("%s: %s: unknown %v, missing %v %v, wide %v", name, r.Verdict, r.Unknown, r.Missing, r.Later, r.Wide)
		}
		accepted, err := firewall.Accepted(rules.Chains)
		if err != nil {
			t.Fatal(err)
		}
		needs, lo := p.Boxes(), p.Interfaces.Number("lo")
		for _, hook := range []uint8{box.Forward, box.Input, box.Output} {
			packets := slices.DeleteFunc(router.Around(needs, p.Interfaces), func(q box.Packet) bool { return q.Hook != hook || q.In == lo || q.Out == lo })
			if len(packets) == 0 {
				continue
			}
			pass := 0
			for _, q := range packets {
				if needs.Has(q) {
					pass++
				}
				if needs.Has(q) != accepted.Has(q) {
					t.Errorf("%s: %s: needed %v, read back %v", name, q.Describe(p.Interfaces), needs.Has(q), accepted.Has(q))
				}
			}
			wrong := w.Disagreements(packets, p.Interfaces, needs.Has)
			for _, q := range wrong[:min(len(wrong), 10)] {
				t.Errorf("%s: %s: needed %v, and the kernel does not think so", name, q.Describe(p.Interfaces), needs.Has(q))
			}
			if pass < 20 || len(packets)-pass < 20 {
				t.Errorf("%s: %d of %d packets should pass", name, pass, len(packets))
			}
			t.Logf("%s, hook %d: %d rules, %d packets, %d of which pass, %d disagreements", name, hook, r.Rules, len(packets), pass, len(wrong))
		}
		u.knows(files, p)
	}
}

// knows has ufw show the rules, and write its files anew, in which nothing changes.
func (u *ufw) knows(files []firewall.File, p *site.Policy) {
	u.Helper()
	status := router.Run(u, u.program, "", "status", "numbered")
	for _, row := range p.Rows {
		if len(row.Protocols) > 0 && box.HasPorts(row.Protocols[0]) && !strings.Contains(status, "# "+row.ID+"\n") {
			u.Errorf("ufw does not show %s:\n%s", row.ID, status)
			break
		}
	}
	router.Run(u, u.program, "", "allow", "22/tcp")
	router.Run(u, u.program, "", "delete", "allow", "22/tcp")
	for _, f := range files {
		b, err := os.ReadFile("/etc/ufw/" + f.Name)
		if err != nil {
			u.Fatal(err)
		}
		if string(b) != f.Text {
			u.Errorf("ufw writes another %s:\n%s\nand not\n%s", f.Name, b, f.Text)
		}
	}
}

// TestRandom sends 100,000 random packets through the renderings of both sets: what passes is what the certificate says, which is exact.
func TestRandom(t *testing.T) {
	t.Parallel()
	if !router.Alone(t, syscall.CLONE_NEWNS) {
		return
	}
	u, w := newUFW(t), router.New(t)
	for _, name := range []string{"webex-calling", "dedicated-instance"} {
		p := branch.Policy(t, name)
		files, cert, err := Render(p)
		if err != nil || !cert.Exact {
			t.Fatal(err, cert)
		}
		u.load(files, p)
		needs := p.Boxes()
		packets := router.Random(needs, p.Interfaces, 50_000, 9)
		passing, wrong := 0, 0
		for _, q := range packets {
			if needs.Has(q) {
				passing++
			}
		}
		for part := range slices.Chunk(packets, 10_000) {
			for _, q := range w.Disagreements(part, p.Interfaces, needs.Has) {
				if wrong++; wrong < 10 {
					t.Errorf("%s: %s: needed %v, and the kernel does not think so", name, q.Describe(p.Interfaces), needs.Has(q))
				}
			}
		}
		if passing < 10_000 || passing > 45_000 {
			t.Errorf("%s: %d packets should get through", name, passing)
		}
		t.Logf("%s: %d packets, %d of which get through, %d disagreements", name, len(packets), passing, wrong)
	}
}
