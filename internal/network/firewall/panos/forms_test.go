package panos

import (
	"fmt"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/testkit/policies"
)

const zones = `set deviceconfig system hostname pa-220
set zone trust network layer3 [ ethernet1/2 ]
set zone untrust network layer3 ethernet1/1
set zone dmz network layer3 ethernet1/3
`

// rule is a rule with an exception from its usual attributes.
func oneRule(name, change string) string {
	return "set rulebase security rules " + name + " from trust to untrust source any destination any application any service any action allow\n" + change
}

// forms are configurations as devices print them, with what happens to packets by the rules of the vendor, and what is not understood.
func forms() []struct{ name, text, packets, unknown string } {
	return []struct{ name, text, packets, unknown string }{
		{"no rules", zones, "drop trust>untrust tcp 10.0.0.1:1 192.0.2.1:80\npass trust>trust tcp 10.0.0.1:1 10.0.0.2:80\npass dmz>dmz gre 10.0.0.1 10.0.0.2\ndrop ->trust tcp 10.0.0.1:1 10.0.0.2:80", ""},
		{"the default rules are changed", zones + "set rulebase default-security-rules rules intrazone-default action deny\nset rulebase default-security-rules rules interzone-default action allow", "pass trust>untrust tcp 10.0.0.1:1 192.0.2.1:80\ndrop trust>trust tcp 10.0.0.1:1 10.0.0.2:80", ""},
		{"objects and groups", zones + `set address phones ip-netmask 10.20.0.0/16
set address "media servers" ip-range 192.0.2.10-192.0.2.20
set address six ip-netmask 2001:db8::/32
set address odd ip-wildcard 10.5.0.3/0.0.255.0
set address-group all-phones static [ phones more ]
set address-group more static six
set address-group more description "of the second floor"
set service sip-tls protocol tcp port 5061,8934
set service media protocol udp port 19560-65535
set service media protocol udp source-port 8000-8099
set service-group voice members [ sip-tls media ]
set deviceconfig setting session ipv6-firewalling yes
set rulebase security rules voice from trust
set rulebase security rules voice to untrust
set rulebase security rules voice source all-phones
set rulebase security rules voice destination [ "media servers" 2001:db9::/32 ]
set rulebase security rules voice application any
set rulebase security rules voice service voice
set rulebase security rules voice action allow
set rulebase security rules voice log-setting default
set rulebase security rules voice profile-setting group strict
set rulebase security rules odd from trust to dmz source odd destination 10.6.0.1-10.6.0.3 application any service any action allow
`, `
			pass trust>untrust tcp 10.20.3.4:9 192.0.2.10:5061
			pass trust>untrust tcp 10.20.3.4:9 192.0.2.20:8934
			drop trust>untrust tcp 10.20.3.4:9 192.0.2.21:8934
			drop trust>untrust tcp 10.20.3.4:9 192.0.2.20:8935
			pass trust>untrust udp 10.20.3.4:8000 192.0.2.20:65535
			drop trust>untrust udp 10.20.3.4:8100 192.0.2.20:65535
			pass trust>untrust tcp [2001:db8::1]:9 [2001:db9::1]:5061
			drop trust>dmz tcp 10.20.3.4:9 192.0.2.10:5061
			pass trust>dmz tcp 10.5.77.3:9 10.6.0.3:5061
			drop trust>dmz tcp 10.5.77.4:9 10.6.0.3:5061
			drop trust>dmz tcp 10.5.77.3:9 10.6.0.4:5061`, ""},
		{"order, and rules that are off", zones + oneRule("first", "set rulebase security rules first destination 192.0.2.9 action deny disabled yes\n") + oneRule("deny", "set rulebase security rules deny action drop\nset rulebase security rules deny service service-http\ndelete rulebase security rules deny service any\n") + oneRule("all", ""), `
			drop trust>untrust tcp 10.0.0.1:1 192.0.2.1:8080
			pass trust>untrust tcp 10.0.0.1:1 192.0.2.1:81`, ""},
		{"moved, renamed, deleted", zones + oneRule("a", "set rulebase security rules a action deny\n") + oneRule("b", "") + oneRule("c", "set rulebase security rules c action deny\n") + "delete rulebase security rules a\nrename rulebase security rules b to d\nmove rulebase security rules c before d\nmove rulebase security rules d top", "pass trust>untrust tcp 10.0.0.1:1 192.0.2.1:8080", ""},
		{"moved to the bottom", zones + oneRule("a", "set rulebase security rules a action deny\n") + oneRule("b", "") + "move rulebase security rules a bottom", "pass trust>untrust tcp 10.0.0.1:1 192.0.2.1:8080", ""},
		{"not these addresses", zones + oneRule("a", "delete rulebase security rules a source any\nset rulebase security rules a source 10.0.0.0/8\nset rulebase security rules a negate-source yes"), "drop trust>untrust tcp 10.0.0.1:1 192.0.2.1:80\npass trust>untrust tcp 11.0.0.1:1 192.0.2.1:80", ""},
		{"types of rules", zones + "set rulebase security rules in from [ trust dmz ] to [ trust dmz ] source any destination any application any service service-https action deny rule-type intrazone\nset rulebase security rules out rule-type interzone from any to any source any destination any application any service service-https action allow", `
			drop trust>trust tcp 10.0.0.1:1 10.0.0.2:443
			pass untrust>untrust tcp 10.0.0.1:1 10.0.0.2:443
			pass trust>dmz tcp 10.0.0.1:1 10.0.0.2:443
			drop trust>dmz tcp 10.0.0.1:1 10.0.0.2:80`, ""},
		{"ping", zones + oneRule("a", "delete rulebase security rules a application any\nset rulebase security rules a application [ ping ping6 ]"), `
			pass trust>untrust icmp 10.0.0.1 192.0.2.1 8/0
			drop trust>untrust icmp 10.0.0.1 192.0.2.1 13/0
			pass trust>untrust icmp6 2001:db8::1 2001:db8::2 128/0
			drop trust>untrust tcp 10.0.0.1:1 192.0.2.1:80`, ""},
		{"of a virtual system, and of Panorama", strings.ReplaceAll(zones, "set zone", "set vsys vsys1 zone") + strings.ReplaceAll(oneRule("a", ""), "set rulebase", "set vsys vsys1 rulebase"), "pass trust>untrust tcp 10.0.0.1:1 192.0.2.1:80", ""},
		{"before and after", "set device-group g post-rulebase security rules z from a to b source any destination any application any service any action allow\nset device-group g pre-rulebase security rules y from a to b source any destination any application any service service-https action deny", "drop a>b tcp 10.0.0.1:1 192.0.2.1:443\npass a>b tcp 10.0.0.1:1 192.0.2.1:444", ""},
		{"two at once", strings.ReplaceAll(oneRule("a", ""), "set rulebase", "set vsys vsys1 rulebase") + strings.ReplaceAll(oneRule("b", ""), "set rulebase", "set vsys vsys2 rulebase"), "", "line 2: rules of vsys vsys2 beside those of vsys vsys1"},
		{"applications", zones + oneRule("a", "set rulebase security rules a application [ ssl sip ]"), "", `line 6: the rule a: whether a packet is of the application "ssl"`},
		{"people, times, and categories", zones + oneRule("a", "set rulebase security rules a source-user acme\\bob") + "\n" + oneRule("b", "set rulebase security rules b schedule night") + "\n" + oneRule("c", "set rulebase security rules c category gambling"), "", "line 6: the rule a: source-user, which the device alone knows\nline 8: the rule b: it is not always in force\nline 10: the rule c: category"},
		{"what is missing", zones + "set rulebase security rules a from trust to untrust action allow", "", "line 5: the rule a: it has no source"},
		{"nothing of that name", zones + oneRule("a", "set rulebase security rules a source nobody") + "\n" + oneRule("b", "set rulebase security rules b service nothing") + "\n" + oneRule("c", "set rulebase security rules c from nowhere") + "\nmove rulebase security rules d top", "", "line 6: the rule a: there is no address or address-group \"nobody\"\nline 8: the rule b: there is no service or service-group \"nothing\"\nline 10: there is no zone \"nowhere\"\nline 11: there is no rule \"d\" to move"},
		{"groups within themselves", zones + "set address-group a static b\nset address-group b static a\nset rulebase security rules r from trust to untrust source a destination any application any service any action allow", "", "contains itself"},
		{"tags and names", zones + "set address-group a dynamic filter \"'phones'\"\nset address b fqdn host.example.com\n", "", "line 5: the members of a are known by their tags alone\nline 6: an address by fqdn"},
		{"ranges the wrong way round", "set address a ip-range 10.0.0.9-10.0.0.1\nset service s protocol tcp port 90-80", "", "line 1: the range 10.0.0.9 to 10.0.0.1 is the wrong way round\nline 2: the range 90 to 80 is the wrong way round"},
		{"destinations are translated", "set rulebase nat rules n destination-translation translated-address 10.0.0.1", "", "line 1: a translation of destinations"},
		{"IPv6 that is not looked at", zones + oneRule("a", "delete rulebase security rules a source any\nset rulebase security rules a source 2001:db8::/32"), "", "ipv6-firewalling"},
		{"quotation marks", `set rulebase security rules "a from`, "", "line 1: a quotation mark is missing"},
	}
}

