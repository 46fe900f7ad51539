package phoneports

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/paging"
	"ringfence/internal/network/need"
)

// Open is one range of ports that the phone's firewall leaves open to whoever comes.
type Open struct {
	Transport string     `json:"transport"` // udp or tcp
	Ports     need.Ports `json:"ports"`
	Service   string     `json:"service"`
	Because   []string   `json:"because"`         // parameters with their values
	Close     string     `json:"close,omitempty"` // what closes it; empty: nothing does
	Media     bool       `json:"media,omitempty"` // the phone tells the other side which of the ports it uses
	One       bool       `json:"one,omitempty"`   // one port out of the range, by chance
}

// Problem is something in the file that does not do what it seems to.
type Problem struct {
	Line  int    `json:"line,omitempty"`
	Error bool   `json:"error"` // the phone refuses it, or passes it over; otherwise it works and is worth a thought
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`
}

// View is what of a phone stands open.
type View struct {
	Firewall    bool      `json:"firewall"`
	Open        []Open    `json:"open"`
	Ping        bool      `json:"answers_ping"`
	Unreachable bool      `json:"sends_unreachable"` // for UDP ports outside the range of RTP
	Multicast   bool      `json:"joins_groups"`      // and answers the queries of IGMP and MLD
	Problems    []Problem `json:"problems"`
}

// maxOptions is how many options there may be of UDP, and as many of TCP.
const maxOptions = 5

// profile is the parameters in force, as this room asks for them.
type profile struct{ set *flatprofile.Set }

// get returns a parameter, or its default if it is empty, and how it came to that.
func (p profile) get(name string) (text, because string, line int) {
	v := p.set.Get(name)
	if v.Value == "" {
		known, _, _ := p.set.Catalogue().Find(name)
		v.Value, v.From = known.Default, flatprofile.Default
	}
	because = name + " = " + v.Value
	if v.From == flatprofile.Default {
		because += " (default)"
	}
	return v.Value, because, v.Line
}

// Look works it out.
func Look(set *flatprofile.Set) View {
	p := profile{set}
	v := View{Ping: true, Unreachable: true, Open: []Open{}, Problems: []Problem{}}
	problem := func(line int, hard bool, fix, format string, args ...any) {
		v.Problems = append(v.Problems, Problem{Line: line, Error: hard, Text: fmt.Sprintf(format, args...), Fix: fix})
	}
	state, because, line := p.get("Firewall")
	switch state {
	case "Enabled":
		v.Firewall = true
	case "Disabled":
		problem(line, false, "set it to Enabled", "%s: every port of the phone stands open", because)
		return v
	default:
		problem(line, true, "write Enabled or Disabled", "%s is neither; the phone keeps what it had", because)
		v.Firewall = true
	}
	open := func(transport string, first, last int, service, closes string, why ...string) {
		v.Open = append(v.Open, Open{Transport: transport, Ports: need.Ports{First: uint16(first), Last: uint16(last)}, Service: service, Because: why, Close: closes})
	}
	port := func(name string) (int, string, bool) {
		text, because, line := p.get(name)
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			problem(line, true, "write a port", "%s is no port", because)
			return 0, because, false
		}
		return int(n), because, true
	}
	yes := func(name string) (bool, string) {
		text, because, line := p.get(name)
		if text != "Yes" && text != "No" {
			problem(line, true, "write Yes or No", "%s is neither Yes nor No", because)
		}
		return text == "Yes", because
	}
	open("udp", 68, 68, "DHCP client", "", "always")
	open("udp", 546, 546, "DHCPv6 client", "", "always")
	v.lines(p, open, port, yes)
	min, whyMin, ok1 := port("RTP_Port_Min")
	max, whyMax, ok2 := port("RTP_Port_Max")
	switch {
	case !ok1 || !ok2:
	case min > max || max == 65535:
		problem(0, true, "give a range whose end is below 65535", "%s, %s: that is no range of ports", whyMin, whyMax)
	default:
		open("udp", min, max+1, "RTP and RTCP", "", whyMin, whyMax)
		v.Open[len(v.Open)-1].Media = true
	}
	upgrade, whyUpgrade := yes("Upgrade_Enable")
	if share, why := yes("Peer_Firmware_Sharing"); share && upgrade {
		open("udp", 4051, 4051, "peer firmware sharing", "set Peer_Firmware_Sharing to No", whyUpgrade, why)
		open("tcp", 4051, 4051, "peer firmware sharing", "set Peer_Firmware_Sharing to No", whyUpgrade, why)
		open("tcp", 6970, 6970, "peer firmware sharing", "set Peer_Firmware_Sharing to No", whyUpgrade, why)
	}
	pages := paging.Of(p.set)
	for _, g := range pages.Heard() {
		open("udp", int(g.At.Port()), int(g.At.Port()), "multicast pages to "+g.At.Addr().String()+", in the clear", "set listen=no in "+paging.ScriptParameter, pages.From)
		v.Multicast = true
	}
	if acs, why := yes("Enable_TR-069"); acs {
		open("udp", 7999, 7999, "TR-069 STUN", "set Enable_TR-069 to No", why)
		open("tcp", 8000, 9999, "TR-069 connection requests", "set Enable_TR-069 to No", why)
		v.Open[len(v.Open)-1].One = true
	}
	if web, why := yes("Enable_Web_Server"); web {
		if n, whyPort, ok := port("Web_Server_Port"); ok {
			open("tcp", n, n, "web server", "set Enable_Web_Server to No", why, whyPort)
		}
	}
	tftp := true
	text, _, line := p.get("Firewall_Config")
	v.options(text, line, &tftp)
	if tftp {
		open("udp", 53240, 53245, "TFTP client, for servers at other ports than 69", "add NO_CISCO_TFTP to Firewall_Config", "Firewall_Config without NO_CISCO_TFTP")
	}
	slices.SortStableFunc(v.Open, func(a, b Open) int {
		return cmp.Or(strings.Compare(b.Transport, a.Transport), int(a.Ports.First)-int(b.Ports.First))
	})
	return v
}

// lines opens the SIP port of each line that speaks UDP, or may.
func (v *View) lines(p profile, open func(string, int, int, string, string, ...string), port func(string) (int, string, bool), yes func(string) (bool, string)) {
	for n := 1; n <= flatprofile.Lines; n++ {
		on, why := yes(fmt.Sprintf("Line_Enable_%d_", n))
		if !on {
			continue
		}
		transport, whyTransport, line := p.get(fmt.Sprintf("SIP_Transport_%d_", n))
		switch transport {
		case "UDP", "AUTO", "Auto":
			if at, whyPort, ok := port(fmt.Sprintf("SIP_Port_%d_", n)); ok {
				open("udp", at, at, fmt.Sprintf("SIP of line %d, in the clear", n), fmt.Sprintf("set SIP_Transport_%d_ to TLS", n), why, whyTransport, whyPort)
				v.Problems = append(v.Problems, Problem{Line: line, Text: fmt.Sprintf("%s: line %d signals in the clear", whyTransport, n), Fix: "set it to TLS"})
			}
		case "TCP", "TLS": // the phone opens the connection
		default:
			v.Problems = append(v.Problems, Problem{Line: line, Error: true, Text: whyTransport + " is none of UDP, TCP, TLS and Auto", Fix: "set it to TLS"})
		}
	}
}

// options reads the further options of the firewall (table 5).
func (v *View) options(text string, line int, tftp *bool) {
	if text == "" {
		return
	}
	count := map[string]int{}
	for _, word := range strings.Split(text, ",") {
		bad := func(fix, format string, args ...any) {
			v.Problems = append(v.Problems, Problem{Line: line, Error: true, Text: fmt.Sprintf("Firewall_Config: "+format, args...), Fix: fix})
		}
		trimmed := strings.TrimSpace(word)
		if trimmed != word {
			v.Problems = append(v.Problems, Problem{Line: line, Text: fmt.Sprintf("Firewall_Config: there is a blank around %.60q", trimmed), Fix: "separate options by commas alone"})
		}
		switch trimmed {
		case "NO_ICMP_PING":
			v.Ping = false
			continue
		case "NO_ICMP_UNREACHABLE":
			v.Unreachable = false
			continue
		case "NO_CISCO_TFTP":
			*tftp = false
			continue
		case "":
			bad("take the comma out", "there is nothing between two commas")
			continue
		}
		kind, ports, ok := strings.Cut(trimmed, ":")
		if !ok || kind != "UDP" && kind != "TCP" {
			fix := "there are NO_ICMP_PING, NO_ICMP_UNREACHABLE, NO_CISCO_TFTP, UDP:PORT, UDP:FIRST:LAST, TCP:PORT and TCP:FIRST:LAST"
			if up := strings.ToUpper(trimmed); up != trimmed && (strings.HasPrefix(up, "NO_") || strings.HasPrefix(up, "UDP:") || strings.HasPrefix(up, "TCP:")) {
				fix = "write it in capitals: " + up
			}
			bad(fix, "%.60q is no option", trimmed)
			continue
		}
		p, err := need.ParsePorts(strings.Replace(ports, ":", "-", 1))
		if err != nil || strings.Contains(ports, "-") {
			bad("write "+kind+":12000 or "+kind+":8000:8010", "%.60q has no ports", trimmed)
			continue
		}
		if count[kind]++; count[kind] > maxOptions {
			bad("join ranges, or take one out", "%.60q is the %dth option of %s, and there may be %d", trimmed, count[kind], kind, maxOptions)
			continue
		}
		v.Open = append(v.Open, Open{Transport: strings.ToLower(kind), Ports: p, Service: "opened by hand", Because: []string{"Firewall_Config: " + trimmed}, Close: "take " + trimmed + " out of Firewall_Config"})
	}
}
