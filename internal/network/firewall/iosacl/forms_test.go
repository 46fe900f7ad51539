package iosacl

import (
	"fmt"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/testkit/policies"
)

const faces = `hostname r1
!
interface Gi0/0
 description outside
 ip address 198.51.100.2 255.255.255.0
 ip access-group OUT in
!
interface Gi0/1
 ip address 10.0.0.1 255.0.0.0
 ip access-group IN in
 no shutdown
!
interface Gi0/2
 no ip address
 shutdown
!
`

const open = "ip access-list extended OUT\n permit ip any any\n"

type form struct{ name, text, packets, unknown string }

// forms are configurations as people write them, with what happens to packets by the rules of the vendor, and what is not understood.
func forms() []form {
	return append([]form{
		{"an interface without a list", "interface Gi0/0\n ip address 198.51.100.2 255.255.255.0\ninterface Gi0/1\n ip address 10.0.0.1 255.0.0.0\n", "pass Gi0/0>Gi0/1 tcp 192.0.2.1:1 10.0.0.1:2\ndrop ->Gi0/1 tcp 192.0.2.1:1 10.0.0.1:2\ndrop Gi0/0>Gi0/1 tcp [2001:db8::1]:1 [2001:db8::2]:2", ""},
		{"named, with wildcards", faces + open + `ip access-list extended IN
 10 remark of the phones
 20 permit tcp 10.20.0.0 0.0.255.255 host 192.0.2.1 eq www
 30 permit udp 10.20.0.0 0.0.255.255 range 8000 8099 192.0.2.0 0.0.0.255 gt 1023 log
 40 deny ip host 10.30.0.1 any log-input
 50 permit tcp 10.30.0.0 0.0.254.255 any neq 25
 60 permit icmp any any echo
 70 permit icmp any any 3 4
 80 permit gre any any
!
`, `
			pass Gi0/1>Gi0/0 tcp 10.20.9.9:5 192.0.2.1:80
			drop Gi0/1>Gi0/0 tcp 10.20.9.9:5 192.0.2.1:81
			pass Gi0/1>Gi0/0 udp 10.20.9.9:8099 192.0.2.77:1024
			drop Gi0/1>Gi0/0 udp 10.20.9.9:8100 192.0.2.77:1024
			drop Gi0/1>Gi0/0 udp 10.20.9.9:8099 192.0.2.77:1023
			drop Gi0/1>Gi0/0 tcp 10.30.0.1:5 192.0.2.77:80
			pass Gi0/1>Gi0/0 tcp 10.30.0.2:5 192.0.2.77:80
			pass Gi0/1>Gi0/0 tcp 10.30.4.2:5 192.0.2.77:80
			drop Gi0/1>Gi0/0 tcp 10.30.5.2:5 192.0.2.77:80
			drop Gi0/1>Gi0/0 tcp 10.30.4.2:5 192.0.2.77:25
			pass Gi0/1>Gi0/0 icmp 10.1.0.1 192.0.2.77 8/0
			pass Gi0/1>Gi0/0 icmp 10.1.0.1 192.0.2.77 3/4
			drop Gi0/1>Gi0/0 icmp 10.1.0.1 192.0.2.77 0/0
			pass Gi0/1>Gi0/0 gre 10.1.0.1 192.0.2.77
			drop Gi0/1>Gi0/2 gre 10.1.0.1 192.0.2.77
			pass Gi0/0>Gi0/1 tcp 192.0.2.1:1 10.0.0.1:2`, ""},
		{"numbered", strings.ReplaceAll(strings.ReplaceAll(faces, "IN", "101"), "OUT", "7") + `access-list 101 remark web
access-list 101 permit tcp any any eq 80 443 8080
access-list 101 deny   udp any any eq domain
access-list 101 permit udp any any lt 1024
access-list 7 deny 192.0.2.9
access-list 7 permit 192.0.2.0 0.0.0.255 log
`, `
			pass Gi0/1>Gi0/0 tcp 10.0.0.1:1 192.0.2.1:8080
			drop Gi0/1>Gi0/0 udp 10.0.0.1:1 192.0.2.1:53
			pass Gi0/1>Gi0/0 udp 10.0.0.1:1 192.0.2.1:54
			drop Gi0/0>Gi0/1 udp 192.0.2.9:1 10.0.0.1:54
			pass Gi0/0>Gi0/1 udp 192.0.2.8:1 10.0.0.1:54
			drop Gi0/0>Gi0/1 udp 192.0.3.8:1 10.0.0.1:54`, ""},
		{"what is up", faces + `ip access-list extended IN
 permit tcp any any eq 443
 permit udp any any eq 53
ip access-list extended OUT
 permit tcp any eq 443 any established
 deny ip any any
`, `
			drop Gi0/0>Gi0/1 tcp 192.0.2.1:443 10.0.0.1:1024
			pass later Gi0/0>Gi0/1 tcp 192.0.2.1:443 10.0.0.1:1024
			drop later Gi0/0>Gi0/1 udp 192.0.2.1:53 10.0.0.1:1024
			pass Gi0/1>Gi0/0 udp 10.0.0.1:1024 192.0.2.1:53`, ""},
		{"reflexive lists", faces + `ip access-list extended IN
 permit tcp 10.0.0.0 0.255.255.255 any eq 443 reflect MIRROR
 permit udp any any eq 53 reflect MIRROR timeout 60
ip access-list extended OUT
 permit tcp any host 10.0.0.5 eq 25
 evaluate MIRROR
`, `
			drop Gi0/0>Gi0/1 tcp 192.0.2.1:443 10.0.0.1:1024
			pass later Gi0/0>Gi0/1 tcp 192.0.2.1:443 10.0.0.1:1024
			pass later Gi0/0>Gi0/1 udp 192.0.2.1:53 10.0.0.1:1024
			drop later Gi0/0>Gi0/1 tcp 192.0.2.1:444 10.0.0.1:1024
			pass Gi0/0>Gi0/1 tcp 192.0.2.1:443 10.0.0.5:25`, ""},
		{"object groups", faces + open + `object-group network phones
 description all of them
 10.20.0.0 255.255.0.0
 host 10.30.0.1
 range 10.40.0.1 10.40.0.9
 group-object more
object-group network more
 10.50.0.0 /16
object-group service voice
 tcp eq 5061
 udp source range 8000 8099 range 19560 65535
 tcp-udp 53
 icmp echo
ip access-list extended IN
 permit object-group voice object-group phones any
 permit tcp object-group more any eq 22
`, `
			pass Gi0/1>Gi0/0 tcp 10.20.0.1:9 192.0.2.1:5061
			pass Gi0/1>Gi0/0 udp 10.40.0.9:8000 192.0.2.1:20000
			drop Gi0/1>Gi0/0 udp 10.40.0.10:8000 192.0.2.1:20000
			drop Gi0/1>Gi0/0 udp 10.40.0.9:8100 192.0.2.1:20000
			pass Gi0/1>Gi0/0 udp 10.50.7.7:8100 192.0.2.1:53
			pass Gi0/1>Gi0/0 icmp 10.30.0.1 192.0.2.1 8/0
			drop Gi0/1>Gi0/0 icmp 10.30.0.1 192.0.2.1 13/0
			pass Gi0/1>Gi0/0 tcp 10.50.0.1:9 192.0.2.1:22
			drop Gi0/1>Gi0/0 tcp 10.20.0.1:9 192.0.2.1:22`, ""},
		{"IPv6", "ipv6 unicast-routing\ninterface Gi0/0\n ipv6 address 2001:db8::1/64\n ipv6 traffic-filter SIX in\ninterface Gi0/1\n ipv6 enable\ninterface Gi0/2\n ip address 10.0.0.1 255.0.0.0\n" + `ipv6 access-list SIX
 sequence 20 deny ipv6 any host 2001:db8:1::9
 sequence 10 permit tcp any host 2001:db8:1::9 eq 443
 permit udp 2001:db8:2::/48 range 1 9 any
 permit icmp any any echo-request
`, `
			pass Gi0/0>Gi0/1 tcp [2001:db8:5::1]:9 [2001:db8:1::9]:443
			drop Gi0/0>Gi0/1 udp [2001:db8:2::1]:9 [2001:db8:1::9]:443
			pass Gi0/0>Gi0/1 udp [2001:db8:2::1]:9 [2001:db8:1::8]:443
			drop Gi0/0>Gi0/1 udp [2001:db8:2::1]:10 [2001:db8:1::8]:443
			pass Gi0/0>Gi0/1 icmp6 2001:db8:2::1 2001:db8:1::8 128/0
			drop Gi0/0>Gi0/1 icmp6 2001:db8:2::1 2001:db8:1::8 1/0
			drop Gi0/0>Gi0/2 udp [2001:db8:2::1]:9 [2001:db8:1::8]:443
			pass Gi0/1>Gi0/0 udp [2001:db8:1::8]:9 [2001:db8:2::1]:443`, ""},
		{"lines at their number, and taken out", faces + open + `ip access-list extended IN
 deny ip any any
 5 permit tcp any any eq 80
 6 permit tcp any any eq 81
 permit tcp any any eq 82
no ip access-list extended NONE
ip access-list resequence IN 100 10
ip access-list extended IN
 no 110
 no deny ip any any
 105 permit tcp any any eq 83
`, "pass Gi0/1>Gi0/0 tcp 10.0.0.1:1 192.0.2.1:80\ndrop Gi0/1>Gi0/0 tcp 10.0.0.1:1 192.0.2.1:81\npass Gi0/1>Gi0/0 tcp 10.0.0.1:1 192.0.2.1:82\npass Gi0/1>Gi0/0 tcp 10.0.0.1:1 192.0.2.1:83", ""},
	}, append(zones(), mistakes()...)...)
}