// TestForms judges packets by configurations that were written by hand.
func TestForms(t *testing.T) {
	for _, f := range forms() {
		for _, w := range policies.Judge(Parse, f.text, f.packets, f.unknown) {
			t.Errorf("%s: %s", f.name, w)
		}
	}
}

// TestLarge reads a hundred thousand rules in bounded time, and refuses what multiplies.
func TestLarge(t *testing.T) {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "set service s%d protocol tcp port %d\nset rulebase security rules r%d from trust to untrust source 10.%d.%d.%d destination any application any service s%d action allow\n", i, 1+i%60000, i, i>>16, i>>8&255, i&255, i)
	}
	rules, err := Parse([]byte(b.String()), &box.Interfaces{})
	if err != nil || len(rules.Chains[0].Rules) != 100_002 {
		t.Errorf("%v", err)
	}
	b.Reset()
	for i := range 2000 {
		fmt.Fprintf(&b, " 10.0.%d.%d", i>>8, i&255)
	}
	if _, err := Parse([]byte("set rulebase security rules a from x to y source ["+b.String()+" ] destination ["+b.String()+" ] application any service any action allow"), &box.Interfaces{}); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"a\x00b", "a\xffb", strings.Repeat("x", 70000)} {
		if _, err := Parse([]byte(bad), &box.Interfaces{}); err == nil {
			t.Errorf("%.5q is read", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, form := range forms() {
		f.Add([]byte(form.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rules, err := Parse(b, &box.Interfaces{})
		if err != nil {
			return
		}
		if wrong := policies.Sound(rules, 4*entry.MaxBoxes); wrong != "" {
			t.Error(wrong)
		}
	})
}
