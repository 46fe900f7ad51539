package phonewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/network/box"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/firewall/nft"
	"ringfence/internal/network/need"
	"ringfence/internal/network/phoneports"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit"
	"ringfence/internal/testkit/router"
)

// shut is a phone that leaves nothing open but media; quiet leaves out the media ports, too.
const (
	quiet = "<SIP_Transport_1_>TLS</SIP_Transport_1_><Enable_Web_Server>No</Enable_Web_Server><Peer_Firmware_Sharing>No</Peer_Firmware_Sharing><Firewall_Config>NO_ICMP_PING,NO_CISCO_TFTP</Firewall_Config>"
	shut  = quiet + "<RTP_Port_Min>19560</RTP_Port_Min><RTP_Port_Max>19659</RTP_Port_Max>"
)

func view(t testing.TB, text string) phoneports.View {
	t.Helper()
	f, err := flatprofile.Parse([]byte("<flat-profile>" + text + "</flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "cfg.xml")
	return phoneports.Look(set)
}

func open(t testing.TB, name string) *need.Set {
	t.Helper()
	s, err := catalogue.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// short writes a comparison in a line: doors by their use, and rows of which something is dropped.
func (c *Comparison) short() string {
	var out []string
	for _, d := range c.Doors {
		if d.Use == Link {
			continue
		}
		s := string(d.Use) + " " + d.Transport
		if d.Transport != "icmp" {
			s += " " + d.Ports.String()
		}
		out = append(out, strings.Join(append([]string{s}, d.Rows...), " "))
	}
	for _, r := range c.Rows {
		if r.Shut {
			out = append(out, fmt.Sprintf("drops %s %v", r.ID, r.Dropped))
		}
	}
	return strings.Join(out, "; ")
}

// TestCompare holds phones against the sets that are built in, and against rows of a site.
func TestCompare(t *testing.T) {
	row := func(id, transport, protocol string, direction need.Direction, from, to string, ports ...need.Ports) need.Need {
		return need.Need{ID: id, Purpose: id, Protocol: protocol, Transport: []string{transport}, Direction: direction, From: []string{from}, To: []string{to}, ToPorts: ports}
	}
	own := &need.Set{ID: "own", Roles: map[string]need.Role{"phone": {Side: "customer"}, "noc": {}}}
	for name, x := range map[string]struct {
		cfg  string
		set  *need.Set
		rows []need.Need
		want string
	}{
		"exactly":              {shut, open(t, "webex-calling"), nil, "answers udp 19560-19660 wc-p-06"},
		"other ports of media": {quiet, open(t, "webex-calling"), nil, "nobody udp 16384-16539"},
		"half of them": {quiet + "<RTP_Port_Min>19500</RTP_Port_Min><RTP_Port_Max>19600</RTP_Port_Max>", open(t, "webex-calling"), nil,
			"nobody udp 19500-19559; answers udp 19560-19601 wc-p-06"},
		"media of a service": {quiet, open(t, "dedicated-instance"), nil, "needed udp 16384-16539 di-t2-39 di-t2-40; drops di-t2-43 []; drops di-t5-20 [1024-65535]"},
		"ping that is needed": {strings.Replace(quiet, "NO_ICMP_PING,", "", 1), open(t, "dedicated-instance"), nil,
			"needed udp 16384-16539 di-t2-39 di-t2-40; needed icmp di-t2-43; drops di-t5-20 [1024-65535]"},
		"media where the phone has none": {quiet + "<RTP_Port_Min>40000</RTP_Port_Min><RTP_Port_Max>40100</RTP_Port_Max>", own, []need.Need{row("m", "udp", "SRTP", need.Inbound, "noc", "phone", need.Ports{First: 16384, Last: 32767})},
			"nobody udp 40000-40101; drops m [16384-32767]"},
		"a web server, for a row": {shut + "<Enable_Web_Server>Yes</Enable_Web_Server><Web_Server_Port>8443</Web_Server_Port>", own, []need.Need{row("web", "tcp", "HTTPS", need.Internal, "noc", "phone", need.Ports{First: 8443, Last: 8443})},
			"nobody udp 19560-19660; needed tcp 8443 web"},
		"a row that is half open": {strings.Replace(shut, "NO_CISCO_TFTP", "NO_CISCO_TFTP,TCP:12000:12010", 1), own, []need.Need{row("x", "tcp", "X", need.Internal, "noc", "phone", need.Ports{First: 12005, Last: 12012})},
			"nobody udp 19560-19660; nobody tcp 12000-12004; needed tcp 12005-12010 x; drops x [12011-12012]"},
		"no firewall": {"<Firewall>Disabled</Firewall>", own, []need.Need{row("x", "tcp", "X", need.Internal, "noc", "phone", need.Ports{First: 80, Last: 80})},
			"nobody udp 1-65535; nobody tcp 1-79; needed tcp 80 x; nobody tcp 81-65535; nobody icmp"},
		"rows of others": {shut, own, []need.Need{row("x", "tcp", "X", need.Internal, "phone", "noc", need.Ports{First: 80, Last: 80}), row("y", "tcp", "X", need.Internal, "noc", "noc", need.Ports{First: 80, Last: 80})}, "nobody udp 19560-19660"},
	} {
		if x.rows == nil {
			x.rows = x.set.Needs
		}
		as, err := Roles(x.set, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Compare(view(t, x.cfg), x.set, x.rows, as)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.short(); got != x.want || c.Shut != strings.Count(x.want, "drops ") || c.Excess != strings.Count(x.want, "nobody ") || len(c.Unknown) != 0 {
			t.Errorf("%s: %s\nwant %s (%d, %d, %v)", name, got, x.want, c.Shut, c.Excess, c.Unknown)
		}
		for _, d := range c.Doors {
			if (d.Use == Nobody) != (d.Do != "") {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
	chosen := row("c", "tcp", "X", need.Inbound, "noc", "phone")
	chosen.Chosen = "the customer"
	if c, err := Compare(view(t, shut), own, []need.Need{chosen}, []string{"phone"}); err != nil || len(c.Unknown) != 1 || c.Shut != 0 {
		t.Errorf("%+v %v", c, err)
	}
	many := slices.Repeat([]need.Need{row("x", "tcp", "X", need.Internal, "noc", "phone", need.Ports{First: 80, Last: 80})}, maxRows+1)
	if _, err := Compare(view(t, shut), own, many, []string{"phone"}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Errorf("%v", err)
	}
}

func TestRoles(t *testing.T) {
	for _, x := range []struct {
		set   string
		asked []string
		want  string
	}{{"webex-calling", nil, "device"}, {"dedicated-instance", nil, "phone endpoint"}, {"dedicated-instance", []string{"jabber"}, "jabber"}, {"webex-calling", []string{"phone"}, ""}} {
		got, err := Roles(open(t, x.set), x.asked)
		if strings.Join(got, " ") != x.want || (err != nil) != (x.want == "") {
			t.Errorf("%+v: %v %v", x, got, err)
		}
	}
	if _, err := Roles(&need.Set{ID: "x", Roles: map[string]need.Role{"client": {}}}, nil); err == nil || !strings.Contains(err.(*ringfence.Fault).Hint, "client") {
		t.Errorf("%v", err)
	}
}

const siteFile = `set: webex-calling
interfaces: {inside: eth1, outside: eth0}
networks:
  device: [10.20.0.0/16]
  noc: [198.51.100.0/24]
rows: [wc-p-02, wc-p-06, wc-p-11, wc-p-13]
own:
  noc-web: {direction: inbound, transport: tcp, from: noc, to: device, to-ports: [8080]}
`

// rules let in whom a row names, somebody else by mistake, and the service to ports at which there should be answers only.
const rules = `table inet site {
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state established,related accept
		iifname "eth1" oifname "eth0" accept
		iifname "eth0" oifname "eth1" ip daddr 10.20.0.0/16 ip saddr 198.51.100.0/24 tcp dport 8080 accept
		iifname "eth0" oifname "eth1" ip daddr 10.20.7.0/24 tcp dport { 80, 4051 } accept
		iifname "eth0" oifname "eth1" ip daddr 10.20.0.0/16 ip saddr 23.89.0.0/16 udp dport 19600-19700 accept
	}
}
`

func behind(t *testing.T, text, cfg string, printed []byte) (*Comparison, *site.Policy, error) {
	t.Helper()
	set := open(t, "webex-calling")
	s, err := site.Parse([]byte(text), "site.yaml", set)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compare(view(t, cfg), set, s.Needs(set), []string{"device"})
	if err != nil {
		t.Fatal(err)
	}
	p := site.Resolve(set, s)
	r, err := nft.Parse(printed, p.Interfaces)
	if err != nil {
		t.Fatal(err)
	}
	return c, p, c.Behind(set, s, p, r)
}

// TestBehind has the kernel be the site's firewall: what is said to get in gets in, and what is not does not.
func TestBehind(t *testing.T) {
	if !router.Alone(t, 0) {
		return
	}
	w := router.New(t)
	tool := testkit.Need(t, "/usr/sbin/nft", "nftables")
	router.Run(t, tool, rules, "-f", "-")
	cfg := shut + "<Enable_Web_Server>Yes</Enable_Web_Server><Web_Server_Port>8080</Web_Server_Port><Firewall_Config>NO_CISCO_TFTP,TCP:80,TCP:81,TCP:4051</Firewall_Config>"
	c, p, err := behind(t, siteFile, cfg, []byte(router.Run(t, tool, "", "-j", "-n", "list", "ruleset")))
	if err != nil || len(c.Unknown) != 0 {
		t.Fatal(err, c.Unknown)
	}
	got := map[string]string{}
	var in, out []box.Packet
	for _, d := range c.Doors {
		name := d.Transport
		if d.Transport != "icmp" {
			name += " " + d.Ports.String()
		}
		got[name] = string(d.Use) + " " + string(d.Site.Open)
		if d.Site.Open == Exposed {
			in = append(in, d.Site.Through.Packet())
			continue
		}
		protocol := map[string]uint8{"udp": box.UDP, "tcp": box.TCP, "icmp": box.ICMP}[d.Transport]
		for _, from := range []string{"203.0.113.9", "23.89.0.1", "198.51.101.0"} {
			for _, to := range []string{"10.20.0.1", "10.20.7.1", "10.20.255.254"} {
				for _, port := range []uint16{d.Ports.First, d.Ports.Last} {
					x := box.Packet{In: p.Interfaces.Number("eth0"), Out: p.Interfaces.Number("eth1"), Protocol: protocol, From: netip.MustParseAddr(from), To: netip.MustParseAddr(to), FromPort: 5000, ToPort: port}
					if protocol == box.ICMP {
						x.FromPort = 8
					}
					out = append(out, x)
				}
			}
		}
	}
	want := map[string]string{"udp 68": "link nobody", "udp 546": "link nobody", "udp 19560-19660": "answers others", "tcp 80": "nobody others", "tcp 81": "nobody nobody", "tcp 4051": "nobody others", "tcp 8080": "needed rows", "icmp": "nobody nobody"}
	if fmt.Sprint(got) != fmt.Sprint(want) || c.Exposed != 3 {
		t.Errorf("%v, want %v; %d", got, want, c.Exposed)
	}
	for i, came := range w.Travel(in, p.Interfaces, false) {
		if !came {
			t.Errorf("%s does not get in", in[i].Describe(p.Interfaces))
		}
	}
	for i, came := range w.Travel(out, p.Interfaces, false) {
		if came {
			t.Errorf("%s gets in", out[i].Describe(p.Interfaces))
		}
	}
	if len(in) != 3 || len(out) != 5*18 {
		t.Errorf("%d and %d packets", len(in), len(out))
	}
}

// TestNotKnown proves nothing where something was not understood, and nothing of a site that does not say where its phones are.
func TestNotKnown(t *testing.T) {
	none := []byte(`{"nftables": []}`)
	if c, _, err := behind(t, strings.Replace(siteFile, "wc-p-13]", "wc-p-13, wc-p-14]", 1), shut, none); err != nil || len(c.Unknown) != 1 || !strings.Contains(c.Unknown[0], "wc-p-14 lacks") {
		t.Errorf("%v %v", c, err)
	}
	if _, _, err := behind(t, "set: webex-calling\nnetworks: {webex-app: [10.30.0.0/16]}\n", shut, none); ringfence.KindOf(err) != ringfence.KindInvalid || !strings.Contains(err.(*ringfence.Fault).Hint, "device") {
		t.Errorf("%v", err)
	}
	// Without interfaces the site's own are not outside.
	c, _, err := behind(t, "set: webex-calling\nnetworks: {device: [10.20.0.0/16], webex-app: [10.0.0.0/8]}\nrows: [wc-p-02]\n", shut, none)
	if err != nil || c.Exposed != len(c.Doors) {
		t.Fatalf("%+v %v", c, err)
	}
	for _, d := range c.Doors {
		if from := d.Site.Through.Packet().From; from.Is4() && from.As4()[0] == 10 {
			t.Errorf("%s is inside", from)
		}
	}
}