func zones() []form {
	return []form{
		{"zones", `ip access-list extended WEB
 deny tcp host 10.0.0.9 any
 permit tcp any any eq 443
 permit gre any any
class-map type inspect match-all WEB
 match protocol tcp
 match access-group name WEB
class-map type inspect match-any ALSO
 match access-group name WEB
 match protocol icmp
policy-map type inspect OUT
 description of the phones
 class type inspect WEB
  inspect
 class type inspect ALSO
  pass log
 class class-default
  drop log
zone security inside
zone security outside
 description the provider
zone-pair security P source inside destination outside
 service-policy type inspect OUT
zone-pair security S source outside destination self
 service-policy type inspect OUT
interface Gi0/0
 zone-member security outside
interface Gi0/1
 zone-member security inside
interface Gi0/2
 zone-member security inside
interface Gi0/3
interface Gi0/4
`, `
			pass Gi0/1>Gi0/0 tcp 10.0.0.1:1 192.0.2.1:443
			drop Gi0/1>Gi0/0 tcp 10.0.0.9:1 192.0.2.1:443
			pass Gi0/1>Gi0/0 gre 10.0.0.1 192.0.2.1
			pass Gi0/1>Gi0/0 icmp 10.0.0.1 192.0.2.1 8/0
			drop Gi0/1>Gi0/0 udp 10.0.0.1:1 192.0.2.1:443
			drop Gi0/0>Gi0/1 tcp 192.0.2.1:443 10.0.0.1:1
			pass later Gi0/0>Gi0/1 tcp 192.0.2.1:443 10.0.0.1:1
			drop later Gi0/0>Gi0/1 gre 192.0.2.1 10.0.0.1
			pass Gi0/1>Gi0/2 udp 10.0.0.1:1 10.0.0.2:5
			drop Gi0/1>Gi0/3 udp 10.0.0.1:1 10.0.0.2:5
			pass Gi0/4>Gi0/3 udp 10.0.0.1:1 10.0.0.2:5`, ""},
	}
}

