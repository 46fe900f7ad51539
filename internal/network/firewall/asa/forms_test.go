package asa

import (
	"fmt"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall/entry"
	"ringfence/internal/testkit/policies"
)

const faces = `interface GigabitEthernet0/0
 nameif outside
 security-level 0
 ip address 198.51.100.2 255.255.255.0
 ipv6 address 2001:db8:99::2/64
!
interface GigabitEthernet0/1
 nameif inside
 security-level 100
 ipv6 enable
!
interface GigabitEthernet0/2
 nameif dmz
 security-level 50
!
`

// forms are configurations as people write them, with what happens to packets by the rules of the vendor, and what is not understood.
func forms() []struct{ name, text, packets, unknown string } {
	return []struct{ name, text, packets, unknown string }{
		{"levels alone", faces, `
			drop dmz>outside tcp [2001:db8::1]:1024 [2001:db8:1::1]:443
			pass inside>outside tcp [2001:db8::1]:1024 [2001:db8:1::1]:443
			pass inside>outside tcp 10.0.0.1:1024 192.0.2.1:80
			pass inside>dmz udp 10.0.0.1:5 10.5.0.1:6
			drop outside>inside tcp 192.0.2.1:80 10.0.0.1:1024
			drop dmz>inside tcp 10.5.0.1:80 10.0.0.1:1024
			pass dmz>outside gre 10.5.0.1 192.0.2.1
			drop inside>inside tcp 10.0.0.1:1 10.0.0.2:2
			drop ->outside tcp 10.0.0.1:1 192.0.2.1:2`, ""},
		{"an interface that is shut down", strings.Replace(faces, " nameif dmz", " shutdown\n nameif dmz", 1), "drop inside>dmz tcp 10.0.0.1:1 10.5.0.1:80\npass inside>outside tcp 10.0.0.1:1 192.0.2.1:80", ""},
		{"back by where it came", faces + "same-security-traffic permit intra-interface", "pass inside>inside tcp 10.0.0.1:1 10.0.0.2:2", ""},
		{"equal levels", strings.ReplaceAll(faces, "50", "100"), "drop inside>dmz tcp 10.0.0.1:1 10.5.0.1:80", ""},
		{"equal levels, permitted", strings.ReplaceAll(faces, "50", "100") + "same-security-traffic permit inter-interface", "pass inside>dmz tcp 10.0.0.1:1 10.5.0.1:80\ndrop inside>inside tcp 10.0.0.1:1 10.0.0.2:2", ""},
		{"a list takes the place of the level", faces + `access-list IN extended permit tcp 10.0.0.0 255.0.0.0 any eq https
access-group IN in interface inside`, `
			pass inside>outside tcp 10.9.9.9:1024 192.0.2.1:443
			pass inside>dmz tcp 10.9.9.9:1024 10.5.0.1:443
			drop inside>outside tcp 11.0.0.1:1024 192.0.2.1:443
			drop inside>outside tcp 10.9.9.9:1024 192.0.2.1:80
			drop inside>outside udp 10.9.9.9:1024 192.0.2.1:443
			drop inside>outside tcp [2001:db8::1]:1024 [2001:db8:1::1]:443
			pass dmz>outside tcp 10.5.0.1:1 192.0.2.1:80`, ""},
		{"from below by a list", faces + "access-list OUT permit udp any host 10.0.0.5 range 16384 32767\naccess-group OUT in interface outside", `
			pass outside>inside udp 192.0.2.1:9 10.0.0.5:16384
			drop outside>inside udp 192.0.2.1:9 10.0.0.5:16383
			drop outside>inside udp 192.0.2.1:9 10.0.0.6:16384`, ""},
		{"the global list comes after that of the interface", faces + `access-list I extended deny tcp any any eq 80
access-list G extended permit tcp any any range 79 81
access-group I in interface inside
access-group G global`, `
			drop inside>outside tcp 10.0.0.1:5 192.0.2.1:80
			pass inside>outside tcp 10.0.0.1:5 192.0.2.1:79
			pass outside>inside tcp 192.0.2.1:5 10.0.0.1:80
			drop inside>outside tcp 10.0.0.1:5 192.0.2.1:82`, ""},
		{"what leaves", faces + "access-list O extended deny ip any host 192.0.2.7\naccess-list O extended permit ip any any\naccess-group O out interface outside", `
			drop inside>outside tcp 10.0.0.1:5 192.0.2.7:80
			pass inside>outside tcp 10.0.0.1:5 192.0.2.8:80
			pass inside>dmz tcp 10.0.0.1:5 192.0.2.7:80`, ""},
		{"relations", faces + `access-list IN extended permit tcp any neq 25 any lt 100
access-list IN extended permit udp any gt 1023 any
access-list IN extended permit sctp any any eq 5061
access-group IN in interface inside`, `
			drop inside>outside tcp 10.0.0.1:25 192.0.2.1:80
			pass inside>outside tcp 10.0.0.1:26 192.0.2.1:99
			drop inside>outside tcp 10.0.0.1:26 192.0.2.1:100
			pass inside>outside udp 10.0.0.1:1024 192.0.2.1:1
			drop inside>outside udp 10.0.0.1:1023 192.0.2.1:1
			pass inside>outside sctp 10.0.0.1:1 192.0.2.1:5061`, ""},
		{"objects", faces + `object network phones
 subnet 10.20.0.0 255.255.0.0
object network cloud
 range 192.0.2.10 192.0.2.20
object service media
 service udp source range 8000 8099 destination range 19560 65535
object-group network both
 network-object object phones
 network-object host 10.30.0.1
 group-object more
object-group network more
 network-object 2001:db8::/32
 network-object 10.31.0.0 255.255.255.0
object-group service web tcp
 port-object eq www
 port-object range 8000 8001
object-group service mixed
 service-object tcp destination eq 5061
 service-object udp destination eq 5060
 service-object icmp echo
object-group protocol tu
 protocol-object tcp
 protocol-object udp
access-list IN extended permit object media object phones object cloud
access-list IN extended permit tcp object-group both any object-group web
access-list IN extended permit object-group mixed object phones any4
access-list IN extended permit object-group tu host 10.40.0.1 host 192.0.2.1 eq domain
access-group IN in interface inside`, `
			pass inside>outside udp 10.20.1.1:8000 192.0.2.10:65535
			drop inside>outside udp 10.20.1.1:8100 192.0.2.10:65535
			drop inside>outside udp 10.20.1.1:8000 192.0.2.21:65535
			pass inside>outside tcp 10.30.0.1:9 198.51.100.9:80
			pass inside>outside tcp 10.31.0.255:9 198.51.100.9:8001
			drop inside>outside tcp 10.30.0.2:9 198.51.100.9:80
			pass inside>outside tcp [2001:db8::5]:9 [2001:db9::5]:8000
			pass inside>outside tcp 10.20.0.1:7 198.51.100.9:5061
			pass inside>outside udp 10.20.0.1:7 198.51.100.9:5060
			drop inside>outside udp 10.20.0.1:7 198.51.100.9:5061
			pass inside>outside icmp 10.20.0.1 198.51.100.9 8/0
			drop inside>outside icmp 10.20.0.1 198.51.100.9 13/0
			pass inside>outside tcp 10.40.0.1:1 192.0.2.1:53
			pass inside>outside udp 10.40.0.1:1 192.0.2.1:53`, ""},
		{"ICMP", faces + `object-group icmp-type asked
 icmp-object echo
 icmp-object timestamp-request
access-list IN extended permit icmp any any object-group asked
access-list IN extended permit icmp any any unreachable 4
access-list IN extended permit icmp6 any any echo-request
access-group IN in interface inside`, `
			pass inside>outside icmp 10.0.0.1 192.0.2.1 13/0
			pass inside>outside icmp 10.0.0.1 192.0.2.1 3/4
			drop inside>outside icmp 10.0.0.1 192.0.2.1 3/3
			pass inside>outside icmp6 2001:db8::1 2001:db8::2 128/0
			drop inside>outside icmp6 2001:db8::1 2001:db8::2 129/0
			drop later outside>inside icmp 192.0.2.1 10.0.0.1 0/0
			pass later outside>inside tcp 192.0.2.1:443 10.0.0.1:1024`, ""},
		{"ICMP has a state when it is inspected", faces + "policy-map global_policy\n class inspection_default\n  inspect dns\n  inspect icmp\nservice-policy global_policy global", "pass later outside>inside icmp 192.0.2.1 10.0.0.1 0/0", ""},
		{"order, log, inactive, remarks", faces + `access-list IN remark first
access-list IN extended deny tcp any host 192.0.2.1 log notifications interval 600
access-list IN extended permit tcp any any eq 22 inactive
access-list IN extended permit tcp any any range 1 100 log disable
access-list IN extended permit tcp any host 192.0.2.1
access-group IN in interface inside`, `
			drop inside>outside tcp 10.0.0.1:5 192.0.2.1:50
			pass inside>outside tcp 10.0.0.1:5 192.0.2.2:22
			pass inside>outside tcp 10.0.0.1:5 192.0.2.2:100`, ""},
		{"lines at their place, and taken out", faces + `access-list IN extended deny ip any any
access-list IN line 1 extended permit tcp any any eq 80
access-list IN line 2 extended permit tcp any any eq 81
access-list IN extended permit tcp any any eq 82
no access-list IN extended permit tcp any any eq 81
access-group IN in interface inside`, "pass inside>outside tcp 10.0.0.1:5 192.0.2.1:80\ndrop inside>outside tcp 10.0.0.1:5 192.0.2.1:81\ndrop inside>outside tcp 10.0.0.1:5 192.0.2.1:82", ""},
		{"names for addresses", faces + "names\nname 192.0.2.9 server\naccess-list IN extended permit ip any host server\naccess-group IN in interface inside", "pass inside>outside tcp 10.0.0.1:5 192.0.2.9:1\ndrop inside>outside tcp 10.0.0.1:5 192.0.2.8:1", ""},
		{"the source may be translated", faces + "object network n\n subnet 10.0.0.0 255.0.0.0\n nat (inside,outside) dynamic interface\nnat (inside,outside) source static A A destination static B B no-proxy-arp", "pass inside>outside tcp 10.0.0.1:5 192.0.2.9:1", ""},
		{"a destination may not", faces + "object network n\n host 10.0.0.1\n nat (inside,outside) static 192.0.2.1", "", "line 18: a translation of destinations"},
		{"a group within itself", faces + "object-group network a\n group-object b\nobject-group network b\n group-object a\naccess-list IN extended permit ip object-group a any\naccess-group IN in interface inside", "", `line 20: the object or object-group network "a" contains itself (line 19) (line 17)`},
		{"no such group", faces + "access-list IN extended permit ip object-group a any\naccess-group IN in interface inside", "", `line 16: there is no object or object-group network "a"`},
		{"no such list", faces + "access-group IN in interface inside", "", `line 16: there is no access-list "IN"`},
		{"no such interface", faces + "access-list IN extended permit ip any any\naccess-group IN in interface insied", "", `line 17: there is no interface "insied"`},
		{"ranges the wrong way round", faces + "object network a\n range 10.0.0.9 10.0.0.1\naccess-list IN extended permit tcp any any range 90 80\naccess-group IN in interface inside", "", "line 17: the range 10.0.0.9 to 10.0.0.1 is the wrong way round\nline 18: the range 90 to 80 is the wrong way round"},
		{"a mask with holes", faces + "access-list IN extended permit tcp 10.0.0.0 255.0.255.0 any\naccess-group IN in interface inside", "", "line 16: the mask 255.0.255.0 has holes"},
		{"a wildcard of another product", faces + "access-list IN extended permit tcp 10.0.0.0 0.255.255.255 any\naccess-group IN in interface inside", "", "line 16: the mask 0.255.255.255 has holes"},
		{"times and people", faces + "access-list IN extended permit tcp any any eq 80 time-range work\naccess-list IN extended permit tcp user LOCAL\\bob any any\naccess-group IN in interface inside", "", "line 16: \"time-range\"\nline 17: user, which the device alone knows"},
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

// TestLarge reads a hundred thousand rules in bounded time, and refuses lists that multiply.
func TestLarge(t *testing.T) {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "access-list IN extended permit tcp host 10.%d.%d.%d any4 eq %d\n", i>>16, i>>8&255, i&255, 1+i%60000)
	}
	b.WriteString("access-group IN in interface inside\n")
	rules, err := Parse([]byte(b.String()), &box.Interfaces{})
	if err != nil || len(rules.Chains[1].Rules) != 100_000 {
		t.Errorf("%v", err)
	}
	b.Reset()
	b.WriteString("object-group network g\n")
	for i := range 2000 {
		fmt.Fprintf(&b, " network-object host 10.0.%d.%d\n", i>>8, i&255)
	}
	b.WriteString("access-list IN extended permit tcp object-group g object-group g\naccess-group IN in interface inside\n")
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
