package cloud

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/site"
)

// Quotas of AWS as they are for a new account: rules of a security group for one direction and family, and groups of an interface.
const (
	awsRules  = 60
	awsGroups = 5
)

// awsRoles is the tag that says of which roles' hosts a group is.
const awsRoles = "ringfence-roles"

type awsTemplate struct {
	Version     string                 `json:"AWSTemplateFormatVersion,omitempty"`
	Description string                 `json:"Description,omitempty"`
	Parameters  map[string]awsParam    `json:"Parameters,omitempty"`
	Resources   map[string]awsResource `json:"Resources"`
}

type awsParam struct {
	Type        string
	Description string
}

type awsResource struct {
	Type       string
	Properties awsProperties
}

type awsProperties struct {
	GroupName            string `json:",omitempty"`
	GroupDescription     string
	VpcID                map[string]string `json:"VpcId,omitempty"`
	SecurityGroupEgress  []awsRule         `json:",omitempty"`
	SecurityGroupIngress []awsRule         `json:",omitempty"`
	Tags                 []awsTag          `json:",omitempty"`
}

type awsTag struct{ Key, Value string }

// awsRule is a rule of a template. FromPort and ToPort are the first and the last port of the destination, or type and code.
type awsRule struct {
	Description string `json:",omitempty"`
	IPProtocol  string `json:"IpProtocol"`
	FromPort    *int   `json:",omitempty"`
	ToPort      *int   `json:",omitempty"`
	CidrIP      string `json:"CidrIp,omitempty"`
	CidrIPv6    string `json:"CidrIpv6,omitempty"`
}

// awsNames is how the API writes protocols. Numbers stand for others.
func awsNames() map[string]uint8 {
	return map[string]uint8{"tcp": box.TCP, "udp": box.UDP, "icmp": box.ICMP, "icmpv6": box.ICMPv6}
}

// awsGroup collects the rules of the hosts of some roles.
type awsGroup struct {
	roles    []string
	networks []netip.Prefix
	rules    [2][]awsRule // what they are sent, and what they send
	rows     [2][][]string
}

// AWS writes a policy as a CloudFormation template of security groups, one for each combination of roles, whose interfaces are to be in it. A group knows no source ports, and has a quota of rules; what does not fit goes
// into another group for the same interfaces.
func AWS(p *site.Policy) (string, *firewall.Certificate, error) {
	f, err := newFilter(p)
	if err != nil {
		return "", nil, err
	}
	var groups []*awsGroup
	find := func(roles []string, networks []netip.Prefix) *awsGroup {
		if f.host {
			roles, networks = []string{"node"}, everywhere()
		}
		i := slices.IndexFunc(groups, func(g *awsGroup) bool { return slices.Equal(g.roles, roles) })
		if i < 0 {
			groups = append(groups, &awsGroup{roles: roles, networks: networks})
			i = len(groups) - 1
		}
		return groups[i]
	}
	for _, r := range p.Rows {
		if !judged(r) {
			continue
		}
		out, in := f.ways(p, r)
		if out {
			find(r.FromRoles, r.From).row(r, true, r.To)
		}
		if in {
			find(r.ToRoles, r.To).row(r, false, r.From)
		}
	}
	t := &awsTemplate{Version: "2010-09-09", Description: "What " + p.Set + " needs, and nothing else", Parameters: map[string]awsParam{"Vpc": {"AWS::EC2::VPC::Id", "the network of the interfaces that the groups are for"}}, Resources: map[string]awsResource{}}
	var rules []rule
	rows := map[string][]int{}
	var exceeded []firewall.Limit
	for _, g := range groups {
		parts := g.split()
		name := "ringfence-" + strings.Join(g.roles, "-and-")
		if len(parts) > awsGroups {
			exceeded = append(exceeded, firewall.Limit{Where: name, What: "groups of an interface", Has: len(parts), Allowed: awsGroups})
		}
		for i, part := range parts {
			props := awsProperties{GroupName: name, GroupDescription: awsText("Interfaces of " + strings.Join(g.roles, ", ") + ": " + strings.Join(texts(g.networks), ", ")), VpcID: map[string]string{"Ref": "Vpc"}, SecurityGroupIngress: part[0], SecurityGroupEgress: part[1], Tags: []awsTag{{awsRoles, strings.Join(g.roles, " ")}}}
			if len(parts) > 1 {
				props.GroupName += fmt.Sprintf("-%d", i+1)
			}
			if len(part[1]) == 0 { // a group without such rules would get one for everything
				props.SecurityGroupEgress = []awsRule{{Description: "nothing", IPProtocol: "-1", CidrIP: "127.0.0.1/32"}}
			}
			t.Resources[awsID(props.GroupName)] = awsResource{"AWS::EC2::SecurityGroup", props}
			for way, list := range part {
				for _, a := range list {
					r, err := a.rule(way == 1, g.networks)
					if err != nil {
						return "", nil, err
					}
					for _, id := range strings.Fields(a.Description) {
						rows[id] = append(rows[id], len(rules))
					}
					rules = append(rules, r)
				}
			}
		}
	}
	cert, err := f.certify(p, rules, rows)
	if err != nil {
		return "", nil, err
	}
	cert.Exceeded, cert.Exact = exceeded, cert.Exact && len(exceeded) == 0
	text, err := written(t)
	return text, cert, err
}

