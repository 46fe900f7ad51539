package phoneports

import (
	"fmt"
	"strings"
	"testing"

	"ringfence/internal/desk/flatprofile"
)

func look(t *testing.T, text string) View {
	t.Helper()
	f, err := flatprofile.Parse([]byte("<flat-profile>" + text + "</flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "cfg.xml")
	return Look(set)
}

func (v View) String() string {
	var out []string
	for _, o := range v.Open {
		s := o.Transport + " " + o.Ports.String()
		if o.One {
			s += " one of"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// TestTables goes through tables 3, 4 and 5 of the document, parameter by parameter.
func TestTables(t *testing.T) {
	const always = "udp 68, udp 546, "
	for name, x := range map[string]struct{ cfg, want string }{
		"nothing is set":                  {"", always + "udp 4051, udp 5060, udp 16384-16539, udp 53240-53245, tcp 80, tcp 4051, tcp 6970"},
		"TLS":                             {`<SIP_Transport_1_ ua="na">TLS</SIP_Transport_1_>`, always + "udp 4051, udp 16384-16539, udp 53240-53245, tcp 80, tcp 4051, tcp 6970"},
		"two lines":                       {`<SIP_Transport_1_>TLS</SIP_Transport_1_><Line_Enable_2_>Yes</Line_Enable_2_><SIP_Transport_2_>Auto</SIP_Transport_2_><SIP_Port_2_>5070</SIP_Port_2_>`, always + "udp 4051, udp 5070, udp 16384-16539, udp 53240-53245, tcp 80, tcp 4051, tcp 6970"},
		"no sharing":                      {`<SIP_Transport_1_>TLS</SIP_Transport_1_><Peer_Firmware_Sharing>No</Peer_Firmware_Sharing><Enable_Web_Server>No</Enable_Web_Server>`, always + "udp 16384-16539, udp 53240-53245"},
		"TR-069":                          {`<SIP_Transport_1_>TLS</SIP_Transport_1_><Upgrade_Enable>No</Upgrade_Enable><Enable_TR-069>Yes</Enable_TR-069><Web_Server_Port>8080</Web_Server_Port>`, always + "udp 7999, udp 16384-16539, udp 53240-53245, tcp 8000-9999 one of, tcp 8080"},
		"the example":                     {`<SIP_Transport_1_>TLS</SIP_Transport_1_><Upgrade_Enable>No</Upgrade_Enable><Enable_Web_Server>No</Enable_Web_Server><Firewall_Config ua="na">NO_ICMP_PING,TCP:12000,UDP:8000:8010</Firewall_Config>`, always + "udp 8000-8010, udp 16384-16539, udp 53240-53245, tcp 12000"},
		"no TFTP":                         {`<SIP_Transport_1_>TCP</SIP_Transport_1_><Upgrade_Enable>No</Upgrade_Enable><Enable_Web_Server>No</Enable_Web_Server><Firewall_Config>NO_CISCO_TFTP</Firewall_Config><RTP_Port_Min>20000</RTP_Port_Min><RTP_Port_Max>20099</RTP_Port_Max>`, always + "udp 20000-20100"},
		"pages":                           {`<SIP_Transport_1_>TCP</SIP_Transport_1_><Proxy_1_>p.example.com</Proxy_1_><Upgrade_Enable>No</Upgrade_Enable><Enable_Web_Server>No</Enable_Web_Server><Group_Paging_Script>pggrp=239.1.2.3:34560;num=500;listen=yes;pggrp=239.1.2.3:34562;num=501;</Group_Paging_Script>`, always + "udp 16384-16539, udp 34560, udp 53240-53245"},
		"pages of a phone that is sealed": {`<SIP_Transport_1_>TLS</SIP_Transport_1_><Proxy_1_>p.example.com</Proxy_1_><Upgrade_Enable>No</Upgrade_Enable><Enable_Web_Server>No</Enable_Web_Server><Group_Paging_Script>pggrp=239.1.2.3:34560;num=500;listen=yes;</Group_Paging_Script>`, always + "udp 16384-16539, udp 53240-53245"},
		"the last counts":                 {`<SIP_Transport_1_>UDP</SIP_Transport_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><Upgrade_Enable>No</Upgrade_Enable><Enable_Web_Server>No</Enable_Web_Server>`, always + "udp 16384-16539, udp 53240-53245"},
	} {
		v := look(t, x.cfg)
		if got := v.String(); got != x.want || !v.Firewall {
			t.Errorf("%s: %s\nwant %s", name, got, x.want)
		}
	}
	if v := look(t, `<Firewall_Config>NO_ICMP_PING,NO_ICMP_UNREACHABLE</Firewall_Config>`); v.Ping || v.Unreachable {
		t.Errorf("%+v", v)
	}
	if v := look(t, `<Firewall>Disabled</Firewall>`); v.Firewall || len(v.Problems) != 1 || len(v.Open) != 0 {
		t.Errorf("%+v", v)
	}
}

// TestProblems names what does not do what it seems to.
func TestProblems(t *testing.T) {
	six := ""
	for i := range 6 {
		six += fmt.Sprintf(",UDP:%d", 8000+i)
	}
	for cfg, want := range map[string]string{
		"<Firewall>Yes</Firewall>":                                   "is neither",
		"<Firewall_Config>no_icmp_ping</Firewall_Config>":            "in capitals: NO_ICMP_PING",
		"<Firewall_Config>NO_PING</Firewall_Config>":                 `"NO_PING" is no option`,
		"<Firewall_Config>UDP:8010:8000</Firewall_Config>":           "has no ports",
		"<Firewall_Config>UDP:8000-8010</Firewall_Config>":           "UDP:8000:8010",
		"<Firewall_Config>UDP:0</Firewall_Config>":                   "has no ports",
		"<Firewall_Config>TCP:70000</Firewall_Config>":               "has no ports",
		"<Firewall_Config>NO_ICMP_PING,,TCP:1</Firewall_Config>":     "between two commas",
		"<Firewall_Config>NO_ICMP_PING" + six + "</Firewall_Config>": "is the 6th option of UDP",
		"<Firewall_Config>NO_ICMP_PING, TCP:1</Firewall_Config>":     "a blank around",
		"<RTP_Port_Min>30000</RTP_Port_Min>":                         "no range of ports",
		"<RTP_Port_Max>many</RTP_Port_Max>":                          "is no port",
		"<SIP_Transport_1_>SCTP</SIP_Transport_1_>":                  "none of UDP, TCP, TLS",
		"<Enable_Web_Server>예</Enable_Web_Server>":                   "neither Yes nor No",
		"<SIP_Transport_1_>UDP</SIP_Transport_1_>":                   "signals in the clear",
	} {
		v := look(t, "\n\n"+cfg)
		var all strings.Builder
		for _, p := range v.Problems {
			fmt.Fprintf(&all, "%d %s %s\n", p.Line, p.Text, p.Fix)
		}
		if !strings.Contains(all.String(), want) {
			t.Errorf("%s: %s, want %q", cfg, all.String(), want)
		}
		if !strings.Contains(want, "range of ports") && !strings.Contains(all.String(), "3 ") {
			t.Errorf("%s: no line in %s", cfg, all.String())
		}
	}
}

func FuzzLook(f *testing.F) {
	f.Add([]byte(`<?xml version="1.0" encoding="us-ascii"?><flat-profile><Firewall_Config ua="na">NO_ICMP_PING,TCP:12000,UDP:8000:8010</Firewall_Config><Enable_TR-069>Yes</Enable_TR-069></flat-profile>`))
	f.Add([]byte("<a/>"))
	known := flatprofile.Parameters()
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := flatprofile.Parse(b)
		if err != nil {
			return
		}
		set := flatprofile.NewSet(known)
		set.Add(p, "cfg.xml")
		for _, o := range Look(set).Open {
			if o.Ports.First == 0 || o.Ports.First > o.Ports.Last || len(o.Because) == 0 {
				t.Errorf("%+v", o)
			}
		}
	})
}
