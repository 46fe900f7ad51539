package cloud

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/need"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/node/config"
)

// filters are the three formats.
func filters() map[string]struct {
	render func(*site.Policy) (string, *firewall.Certificate, error)
	read   func([]byte, *site.Policy) (*firewall.Ruleset, error)
} {
	type both = struct {
		render func(*site.Policy) (string, *firewall.Certificate, error)
		read   func([]byte, *site.Policy) (*firewall.Ruleset, error)
	}
	return map[string]both{"aws": {AWS, ReadAWS}, "azure": {Azure, ReadAzure}, "gcp": {GCP, ReadGCP}}
}

// guidePolicy is a site file of the guide, resolved, with changes.
func guidePolicy(t testing.TB, block string, set *need.Set, changes ...string) *site.Policy {
	t.Helper()
	b, err := os.ReadFile("../../../../docs/guides/firewalls.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```text " + block + "\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("the guide has no such file")
	}
	s, err := site.Parse([]byte(strings.NewReplacer(changes...).Replace(string(m[1]))), block, set)
	if err != nil {
		t.Fatal(err)
	}
	p := site.Resolve(set, s)
	if len(p.Missing) > 0 {
		t.Fatal(p.Missing)
	}
	return p
}

func sitePolicy(t testing.TB, changes ...string) *site.Policy {
	t.Helper()
	set, err := catalogue.Open("webex-calling")
	if err != nil {
		t.Fatal(err)
	}
	return guidePolicy(t, "site", set, changes...)
}

// policies are those of the guide, for a site and for a host, and some at random.
func policies(t *testing.T) map[string]*site.Policy {
	all := map[string]*site.Policy{"site": sitePolicy(t), "site with IPv6": sitePolicy(t, "set: webex-calling", "set: webex-calling\nipv6: true", "[10.20.0.0/16]", "[10.20.0.0/16, 2001:db8:20::/48]"),
		"host": guidePolicy(t, "host", catalogue.Self("n", config.Default().Flows()))}
	for seed := range uint64(30) {
		all[fmt.Sprint("random ", seed)] = randomPolicy(rand.New(rand.NewPCG(seed, 1)))
	}
	return all
}

