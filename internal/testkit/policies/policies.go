package policies

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

const webex = `set: webex-calling
interfaces: {inside: INSIDE, outside: OUTSIDE}
networks:
  lgw-external-nic: 192.0.2.10
  lgw-internal-nic: 192.0.2.11
  lgw-customer-address: 192.0.2.10
  device: [10.20.0.0/16]
  webex-app: [10.30.0.0/16]
  webex-device: [10.20.0.0/16]
  calling-application: [10.30.0.0/16]
  pstn-gw-or-ucm: 10.9.0.1
  host-defined: [10.53.0.1, 10.53.0.2]
  apns-fcm: any
  admins: 10.40.0.0/24
ports:
  wc-p-04: 5061
  wc-p-08: 8000-48199
  wc-p-09: 5061
  wc-p-10: 8000-48199
without: [wc-p-16, wc-p-17]
own:
  di-web: {direction: outbound, transport: tcp, from: admins, to: wxc-cloud, to-ports: [443]}
`

const dedicated = `set: dedicated-instance
ipv6: true
interfaces: {inside: INSIDE, outside: OUTSIDE}
networks:
  client: [10.1.0.0/16, '2001:db8:1::/48']
  browser: [10.1.0.0/16, '2001:db8:1::/48']
  rest-client: 10.1.9.0/24
  endpoint: [10.2.0.0/16, '2001:db8:2::/48']
  phone: [10.2.0.0/17, 10.2.128.0/18]
  jabber: 10.1.0.0/16
  gateway: [10.3.0.1, 10.3.0.2, '2001:db8:3::1']
  sip-gateway: 10.3.0.3
  mcrp-server: 10.3.0.4
  server: 10.3.0.0/24
  external-directory: 10.4.0.1
  dns-forwarder: [10.4.0.53, 10.4.0.54]
  uc-apps: [172.16.0.0/20, '2001:db8:f::/48']
  unified-cm: [172.16.0.0/24, '2001:db8:f::/64']
  cucxn: 172.16.1.0/24
  imp: 172.16.2.0/24
  expressway-c: 172.16.3.0/24
  uccx: 172.16.4.0/24
  di-dns: 178.215.128.100
  wxc-multitenant: any
`

// Site returns a site file for a set, with the names of interfaces; without names, for a firewall that does not tell interfaces apart.
func Site(set, inside, outside string) string {
	text := map[string]string{"webex-calling": webex, "dedicated-instance": dedicated}[set]
	if inside == "" {
		return strings.Replace(text, "interfaces: {inside: INSIDE, outside: OUTSIDE}\n", "", 1)
	}
	return strings.NewReplacer("INSIDE", inside, "OUTSIDE", outside).Replace(text)
}

// Of returns the policy of a set at such a site.
func Of(set, inside, outside string) (*site.Policy, error) {
	s, err := catalogue.Open(set)
	if err != nil {
		return nil, err
	}
	f, err := site.Parse([]byte(Site(set, inside, outside)), set+".yaml", s)
	if err != nil {
		return nil, err
	}
	return site.Resolve(s, f), nil
}

// Random returns a policy of a few rows. Without names of interfaces, none has one.
func Random(r *rand.Rand, inside, outside string) *site.Policy {
	p := &site.Policy{Set: "random", Interfaces: &box.Interfaces{}}
	ports := func() (out []need.Ports) {
		for range r.IntN(3) {
			first := 1 + r.IntN(65535)
			out = append(out, need.Ports{First: uint16(first), Last: uint16(first + r.IntN(65536-first))})
		}
		return out
	}
	for i := range 1 + r.IntN(6) {
		row := site.Row{ID: fmt.Sprintf("row-%d", i), Hook: box.Forward, FromPorts: ports(), FromRoles: []string{"a"}, ToRoles: []string{"b"}}
		if row.ToPorts = ports(); row.ToPorts == nil {
			row.ToPorts = []need.Ports{{First: 443, Last: 443}}
		}
		row.In, row.Out = inside, outside
		switch r.IntN(5) {
		case 0:
			row.In, row.Out = outside, inside
		case 1:
			row.Out = inside
		}
		row.Protocols = [][]uint8{{box.TCP}, {box.UDP}, {box.TCP, box.UDP}, {box.ICMP, box.ICMPv6}}[r.IntN(4)]
		for range 1 + r.IntN(3) {
			row.From, row.To = append(row.From, network(r)), append(row.To, network(r))
		}
		if four(row.From) != four(row.To) { // both families at both ends
			row.From = append(row.From, row.To[0])
			row.To = append(row.To, row.From[0])
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

func four(l []netip.Prefix) bool {
	for _, p := range l {
		if p.Addr().Is4() {
			return true
		}
	}
	return false
}

func network(r *rand.Rand) netip.Prefix {
	if r.IntN(4) == 0 {
		a := netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::%x", r.IntN(4), r.IntN(8)))
		return netip.PrefixFrom(a, []int{0, 40, 48, 64, 126, 128}[r.IntN(6)]).Masked()
	}
	a := netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(8))})
	return netip.PrefixFrom(a, []int{0, 8, 14, 16, 23, 24, 30, 32}[r.IntN(8)]).Masked()
}
