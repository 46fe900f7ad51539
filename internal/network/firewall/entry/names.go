package entry

import (
	"fmt"
	"strconv"

	"ringfence/internal/network/box"
)

// Number reads a number in decimal, without a sign.
func Number(s string, last int) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > uint64(last) || len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("%.40q is no number up to %d", s, last)
	}
	return int(n), nil
}

// NumberRange returns a range of numbers, both included.
func NumberRange(first, last int) (box.Span, error) {
	if last < first {
		return box.Span{}, fmt.Errorf("the range %d to %d is the wrong way round", first, last)
	}
	return box.Range(first, last), nil
}

// Protocol reads a protocol by its name or its number. A name stands for one number with all vendors that know it.
func Protocol(s string) (box.Span, bool) {
	known := map[string]int{"icmp": 1, "igmp": 2, "ipinip": 4, "ipip": 4, "tcp": 6, "egp": 8, "igrp": 9, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ahp": 51, "ah": 51,
		"icmp6": 58, "icmpv6": 58, "ipv6-icmp": 58, "eigrp": 88, "ospf": 89, "nos": 94, "pim": 103, "pcp": 108, "vrrp": 112, "carp": 112, "sctp": 132, "udplite": 136}
	if n, ok := known[s]; ok {
		return box.One(n), true
	}
	n, err := Number(s, 255)
	return box.One(n), err == nil
}

// CiscoPort reads a port as IOS and ASA name it for a protocol, or as a number. Names that changed their meaning from release to release are no names here.
func CiscoPort(s string, protocol uint8) (int, error) {
	both := map[string]int{"discard": 9, "domain": 53, "echo": 7, "pim-auto-rp": 496, "sunrpc": 111, "tacacs": 49, "talk": 517, "time": 37}
	tcp := map[string]int{"aol": 5190, "bgp": 179, "chargen": 19, "citrix-ica": 1494, "cmd": 514, "ctiqbe": 2748, "daytime": 13, "exec": 512, "finger": 79, "ftp": 21, "ftp-data": 20, "gopher": 70,
		"h323": 1720, "hostname": 101, "https": 443, "ident": 113, "imap4": 143, "irc": 194, "klogin": 543, "kshell": 544, "ldap": 389, "ldaps": 636, "login": 513, "lotusnotes": 1352, "lpd": 515,
		"msrpc": 135, "netbios-ssn": 139, "nntp": 119, "pcanywhere-data": 5631, "pop2": 109, "pop3": 110, "pptp": 1723, "rtsp": 554, "smtp": 25, "ssh": 22, "telnet": 23, "uucp": 540,
		"whois": 43, "www": 80, "http": 80, "sip": 5060, "nfs": 2049}
	udp := map[string]int{"biff": 512, "bootpc": 68, "bootps": 67, "dnsix": 195, "isakmp": 500, "mobile-ip": 434, "nameserver": 42, "netbios-dgm": 138, "netbios-ns": 137, "netbios-ss": 139,
		"non500-isakmp": 4500, "ntp": 123, "pcanywhere-status": 5632, "radius": 1645, "radius-acct": 1646, "rip": 520, "secureid-udp": 5510, "snmp": 161, "snmptrap": 162, "syslog": 514,
		"tftp": 69, "vxlan": 4789, "who": 513, "xdmcp": 177, "sip": 5060, "nfs": 2049}
	if n, ok := both[s]; ok && (protocol == box.TCP || protocol == box.UDP) {
		return n, nil
	}
	names := map[uint8]map[string]int{box.TCP: tcp, box.UDP: udp}[protocol]
	if n, ok := names[s]; ok {
		return n, nil
	}
	n, err := Number(s, 65535)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no port that is known", s)
	}
	return n, nil
}

// ICMPName reads what IOS, ASA and pf call a message of ICMP or of ICMPv6: its types, and its codes if the name says one.
func ICMPName(s string, family uint8) (types, codes []box.Span, ok bool) {
	if family == box.IPv4 {
		known := map[string]int{"echo-reply": 0, "echorep": 0, "unreachable": 3, "unreach": 3, "source-quench": 4, "squench": 4, "redirect": 5, "redir": 5, "alternate-address": 6, "althost": 6, "echo": 8, "echoreq": 8,
			"router-advertisement": 9, "routeradv": 9, "router-solicitation": 10, "routersol": 10, "time-exceeded": 11, "timex": 11, "parameter-problem": 12, "paramprob": 12,
			"timestamp-request": 13, "timereq": 13, "timestamp-reply": 14, "timerep": 14, "information-request": 15, "inforeq": 15, "information-reply": 16, "inforep": 16,
			"mask-request": 17, "maskreq": 17, "mask-reply": 18, "maskrep": 18, "traceroute": 30, "trace": 30, "conversion-error": 31, "dataconv": 31, "mobile-redirect": 32, "mobredir": 32}
		coded := map[string][2]int{"net-unreachable": {3, 0}, "host-unreachable": {3, 1}, "protocol-unreachable": {3, 2}, "port-unreachable": {3, 3}, "packet-too-big": {3, 4}, "administratively-prohibited": {3, 13},
			"ttl-exceeded": {11, 0}, "reassembly-timeout": {11, 1}}
		if n, ok := known[s]; ok {
			return []box.Span{box.One(n)}, nil, true
		}
		if n, ok := coded[s]; ok {
			return []box.Span{box.One(n[0])}, []box.Span{box.One(n[1])}, true
		}
		return nil, nil, false
	}
	known := map[string]int{"unreachable": 1, "unreach": 1, "destination-unreachable": 1, "packet-too-big": 2, "toobig": 2, "time-exceeded": 3, "timex": 3, "parameter-problem": 4, "paramprob": 4, "echo-request": 128,
		"echoreq": 128, "echo": 128, "echo-reply": 129, "echorep": 129, "mld-query": 130, "listqry": 130, "membership-query": 130, "mld-report": 131, "membership-report": 131, "mld-reduction": 132, "membership-reduction": 132,
		"router-solicitation": 133, "routersol": 133, "router-advertisement": 134, "routeradv": 134, "nd-ns": 135, "neighbor-solicitation": 135, "neighbrsol": 135,
		"nd-na": 136, "neighbor-advertisement": 136, "neighbradv": 136, "redirect": 137, "neighbor-redirect": 137, "redir": 137, "mldv2-report": 143}
	if n, ok := known[s]; ok {
		return []box.Span{box.One(n)}, nil, true
	}
	return nil, nil, false
}