func randomPolicy(r *rand.Rand) *site.Policy {
	p := &site.Policy{Set: "random", Inside: "in", Outside: "out", Interfaces: &box.Interfaces{}}
	p.Interfaces.Number("in")
	p.Interfaces.Number("out")
	networks := func(list ...string) (out []netip.Prefix) {
		for _, text := range list {
			if r.IntN(3) > 0 {
				out = append(out, netip.MustParsePrefix(text))
			}
		}
		return append(out, netip.MustParsePrefix(list[0]))
	}
	ports := func() (out []need.Ports) {
		for range 1 + r.IntN(3) {
			first := uint16(1 + r.IntN(60000))
			out = append(out, need.Ports{First: first, Last: first + uint16(r.IntN(5000))})
		}
		return out
	}
	for i := range 1 + r.IntN(8) {
		row := site.Row{ID: fmt.Sprintf("r-%d", i), Purpose: "of chance", ToPorts: ports(), Protocols: [][]uint8{{box.TCP}, {box.UDP}, {box.TCP, box.UDP}, {box.ICMP, box.ICMPv6}}[r.IntN(4)]}
		if r.IntN(2) == 0 {
			row.FromPorts = ports()
		}
		hosts := func() ([]netip.Prefix, []string) {
			n := r.IntN(3)
			return networks(fmt.Sprintf("10.%d.0.0/16", n), fmt.Sprintf("2001:db8:%d::/48", n), fmt.Sprintf("10.%d.7.0/24", n+3)), []string{fmt.Sprint("hosts-", i)}
		}
		cloud := func() ([]netip.Prefix, []string) {
			return networks("198.51.100.0/24", "2001:db8:ffff::/48", "203.0.113.7/32", "0.0.0.0/0"), []string{"cloud"}
		}
		switch r.IntN(3) {
		case 0:
			row.In, row.Out = "in", "out"
			row.From, row.FromRoles = hosts()
			row.To, row.ToRoles = cloud()
		case 1:
			row.In, row.Out = "out", "in"
			row.From, row.FromRoles = cloud()
			row.To, row.ToRoles = hosts()
		default:
			row.In, row.Out = "in", "in"
			row.From, row.FromRoles = hosts()
			row.To, row.ToRoles = hosts()
			row.ToRoles[0] += "-too"
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

// TestRoundTrip has a rendering, read as its cloud reads it, let through what the certificate says: what rows need, and what it names as wider, but for what it names as narrower.
func TestRoundTrip(t *testing.T) {
	for name, p := range policies(t) {
		for target, f := range filters() {
			text, cert, err := f.render(p)
			if err != nil {
				t.Fatalf("%s %s: %v", target, name, err)
			}
			rules, err := f.read([]byte(text), p)
			if err != nil || len(rules.Unknown) > 0 {
				t.Fatalf("%s %s: %v %v\n%s", target, name, err, rules, text)
			}
			r, err := prove.Compare(p, rules)
			if err != nil {
				t.Fatal(err)
			}
			wider, narrower := 0, 0
			for _, l := range cert.Losses {
				wider, narrower = wider+len(l.Wider), narrower+len(l.Narrower)
			}
			if narrower == 0 && (r.MissingCount > 0 || r.LaterCount > 0) || narrower > 0 && r.MissingCount == 0 {
				t.Errorf("%s %s: the certificate names %d parts that are missing, the proof %d: %+v", target, name, narrower, r.MissingCount, r.Missing)
			}
			if r.WideCount > 0 && wider == 0 {
				t.Errorf("%s %s: the certificate is silent about %+v", target, name, r.Wide)
			}
			if cert.Exact != (wider+narrower+len(cert.Exceeded) == 0) {
				t.Errorf("%s %s: %+v", target, name, cert)
			}
		}
	}
}

// TestGuidePolicy has nothing be lost of the guide's site but what each cloud's filters are known not to say: AWS and Google no source ports.
func TestGuidePolicy(t *testing.T) {
	for target, sourcePorts := range map[string]bool{"aws": false, "azure": true, "gcp": false} {
		p := sitePolicy(t)
		_, cert, err := filters()[target].render(p)
		if err != nil || cert.Exact != sourcePorts || len(cert.Exceeded) > 0 {
			t.Errorf("%s: %v %+v", target, err, cert)
		}
		for _, l := range cert.Losses {
			if len(l.Narrower) > 0 {
				t.Errorf("%s: %+v", target, l)
			}
		}
		for i := range p.Rows {
			p.Rows[i].FromPorts = nil
		}
		if _, cert, err = filters()[target].render(p); err != nil || !cert.Exact {
			t.Errorf("%s, any source port: %v %+v", target, err, cert)
		}
	}
}

// TestQuota has rules that do not fit into one group of AWS go into another, and what does not fit into five be told.
func TestQuota(t *testing.T) {
	p := &site.Policy{Set: "many", Inside: "in", Outside: "out", Interfaces: &box.Interfaces{}}
	for i := range 70 {
		p.Rows = append(p.Rows, site.Row{ID: fmt.Sprintf("r-%d", i), In: "in", Out: "out", Protocols: []uint8{box.TCP}, From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, FromRoles: []string{"device"}, To: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, ToRoles: []string{"cloud"}, ToPorts: []need.Ports{{First: uint16(1 + i), Last: uint16(1 + i)}}})
	}
	text, cert, err := AWS(p)
	if err != nil || !cert.Exact || !strings.Contains(text, `"GroupName": "ringfence-device-2"`) {
		t.Errorf("%v %+v\n%s", err, cert, text)
	}
	for i := range 6 {
		for j := range 69 {
			row := p.Rows[j]
			row.ID, row.To = fmt.Sprintf("s-%d-%d", i, j), []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("198.51.%d.0/24", i))}
			p.Rows = append(p.Rows, row)
		}
	}
	if _, cert, err = AWS(p); err != nil || cert.Exact || len(cert.Exceeded) != 1 || cert.Exceeded[0].Has != 9 || cert.Exceeded[0].Allowed != 5 {
		t.Errorf("%v %+v", err, cert)
	}
}

// TestByHand reads what administrators have in their clouds, and has packets decided as the clouds' documentation says.
func TestByHand(t *testing.T) {
	p := sitePolicy(t)
	p.Interfaces.Number("eth1")
	for name, packets := range map[string]string{
		"aws-described": `
			yes out tcp 10.20.0.5:50000 > 192.0.2.200:443
			yes out tcp 10.20.0.5:1 > 8.8.8.8:443
			no  out tcp 10.20.0.6:50000 > 192.0.2.200:443
			no  out udp 10.20.0.5:50000 > 192.0.2.200:443
			yes in  tcp 203.0.113.9:50000 > 10.20.0.6:5061
			no  in  tcp 203.0.114.9:50000 > 10.20.0.6:5061
			no  in  tcp 203.0.113.9:50000 > 10.20.0.5:5061
			yes in  icmp 198.51.100.1:8 > 10.20.0.6:0
			no  in  icmp 198.51.100.1:5 > 10.20.0.6:0
			yes internal udp 10.20.0.5:7 > 10.20.0.6:9000
			no  internal udp 10.20.0.6:7 > 10.20.0.5:9000`,
		"azure-shown": `
			yes out tcp 10.20.0.5:50000 > 192.0.2.200:443
			no  out tcp 10.20.0.5:50000 > 192.0.2.66:443
			yes out udp 10.20.0.5:19560 > 192.0.2.200:5004
			no  out udp 10.20.0.5:19559 > 192.0.2.200:5004
			no  out tcp 10.20.0.5:50000 > 192.0.2.200:80
			no  in  tcp 192.0.2.200:50000 > 10.20.0.5:5061
			yes in  icmp 192.0.2.200:8 > 10.20.0.5:0`,
		"gcp-listed": `
			yes out tcp 10.20.0.5:1 > 192.0.2.200:8934
			no  out tcp 10.20.0.5:1 > 192.0.2.200:8935
			no  out udp 10.20.0.5:1 > 192.0.2.200:8934
			yes in  tcp 192.0.2.200:1 > 10.20.0.5:5061
			no  in  tcp 192.0.2.201:1 > 10.20.0.5:5061
			no  in  tcp 192.0.2.200:1 > 10.20.0.5:22
			yes internal udp 10.20.0.5:1 > 10.20.0.6:5
			yes out udp 10.20.0.5:1 > 203.0.113.1:53`,
	} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		target, _, _ := strings.Cut(name, "-")
		rules, err := filters()[target].read(b, p)
		if err != nil || len(rules.Unknown) > 0 {
			t.Fatalf("%s: %v %+v", name, err, rules)
		}
		passes, err := firewall.Accepted(rules.Chains)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(strings.TrimSpace(packets)) {
			f := strings.Fields(line)
			want, way, protocol, from, to := f[0] == "yes", f[1], f[2], netip.MustParseAddrPort(f[3]), netip.MustParseAddrPort(f[5])
			in, out := p.Interfaces.Number("eth1"), p.Interfaces.Number("eth0")
			sides := map[string][2]int{"out": {in, out}, "in": {out, in}, "internal": {in, in}}[way]
			number := map[string]uint8{"tcp": box.TCP, "udp": box.UDP, "icmp": box.ICMP}[protocol]
			packet := box.Packet{Hook: box.Forward, In: sides[0], Out: sides[1], Protocol: number, From: from.Addr(), To: to.Addr(), FromPort: from.Port(), ToPort: to.Port()}
			if passes.Has(packet) != want {
				t.Errorf("%s: %s: %v, want %v", name, packet.Describe(p.Interfaces), !want, want)
			}
		}
	}
}

