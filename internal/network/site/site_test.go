package site

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/node/config"
)

func set(t testing.TB, name string) *need.Set {
	t.Helper()
	s, err := catalogue.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func example(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/webex.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestResolve has each row of a set in the policy or in the list of what is missing, and the boxes of the rows hold what the table says.
func TestResolve(t *testing.T) {
	w := set(t, "webex-calling")
	s, err := Parse(example(t), "webex.yaml", w)
	if err != nil {
		t.Fatal(err)
	}
	p := Resolve(w, s)
	if len(p.Missing) != 0 || len(p.Rows) != 18-2+1 {
		t.Fatalf("%d rows, missing %v", len(p.Rows), p.Missing)
	}
	packet := func(in, out string, protocol uint8, from, to string) box.Packet {
		f, d := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
		return box.Packet{In: p.Interfaces.Number(in), Out: p.Interfaces.Number(out), Protocol: protocol, From: f.Addr(), To: d.Addr(), FromPort: f.Port(), ToPort: d.Port()}
	}
	all := p.Boxes()
	for _, c := range []struct {
		packet box.Packet
		want   bool
	}{
		{packet("eth1", "eth0", box.UDP, "10.20.0.9:19560", "23.89.0.1:5004"), true},
		{packet("eth0", "eth1", box.UDP, "10.20.0.9:19560", "23.89.0.1:5004"), false}, // the other way round
		{packet("eth1", "eth0", box.TCP, "10.20.0.9:19560", "23.89.0.1:5004"), false},
		{packet("eth1", "eth0", box.UDP, "10.20.0.9:19559", "23.89.0.1:5004"), false},
		{packet("eth1", "eth0", box.UDP, "10.21.0.0:19560", "23.89.0.1:5004"), false},
		{packet("eth0", "eth1", box.TCP, "23.89.0.1:8934", "192.0.2.10:5061"), true},
		{packet("eth0", "eth1", box.TCP, "23.89.0.1:8934", "192.0.2.10:5062"), false},
		{packet("eth1", "eth1", box.TCP, "192.0.2.11:8000", "10.9.0.1:5061"), true},
	} {
		if got := all.Has(c.packet); got != c.want {
			t.Errorf("%s: %v", c.packet.Describe(p.Interfaces), got)
		}
	}
	rows := 0
	for _, n := range set(t, "dedicated-instance").Needs {
		rows += len(n.Transport[:1])
	}
	empty := Resolve(set(t, "dedicated-instance"), &Site{})
	if len(empty.Rows) != 0 || len(empty.Missing) != rows {
		t.Errorf("%d rows of a site that says nothing, %d of %d missing", len(empty.Rows), len(empty.Missing), rows)
	}
	for _, m := range empty.Missing {
		if !strings.Contains(m.Missing, "networks of ") {
			t.Errorf("%+v", m)
		}
	}
	if m := Resolve(w, &Site{}).Missing[8].Missing; !strings.Contains(m, "depends on PSTN option") || !strings.Contains(m, "typical are 5060, 5061") {
		t.Error(m)
	}
}

// TestFill has a set say what a site says: its networks, its rows, its ports, and no less of a policy than before.
func TestFill(t *testing.T) {
	w := set(t, "webex-calling")
	before := len(w.Needs)
	s, err := Parse([]byte("set: webex-calling\nnetworks: {device: 10.20.0.0/16, admins: 192.0.2.0/24}\nports: {wc-p-09: 5061}\nrows: [wc-p-06, wc-p-09]\nown: {web: {direction: outbound, transport: tcp, from: admins, to: wxc-cloud, to-ports: [443]}}\n"), "site.yaml", w)
	if err != nil {
		t.Fatal(err)
	}
	f := Fill(w, s)
	if len(f.Needs) != 3 || f.Needs[0].ID != "wc-p-06" || f.Needs[1].ToPorts[0].String() != "5061" || f.Needs[2].ID != "web" || f.Roles["admins"].Side != "customer" {
		t.Errorf("%+v", f.Needs)
	}
	if nets := f.NetworksOf("device"); len(nets) != 1 || nets[0].String() != "10.20.0.0/16" {
		t.Error(nets)
	}
	if nets := f.NetworksOf("wxc-cloud"); len(nets) != len(w.NetworksOf("wxc-cloud")) || len(nets) == 0 {
		t.Error(nets)
	}
	if wrong := f.Check(); len(wrong) > 0 {
		t.Error(wrong)
	}
	if len(w.Needs) != before || w.Roles["admins"].Text != "" || len(w.NetworksOf("device")) != 0 {
		t.Error("the set itself was changed")
	}
}

// TestSelf resolves the flows of a node into what the host takes in and sends out.
func TestSelf(t *testing.T) {
	self := catalogue.Self("n", []ringfence.Flow{
		{Name: "sip-tls", Purpose: "signalling", Direction: ringfence.Listens, Transport: "tcp", Ports: ringfence.PortRange{First: 5061, Last: 5061}, Peers: "any phone", TLS: ringfence.TLSServer},
		{Name: "media", Purpose: "media", Direction: ringfence.Listens, Transport: "udp", Ports: ringfence.PortRange{First: 16384, Last: 16999}, Peers: "any phone", TLS: ringfence.MediaSRTP},
		{Name: "trunks", Purpose: "trunks", Direction: ringfence.Dials, Transport: "tcp", Peers: "trunks", TLS: ringfence.TLSMutual},
	})
	s, err := Parse([]byte("set: self\nipv6: true\nnetworks:\n  any-phone: [10.0.0.0/8, '2001:db8::/32']\n  admins: 192.0.2.0/24\nown:\n  ssh: {direction: inbound, transport: tcp, from: admins, to: node, to-ports: 22}\n"), "self.yaml", self)
	if err != nil {
		t.Fatal(err)
	}
	p := Resolve(self, s)
	if len(p.Missing) != 1 || !strings.Contains(p.Missing[0].Missing, "networks of trunks") || !strings.Contains(p.Missing[0].Missing, "the ports") {
		t.Errorf("%+v", p.Missing)
	}
	all, at := p.Boxes(), netip.MustParseAddr
	for _, c := range []struct {
		p    box.Packet
		want bool
	}{
		{box.Packet{Hook: box.Input, Protocol: box.TCP, From: at("10.0.0.1"), To: at("192.0.2.2"), FromPort: 40000, ToPort: 5061}, true},
		{box.Packet{Hook: box.Output, Protocol: box.TCP, From: at("192.0.2.2"), To: at("10.0.0.1"), FromPort: 40000, ToPort: 5061}, false},
		{box.Packet{Hook: box.Output, Protocol: box.UDP, From: at("2001:db8:1::"), To: at("2001:db8::2"), FromPort: 16384, ToPort: 4000}, true},
		{box.Packet{Hook: box.Input, Protocol: box.TCP, From: at("192.0.2.9"), To: at("192.0.2.2"), FromPort: 4, ToPort: 22}, true},
		{box.Packet{Hook: box.Input, Protocol: box.ICMPv6, From: at("fe80::1"), To: at("fe80::2"), FromPort: 135}, true},
		{box.Packet{Hook: box.Input, Protocol: box.ICMPv6, From: at("fe80::1"), To: at("fe80::2"), FromPort: 137}, false},
		{box.Packet{Hook: box.Input, In: p.Interfaces.Number("lo"), Protocol: 50, From: at("127.0.0.1"), To: at("127.0.0.1")}, true},
		{box.Packet{Protocol: box.TCP, From: at("10.0.0.1"), To: at("192.0.2.2"), FromPort: 40000, ToPort: 5061}, false},
	} {
		if all.Has(c.p) != c.want {
			t.Errorf("%s: want %v", c.p.Describe(p.Interfaces), c.want)
		}
	}
}

// TestGuide has the site files of the guide be those that are tested, and say all that their sets need.
func TestGuide(t *testing.T) {
	b, err := os.ReadFile("../../../docs/guides/firewalls.md")
	if err != nil {
		t.Fatal(err)
	}
	for block, set := range map[string]*need.Set{"site": set(t, "webex-calling"), "host": catalogue.Self("n", config.Default().Flows())} {
		_, rest, _ := strings.Cut(string(b), "```text "+block+"\n")
		text, _, ok := strings.Cut(rest, "```")
		if !ok || block == "site" && text != string(example(t)) {
			t.Errorf("the block %s of the guide is not the file that is tested", block)
		}
		s, err := Parse([]byte(text), block, set)
		if err != nil {
			t.Fatal(err)
		}
		if p := Resolve(set, s); len(p.Missing) > 0 || len(p.Rows) < 9 {
			t.Errorf("%s: %d rows, missing %v", block, len(p.Rows), p.Missing)
		}
	}
}

// TestMistakes has all mistakes of a file told at once, each with its line.
func TestMistakes(t *testing.T) {
	_, err := Parse([]byte(`set: other
ipv6: perhaps
colour: red
interfaces:
  inside: eth 1
  left: eth0
networks:
  device: [10.0.0.1/8, 10.0.0.0/33, "::ffff:10.0.0.1", 2001:db8::/32]
  webex-app: [10.0.0.0/8, 10.1.0.0/16]
  wxc-cloud: [192.0.2.0/24]
  devices: [192.0.2.0/24]
ports:
  wc-p-04: [10-9, 0, 65536, x]
  wc-p-01: [5061]
  wc-p-99: [5061]
rows: [wc-p-98]
own:
  wc-p-01: {direction: up, transport: sctp, from: a, to: b, port: 1}
`), "f", set(t, "webex-calling"))
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, want := range []string{`f:1: the file is for the set "other"`, "f:2: ipv6", `f:3: there is no "colour"`, `f:5: interfaces: "eth 1"`, `f:6: interfaces: there are inside and outside`,
		"f:8: device: 10.0.0.1/8 has bits of a host; the network is 10.0.0.0/8", `f:8: device: "10.0.0.0/33"`, "f:8: device: ::ffff:10.0.0.1 is an IPv4", "f:8: device: 2001:db8::/32 is a network of IPv6",
		"f:9: webex-app: 10.0.0.0/8 and 10.1.0.0/16 overlap", "f:10: networks: the set itself", `f:11: networks: there is no role "devices"`, `f:13: ports of wc-p-04: "10-9"`, `f:13: ports of wc-p-04: "65536"`,
		"f:14: ports: the set itself", `f:15: ports: there is no row "wc-p-99"`, `f:16: rows: there is no row "wc-p-98"`, "f:18: own row wc-p-01: a row of the set", "the direction is", "the transport is", `there is no "port"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not told: %s", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
	for _, b := range []string{"", "- 1\n", "set: [", "set: webex-calling\nset: webex-calling\n", "set: *a\n", "networks: {a: {b: c}}\n", "a: &a [*a]\n", "---\n---\n", strings.Repeat(" ", 1<<20+1)} {
		if _, err := Parse([]byte(b), "f", set(t, "webex-calling")); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%.40q: %v", b, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	w := set(f, "webex-calling")
	f.Add(example(f))
	f.Add([]byte("set: webex-calling\nipv6: true\nnetworks: {device: any}\nown: {ssh: {direction: inbound, transport: tcp, from: device, to: wxc-cloud, to-ports: [22]}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b, "f", w)
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Errorf("%v", err)
			}
			return
		}
		p := Resolve(w, s)
		if len(s.Rows) == 0 && len(p.Rows)+len(p.Missing) < len(w.Needs)-len(s.Without) {
			t.Error("a row was dropped")
		}
		for _, r := range p.Rows {
			if len(r.Boxes(p.Interfaces)) == 0 {
				t.Errorf("%+v needs nothing", r)
			}
		}
	})
}