// row adds the rules of a row for one end of it. A rule that is there already is for both rows.
func (g *awsGroup) row(r site.Row, out bool, remote []netip.Prefix) {
	way := 0
	if out {
		way = 1
	}
	g.networks = compact(append(slices.Clone(g.networks), map[bool][]netip.Prefix{true: r.From, false: r.To}[out]...))
	for _, family := range []uint8{box.IPv4, box.IPv6} {
		from, to := r.Pairs(family)
		if len(from) == 0 || len(to) == 0 {
			continue
		}
		for _, number := range r.Protocols {
			p, ok := exact(r, number, family)
			if !ok {
				continue
			}
			list := p.to
			if !box.HasPorts(number) {
				list = p.from
			}
			for _, s := range list {
				a, b := int(s.First.Lo), int(s.Last.Lo)
				if !box.HasPorts(number) {
					b = 0 // the code
				}
				for _, net := range of(remote, family) {
					rule := awsRule{IPProtocol: box.ProtocolName(number), FromPort: &a, ToPort: &b}
					if family == box.IPv4 {
						rule.CidrIP = net.String()
					} else {
						rule.CidrIPv6 = net.String()
					}
					i := slices.IndexFunc(g.rules[way], func(o awsRule) bool {
						return o.IPProtocol == rule.IPProtocol && *o.FromPort == a && *o.ToPort == b && o.CidrIP == rule.CidrIP && o.CidrIPv6 == rule.CidrIPv6
					})
					if i < 0 {
						g.rules[way], g.rows[way] = append(g.rules[way], rule), append(g.rows[way], nil)
						i = len(g.rules[way]) - 1
					}
					if !slices.Contains(g.rows[way][i], r.ID) {
						g.rows[way][i] = append(g.rows[way][i], r.ID)
					}
				}
			}
		}
	}
}

// split makes groups that keep to the quota.
func (g *awsGroup) split() (parts [][2][]awsRule) {
	for way, rules := range g.rules {
		var n [2]int
		for i, r := range rules {
			r.Description = awsText(strings.Join(g.rows[way][i], " "))
			family := 0
			if r.CidrIPv6 != "" {
				family = 1
			}
			part := n[family] / awsRules
			n[family]++
			for len(parts) <= part {
				parts = append(parts, [2][]awsRule{})
			}
			parts[part][way] = append(parts[part][way], r)
		}
	}
	return parts
}

// awsText keeps what AWS takes in descriptions, at most 255 characters.
func awsText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" ._-:/()#,@[]+=&;{}!$*", r) {
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), 255)]
}