// TestUnknown has everything that cannot be judged from a file be named.
func TestUnknown(t *testing.T) {
	p := sitePolicy(t)
	for text, want := range map[string]string{
		`aws {"SecurityGroups":[{"GroupId":"sg-1","GroupName":"web","IpPermissions":[]}]}`:                                                                                                                                             "whose interfaces are in the group",
		`aws {"SecurityGroups":[{"GroupId":"sg-1","IpPermissionsEgress":[{"IpProtocol":"tcp","FromPort":1,"ToPort":2,"PrefixListIds":[{"PrefixListId":"pl-1"}]}]}],"NetworkInterfaces":[{}]}`:                                          `the prefix list "pl-1"`,
		`aws {"SecurityGroups":[{"GroupId":"sg-1","Tags":[{"Key":"ringfence-roles","Value":"device"}],"IpPermissions":[{"IpProtocol":"-1","UserIdGroupPairs":[{"GroupId":"sg-2"}]}]}]}`:                                                `whose interfaces are in "sg-2"`,
		`aws {"Resources":{"Bucket":{"Type":"AWS::S3::Bucket"}}}`:                                                                                                                                                                      `AWS::S3::Bucket`,
		`azure {"securityRules":[{"name":"a","access":"Allow","direction":"Inbound","priority":100,"protocol":"*","sourcePortRange":"*","destinationPortRange":"*","sourceAddressPrefix":"Internet","destinationAddressPrefix":"*"}]}`: `the service tag "Internet"`,
		`azure {"securityRules":[{"name":"a","access":"Deny","direction":"Inbound","priority":100,"protocol":"Tcp","sourcePortRange":"*","destinationPortRange":"*","sourceAddressPrefix":"*","destinationAddressPrefix":"*"}]}`:       "no rule denies the rest",
		`gcp [{"name":"a","direction":"INGRESS","priority":1000,"allowed":[{"IPProtocol":"tcp"}],"sourceRanges":["0.0.0.0/0"],"targetTags":["web"]}]`:                                                                                  "tags and service accounts",
		`gcp {"resource":{"google_compute_firewall":{},"google_compute_network":{"n":{}}}}`:                                                                                                                                            "google_compute_network",
	} {
		target, doc, _ := strings.Cut(text, " ")
		rules, err := filters()[target].read([]byte(doc), p)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if b, _ := json.Marshal(rules.Unknown); !strings.Contains(string(b), strings.ReplaceAll(want, `"`, `\"`)) {
			t.Errorf("%s: %s, want %q", text, b, want)
		}
	}
}