// mistakes are configurations with something in them that is not understood, or wrong.
func mistakes() []form {
	return []form{
		{"no such list", "interface Gi0/1\n ip access-group NONE in\n", "", `line 2: there is no access-list "NONE", so everything passes`},
		{"nothing of that name", faces + open + "ip access-list extended IN\n permit object-group S any any\n permit tcp object-group N any\nzone-pair security p source a destination b\n service-policy type inspect q\ninterface Gi0/0\n zone-member security c\n", "", "line 3: there is no zone \"c\"\nline 20: there is no object-group service \"S\"\nline 21: there is no object-group network \"N\"\nline 22: there is no zone \"a\", or none \"b\""},
		{"a group within itself", faces + open + "object-group network a\n group-object a\nip access-list extended IN\n permit ip object-group a any\n", "", `line 22: the object-group network "a" contains itself`},
		{"ranges the wrong way round, addresses of nobody", faces + open + "ip access-list extended IN\n permit tcp any any range 90 80\n permit tcp 10.0.0.300 0.0.0.255 any\n permit udp any any eq nonsense\n permit ip 10.0.0.0 0.0.0.255\n permit tcp any any gt 65535\nobject-group network n\n range 10.0.0.9 10.0.0.1\n", "", "line 20: the range 90 to 80 is the wrong way round\nline 21: \"10.0.0.300\" is no address\nline 22: \"nonsense\" is no port that is known\nline 23: an address is missing\nline 24: no port is above 65535\nline 26: the range 10.0.0.9 to 10.0.0.1 is the wrong way round"},
		{"what is not looked at", faces + open + "ip access-list extended IN\n permit tcp any any dscp ef\n permit tcp any any time-range work\n permit tcp any any match-all +syn\n dynamic x permit ip any any\n permit ip any any fragments\n permit udp any any established\n", "", "line 20: \"dscp\"\nline 21: \"time-range\"\nline 22: \"match-all\"\nline 23: dynamic\nline 25: established of another protocol than TCP"},
		{"protocols of an application", "class-map type inspect match-any C\n match protocol sip\npolicy-map type inspect P\n class type inspect C\n  inspect\nzone security a\nzone security b\nzone-pair security p source a destination b\n service-policy type inspect P\ninterface Gi0/0\n zone-member security a\ninterface Gi0/1\n zone-member security b\n", "", `line 2: packets of the protocol "sip"`},
		{"translations", faces + open + "ip access-list extended IN\n permit ip any any\nip nat inside source list 1 interface Gi0/0 overload\nip nat inside source static tcp 10.0.0.1 80 198.51.100.2 80\ninterface Gi0/0\n ip nat outside\n ip inspect FW out\n", "", "line 22: a translation of destinations"},
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
	b.WriteString("interface Gi0/1\n ip access-group IN in\nip access-list extended IN\n")
	for i := range 100_000 {
		fmt.Fprintf(&b, " permit tcp host 10.%d.%d.%d any eq %d\n", i>>16, i>>8&255, i&255, 1+i%60000)
	}
	rules, err := Parse([]byte(b.String()), &box.Interfaces{})
	if err != nil || len(rules.Chains[1].Rules) != 100_000 {
		t.Errorf("%v", err)
	}
	b.Reset()
	b.WriteString("object-group network g\n")
	for i := range 2000 {
		fmt.Fprintf(&b, " host 10.0.%d.%d\n", i>>8, i&255)
	}
	b.WriteString("ip access-list extended IN\n permit tcp object-group g object-group g\ninterface Gi0/1\n ip access-group IN in\n")
	if _, err := Parse([]byte(b.String()), &box.Interfaces{}); err == nil || !strings.Contains(err.Error(), "too many") {
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