// awsID makes a logical name of letters and digits.
func awsID(name string) string {
	var b strings.Builder
	for _, part := range strings.FieldsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// rule reads a rule of hosts.
func (a awsRule) rule(out bool, hosts []netip.Prefix) (rule, error) {
	r := rule{about: a.Description, out: out, local: hosts}
	cidr, err := network(cmp.Or(a.CidrIP, a.CidrIPv6))
	if err != nil {
		return r, err
	}
	if netip.MustParsePrefix("127.0.0.0/8").Overlaps(cidr) && cidr.Bits() >= 8 { // what people write for nothing: it never gets to an interface
		return r, nil
	}
	r.remote = []netip.Prefix{cidr}
	r.protocols, err = awsProtocol(a.IPProtocol, a.FromPort, a.ToPort)
	return r, err
}

func awsProtocol(name string, first, last *int) ([]protocol, error) {
	if name == "-1" {
		return allProtocols(), nil
	}
	number, ok := awsNames()[name]
	if !ok {
		var n uint8
		if _, err := fmt.Sscanf(name, "%d", &n); err != nil || fmt.Sprint(n) != name {
			return nil, refused(fmt.Sprintf("%.20q is no protocol", name))
		}
		number = n
	}
	p := whole(number)
	if first == nil && last == nil {
		return []protocol{p}, nil
	}
	if first == nil || last == nil || *first < -1 || *last < -1 || *first > 65535 || *last > 65535 {
		return nil, refused("a rule has half a range of ports")
	}
	switch {
	case number == box.ICMP || number == box.ICMPv6:
		if *first >= 0 {
			p.from = []box.Span{box.One(*first)}
		}
		if *last >= 0 {
			p.to = []box.Span{box.One(*last)}
		}
	case *first < 0 || *first > *last:
		return nil, refused(fmt.Sprintf("%d-%d is no range of ports", *first, *last))
	default:
		p.to = []box.Span{box.Range(*first, *last)}
	}
	return []protocol{p}, nil
}

// awsPrinted is what the command line of AWS prints: groups, and what is needed to know who is in them.
type awsPrinted struct {
	Resources      map[string]awsResource
	SecurityGroups []struct {
		GroupID             string `json:"GroupId"`
		GroupName           string
		IPPermissions       []awsPermission `json:"IpPermissions"`
		IPPermissionsEgress []awsPermission `json:"IpPermissionsEgress"`
		Tags                []awsTag
	}
	NetworkInterfaces []struct {
		NetworkInterfaceID string `json:"NetworkInterfaceId"`
		PrivateIPAddresses []struct {
			PrivateIPAddress string `json:"PrivateIpAddress"`
		} `json:"PrivateIpAddresses"`
		IPv6Addresses []struct {
			IPv6Address string `json:"Ipv6Address"`
		} `json:"Ipv6Addresses"`
		Groups []struct {
			GroupID string `json:"GroupId"`
		}
	}
}

type awsPermission struct {
	IPProtocol       string `json:"IpProtocol"`
	FromPort, ToPort *int
	IPRanges         []struct{ CidrIP, Description string } `json:"IpRanges"`
	IPv6Ranges       []struct {
		CidrIPv6    string `json:"CidrIpv6"`
		Description string
	} `json:"Ipv6Ranges"`
	PrefixListIDs []struct {
		PrefixListID string `json:"PrefixListId"`
	} `json:"PrefixListIds"`
	UserIDGroupPairs []struct {
		GroupID string `json:"GroupId"`
	} `json:"UserIdGroupPairs"`
}

// ReadAWS reads a template of security groups, or what `aws ec2 describe-security-groups` prints, also put together with what `aws ec2 describe-network-interfaces` prints. Who is in a group is known from the interfaces,
// or from the tag ringfence-roles; otherwise it is unknown.
func ReadAWS(b []byte, p *site.Policy) (*firewall.Ruleset, error) {
	f, err := newFilter(p)
	if err != nil {
		return nil, err
	}
	var doc awsPrinted
	if err := decode(b, &doc); err != nil {
		return nil, err
	}
	if doc.Resources == nil && doc.SecurityGroups == nil {
		return nil, refused("there are no security groups in it")
	}
	in := map[string][]netip.Prefix{} // addresses in a group
	for _, i := range doc.NetworkInterfaces {
		var texts []string
		for _, a := range i.PrivateIPAddresses {
			texts = append(texts, a.PrivateIPAddress)
		}
		for _, a := range i.IPv6Addresses {
			texts = append(texts, a.IPv6Address)
		}
		for _, text := range texts {
			a, err := network(text)
			if err != nil {
				return nil, err
			}
			for _, g := range i.Groups {
				in[g.GroupID] = append(in[g.GroupID], a)
			}
		}
	}
	var rules []rule
	var unknown []firewall.Unknown
	add := func(where string, hosts []netip.Prefix, out bool, a awsRule) error {
		r, err := a.rule(out, hosts)
		if err != nil {
			return fmt.Errorf("%.80s: %w", where, err)
		}
		r.name = fmt.Sprintf("%.80s %s %d", where, map[bool]string{true: "egress", false: "ingress"}[out], len(rules)+1)
		if rules = append(rules, r); len(rules) > maxRules {
			return refused("it has more than 100,000 rules")
		}
		return nil
	}
	hosts := func(where, id string, tags []awsTag) []netip.Prefix {
		if f.host {
			return everywhere()
		}
		if list := in[id]; id != "" && len(doc.NetworkInterfaces) > 0 {
			return compact(list)
		}
		for _, t := range tags {
			if t.Key == awsRoles {
				return rolesOf(p, strings.Fields(t.Value))
			}
		}
		unknown = append(unknown, firewall.Unknown{Where: where, What: "whose interfaces are in the group; add what `aws ec2 describe-network-interfaces` prints"})
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(doc.Resources)) {
		res := doc.Resources[id]
		if res.Type != "AWS::EC2::SecurityGroup" {
			unknown = append(unknown, firewall.Unknown{Where: id, What: "a resource of the type " + fmt.Sprintf("%.80q", res.Type)})
			continue
		}
		members := hosts(id, "", res.Properties.Tags)
		for way, list := range [][]awsRule{res.Properties.SecurityGroupIngress, res.Properties.SecurityGroupEgress} {
			for _, a := range list {
				if err := add(id, members, way == 1, a); err != nil {
					return nil, err
				}
			}
		}
		if len(res.Properties.SecurityGroupEgress) == 0 { // AWS puts in rules for everything
			for _, all := range []awsRule{{IPProtocol: "-1", CidrIP: "0.0.0.0/0"}, {IPProtocol: "-1", CidrIPv6: "::/0"}} {
				if err := add(id, members, true, all); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, g := range doc.SecurityGroups {
		where := fmt.Sprintf("%.40s (%.80s)", g.GroupID, g.GroupName)
		members := hosts(where, g.GroupID, g.Tags)
		for way, list := range [][]awsPermission{g.IPPermissions, g.IPPermissionsEgress} {
			for _, perm := range list {
				one := awsRule{IPProtocol: perm.IPProtocol, FromPort: perm.FromPort, ToPort: perm.ToPort}
				for _, r := range perm.IPRanges {
					a := one
					a.CidrIP, a.Description = r.CidrIP, r.Description
					if err := add(where, members, way == 1, a); err != nil {
						return nil, err
					}
				}
				for _, r := range perm.IPv6Ranges {
					a := one
					a.CidrIPv6, a.Description = r.CidrIPv6, r.Description
					if err := add(where, members, way == 1, a); err != nil {
						return nil, err
					}
				}
				for _, pair := range perm.UserIDGroupPairs {
					if f.host || len(doc.NetworkInterfaces) == 0 {
						unknown = append(unknown, firewall.Unknown{Where: where, What: "whose interfaces are in " + fmt.Sprintf("%.40q", pair.GroupID) + "; add what `aws ec2 describe-network-interfaces` prints"})
						continue
					}
					for _, net := range compact(in[pair.GroupID]) {
						a := one
						a.CidrIP = net.String()
						if err := add(where, members, way == 1, a); err != nil {
							return nil, err
						}
					}
				}
				for _, l := range perm.PrefixListIDs {
					unknown = append(unknown, firewall.Unknown{Where: where, What: fmt.Sprintf("the prefix list %.40q", l.PrefixListID)})
				}
			}
		}
	}
	return f.ruleset(rules, unknown), nil
}

// rolesOf returns the networks of some roles, as the rows of a policy have them.
func rolesOf(p *site.Policy, roles []string) (out []netip.Prefix) {
	for _, r := range p.Rows {
		if slices.Equal(r.FromRoles, roles) {
			out = append(out, r.From...)
		}
		if slices.Equal(r.ToRoles, roles) {
			out = append(out, r.To...)
		}
	}
	return compact(out)
}