// TestRefused has files that are wrong be refused with a reason.
func TestRefused(t *testing.T) {
	p := sitePolicy(t)
	group := func(perm string) string {
		return `aws {"SecurityGroups":[{"GroupId":"sg-1","Tags":[{"Key":"ringfence-roles","Value":"device"}],"IpPermissions":[` + perm + `]}]}`
	}
	for text, want := range map[string]string{
		`aws []`: "not what was expected", `azure {}`: "no security rules", `gcp {}`: "no firewall rules", `aws {}`: "no security groups", `gcp nonsense`: "not what was expected",
		group(`{"IpProtocol":"tcp","FromPort":9,"ToPort":5,"IpRanges":[{"CidrIp":"0.0.0.0/0"}]}`):     "9-5 is no range",
		group(`{"IpProtocol":"tcp","FromPort":9,"IpRanges":[{"CidrIp":"0.0.0.0/0"}]}`):                "half a range",
		group(`{"IpProtocol":"tcp","FromPort":9,"ToPort":70000,"IpRanges":[{"CidrIp":"0.0.0.0/0"}]}`): "half a range",
		group(`{"IpProtocol":"tcpx","FromPort":9,"ToPort":10,"IpRanges":[{"CidrIp":"0.0.0.0/0"}]}`):   "is no protocol",
		group(`{"IpProtocol":"tcp","FromPort":9,"ToPort":10,"IpRanges":[{"CidrIp":"10.0.0.0/33"}]}`):  "is no network",
		`azure {"securityRules":[{"access":"Allow","direction":"Sideways"}]}`:                         "no direction",
		`azure {"securityRules":[{"access":"Perhaps","direction":"Inbound"}]}`:                        "neither Allow nor Deny",
		`azure {"securityRules":[{"access":"Allow","direction":"Inbound","sourcePortRange":"9-1"}]}`:  "neither a port nor a range",
		`gcp [{"name":"a","direction":"INGRESS"}]`:                                                    "either allows or denies",
		`gcp [{"name":"a","allowed":[{"IPProtocol":"tcp","ports":["x"]}]}]`:                           "neither a port nor a range",
		`gcp [{"name":"a","allowed":[{"IPProtocol":"tcp"}],"sourceRanges":["::ffff:10.0.0.0/104"]}]`:  "is no network",
	} {
		target, doc, _ := strings.Cut(text, " ")
		if _, err := filters()[target].read([]byte(doc), p); err == nil || !strings.Contains(err.Error(), want) || ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	p.Outside = ""
	for target, f := range filters() {
		if _, _, err := f.render(p); err == nil || !strings.Contains(err.Error(), "inside") {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	p := sitePolicy(f)
	for target, x := range filters() {
		text, _, err := x.render(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(target, []byte(text))
	}
	for _, name := range []string{"aws-described", "azure-shown", "gcp-listed"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.Split(name, "-")[0], b)
	}
	f.Fuzz(func(t *testing.T, target string, b []byte) {
		x, ok := filters()[target]
		if !ok || len(b) > 1<<20 {
			return
		}
		rules, err := x.read(b, p)
		if err != nil {
			if ringfence.KindOf(err) != ringfence.KindInvalid {
				t.Errorf("%v", err)
			}
			return
		}
		for _, c := range rules.Chains {
			for _, r := range c.Rules {
				for _, b := range r.Boxes {
					for d, s := range b {
						if s.Last.Less(s.First) {
							t.Errorf("%s: an empty side %d", r.Name, d)
						}
					}
				}
			}
		}
	})
}
