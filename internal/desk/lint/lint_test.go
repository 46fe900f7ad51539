package lint

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ringfence/internal/desk/flatprofile"
)

func judged(text string) Report { return File([]byte(text), flatprofile.Parameters()) }

// has reports whether a finding of this line, severity and parameter is there, with words in its text or fix.
func (r Report) has(line int, s Severity, parameter, words string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Line == line && f.Severity == s && f.Parameter == parameter && strings.Contains(f.Text+"; "+f.Fix, words)
	})
}

// TestFindings has one mistake a row, in line 2 of a file.
func TestFindings(t *testing.T) {
	for _, x := range []struct {
		cfg       string
		severity  Severity
		parameter string
		words     string
	}{
		{`<Auth_INVITE_1>Yes</Auth_INVITE_1_>`, Error, "Auth_INVITE_1_", "it begins as Auth_INVITE_1 and ends as Auth_INVITE_1_"},
		{`<TLS_Name_Validate_1_ua="na">Yes</TLS_Name_Validate_1_>`, Error, "TLS_Name_Validate_1_", `write <TLS_Name_Validate_1_ ua="na">`},
		{`<MediaSec_Over_TLS_Only_1_ua="na">No</MediaSec_Over_TLS_Only_1_>`, Error, "MediaSec_Over_TLS_Only_1_", "no blank before ua"},
		{`<SIP_Transprot_1_>TLS</SIP_Transprot_1_>`, Error, "SIP_Transprot_1_", "write SIP_Transport_1_"},
		{`<firewall>Enabled</firewall>`, Error, "firewall", "small and capital letters count"},
		{`<Zqxwv_Uuuu>1</Zqxwv_Uuuu>`, Warning, "Zqxwv_Uuuu", "the catalogue has no such parameter"},
		{`<Log_Resync_Failure_Msg>x</Log_Resync_Failure_Msg>`, Warning, "Log_Resync_Failure_Msg", "write Log_Failure_Msg"},
		{`<Firewall ua="yes">Enabled</Firewall>`, Error, "Firewall", `ua is "yes"`},
		{`<Firewall ua="rw">Enabled</Firewall>`, Danger, "Firewall", "whoever sits at the phone"},
		{`<Firewall group="a">Enabled</Firewall>`, Note, "Firewall", "no attribute group"},
		{`<Firewall>Disabled</Firewall>`, Danger, "Firewall", "write Enabled"},
		{`<Firewall>활성화</Firewall>`, Error, "Firewall", "write Enabled"},
		{`<LDAP_StartTLS_Enable ua="na">예</LDAP_StartTLS_Enable>`, Error, "LDAP_StartTLS_Enable", "write Yes"},
		{`<Enable_SSLv3>Yes</Enable_SSLv3>`, Danger, "Enable_SSLv3", "write No"},
		{`<TLS_Client_Min_Version>TLS 1.0</TLS_Client_Min_Version>`, Danger, "TLS_Client_Min_Version", "RFC 8996"},
		{`<VLAN_ID>5000</VLAN_ID>`, Error, "VLAN_ID", "from 0 to 4095"},
		{`<Web_Server_Port>0</Web_Server_Port>`, Error, "Web_Server_Port", "is no port"},
		{`<SIP_T1>half</SIP_T1>`, Error, "SIP_T1", "no time"},
		{`<DHCP_Option_To_Use>66,300</DHCP_Option_To_Use>`, Error, "DHCP_Option_To_Use", `"300" is no option`},
		{`<Restricted_Access_Domains>voip_.example.com, a b</Restricted_Access_Domains>`, Error, "Restricted_Access_Domains", `"a b" is no name`},
		{`<Syslog_Server>log.example.com:abc</Syslog_Server>`, Error, "Syslog_Server", "no port behind the colon"},
		{`<Proxy_1_>sip://pbx.example.com</Proxy_1_>`, Error, "Proxy_1_", "has a scheme"},
		{`<PAC_URL>proxy.example.com</PAC_URL>`, Error, "PAC_URL", "no such address"},
		{`<ACS_URL>http://acs.example.com/</ACS_URL>`, Danger, "ACS_URL", "in the clear"},
		{`<TLS_Cipher_List>RSA:!aNULL:!eNULL</TLS_Cipher_List>`, Warning, "TLS_Cipher_List", "forward secrecy"},
		{`<TLS_Cipher_List>ALL:eNULL</TLS_Cipher_List>`, Danger, "TLS_Cipher_List", "do not encrypt"},
		{`<TLS_Cipher_List>ALL</TLS_Cipher_List>`, Danger, "TLS_Cipher_List", "prove no name"},
		{`<TLS_Cipher_List>NOTHING</TLS_Cipher_List>`, Error, "TLS_Cipher_List", "each application of the phone then uses its own"},
		{`<TLS_Cipher_List>HIGH:@NONSENSE</TLS_Cipher_List>`, Error, "TLS_Cipher_List", "each application of the phone then uses its own"},
		{`<Firewall_Config>no_icmp_ping</Firewall_Config>`, Error, "Firewall_Config", "in capitals"},
		{`<Profile_Rule>http://prov.example.com/$MA.xml</Profile_Rule>`, Danger, "Profile_Rule", "serve it by https"},
		{`<Profile_Rule>/$PSN.xml</Profile_Rule>`, Danger, "Profile_Rule", "TFTP"},
		{`<Profile_Rule_B>[--key "mine"] https://p.example/</Profile_Rule_B>`, Danger, "Profile_Rule_B", "write $SA"},
		{`<Profile_Rule>https://p.example/$SA</Profile_Rule>`, Error, "Profile_Rule", "within brackets only"},
		{`<Profile_Rule>https://p.example/$QQ</Profile_Rule>`, Warning, "Profile_Rule", "no macro $QQ"},
		{`<Profile_Rule>a | b</Profile_Rule>`, Error, "Profile_Rule", "never taken"},
		{`<Profile_Rule>ftp://p.example/</Profile_Rule>`, Error, "Profile_Rule", "is no scheme"},
		{`<Resync_Trigger_1>now</Resync_Trigger_1>`, Error, "Resync_Trigger_1", "lt, le"},
		{`<Log_Request_Msg>$SERVER</Log_Request_Msg>`, Warning, "Log_Request_Msg", "no macro $SERVER"},
		{`<Station_Name>안내</Station_Name>`, Warning, "Station_Name", "ASCII"},
		{`<GPP_A><GPP_B>x</GPP_B></GPP_A>`, Error, "GPP_A", "a profile is flat"},
		{`<GPP_A><GPP_B>x</GPP_B></GPP_A>`, Error, "GPP_B", "in another parameter"},
		{`<GPP_A>x</GPP_A><GPP_A>y</GPP_A>`, Warning, "GPP_A", "also in line 2"},
		{`<SIP_Transport_1_>UDP</SIP_Transport_1_><Proxy_1_>pbx.example.com</Proxy_1_>`, Danger, "SIP_Transport_1_", "write TLS"},
		{`<Extended_Function_2_>fnc=blf+dance;sub=102</Extended_Function_2_>`, Error, "Extended_Function_2_", "no function \"dance\" for a key"},
		{`<Extended_Function_2_>fnc=prk;sub=701</Extended_Function_2_><Call_Park_Serv>No</Call_Park_Serv>`, Warning, "Extended_Function_2_", "Call_Park_Serv switches off"},
		{`<BLF_List_URI>lamps</BLF_List_URI><Attendant_Console_Call_Pickup_Code></Attendant_Console_Call_Pickup_Code>`, Warning, "BLF_List_URI", "Attendant_Console_Call_Pickup_Code is empty"},
		{`<Group_Paging_Script>pggrp=239.1.2.3:34560;num=500;listen=yes;</Group_Paging_Script>`, Danger, "Group_Paging_Script", "can make phones speak"},
		{`<Group_Paging_Script>pggrp=192.0.2.1:34560;num=500</Group_Paging_Script>`, Error, "Group_Paging_Script", "no multicast address"},
		{`<SIP_OAuth_1_>Yes</SIP_OAuth_1_>`, Note, "SIP_OAuth_1_", "a parameter of Ringfence"},
		{`<SIP_Transport_1_>auto</SIP_Transport_1_>`, Error, "SIP_Transport_1_", "write A"},
		{`<Proxy_1_>192.0.2.1</Proxy_1_><SIP_Transport_1_>TLS</SIP_Transport_1_>`, Warning, "Proxy_1_", "write the name"},
		{`<Proxy_1_>pbx.example.com</Proxy_1_>`, Warning, "User_ID_1_", "a server and no user"},
		{`<User_ID_1_>alice</User_ID_1_>`, Warning, "Proxy_1_", "a user and no server"},
		{`<User_ID_2_>alice</User_ID_2_>`, Note, "Line_Enable_2_", "not enabled"},
		{`<User_ID_1_>a</User_ID_1_><MediaSec_Over_TLS_Only_1_>Yes</MediaSec_Over_TLS_Only_1_>`, Warning, "MediaSec_Over_TLS_Only_1_", "does not signal over TLS"},
		{`<User_ID_1_>a</User_ID_1_><Auth_INVITE_1_>Yes</Auth_INVITE_1_>`, Error, "Auth_INVITE_1_", "no password"},
		{`<Proxy_1_>pbx.example.net:5061</Proxy_1_><Restricted_Access_Domains>example.com</Restricted_Access_Domains>`, Error, "Proxy_1_", "add pbx.example.net"},
		{`<Upgrade_Rule>https://fw.example.net/</Upgrade_Rule><Restricted_Access_Domains>example.com</Restricted_Access_Domains>`, Error, "Upgrade_Rule", "refuses fw.example.net"},
		{`<LDAP_Server>ldap://d.example.com</LDAP_Server>`, Danger, "LDAP_Server", "write ldaps://"},
		{`<LDAP_Server>ldap://d.example.com</LDAP_Server><LDAP_StartTLS_Enable>Yes</LDAP_StartTLS_Enable>`, Warning, "LDAP_StartTLS_Enable", "takes the offer out"},
		{`<LDAP_Server>ldap://d.example.com</LDAP_Server><LDAP_Auth_Method>Simple</LDAP_Auth_Method>`, Danger, "LDAP_Auth_Method", "in the clear"},
		{`<Proxy_Mode>Auto</Proxy_Mode><Use_Auto_Discovery__WPAD_>No</Use_Auto_Discovery__WPAD_>`, Error, "Proxy_Mode", "set PAC_URL"},
		{`<Proxy_Mode>Manual</Proxy_Mode><Proxy_Server_Requires_Authentication>Yes</Proxy_Server_Requires_Authentication>`, Error, "Proxy_Mode", "set Proxy_Password"},
		{`stray<GPP_A/>`, Warning, "", "text stands between"},
		{`<GPP_A>x`, Error, "", "was not looked at"},
	} {
		r := judged("<flat-profile>\n" + x.cfg + "</flat-profile>")
		if !r.has(2, x.severity, x.parameter, x.words) {
			t.Errorf("%s: no %s of %s with %q in %+v", x.cfg, x.severity, x.parameter, x.words, r.Findings)
		}
	}
	if r := judged("<flat-profile><RTP_Port_Min>30000</RTP_Port_Min><Proxy_1_>p.example.com</Proxy_1_><User_ID_1_>a</User_ID_1_></flat-profile>"); !r.has(0, Error, "RTP_Port_Max", "no range") || !r.has(0, Danger, "SIP_Transport_1_", "UDP unless it is") {
		t.Errorf("%+v", r.Findings)
	}
	if r := judged("<device/>"); !r.has(1, Error, "", "write <flat-profile>") {
		t.Errorf("%+v", r.Findings)
	}
}

// TestGood is a profile that nothing is wrong with.
func TestGood(t *testing.T) {
	r := judged(`<?xml version="1.0" encoding="US-ASCII"?>
<flat-profile>
<Restricted_Access_Domains ua="na">prov.example.com, pbx.example.com</Restricted_Access_Domains>
<Enable_Protocol ua="na">Https</Enable_Protocol>
<Profile_Rule ua="na">[--key "$SA"] https://prov.example.com/$MA.xml</Profile_Rule>
<GPP_SA ua="na">a long secret</GPP_SA>
<TLS_Cipher_List ua="na">ECDHE+AESGCM:!aNULL</TLS_Cipher_List>
<Firewall_Config ua="na">NO_ICMP_PING,TCP:12000,UDP:8000:8010</Firewall_Config>
<SIP_Transport_1_ ua="na">TLS</SIP_Transport_1_>
<Proxy_1_ ua="na">pbx.example.com:5061</Proxy_1_>
<User_ID_1_ ua="na">alice</User_ID_1_>
<Password_1_ ua="na">secret</Password_1_>
<Auth_INVITE_1_ ua="na">Yes</Auth_INVITE_1_>
<Resync_Trigger_1 ua="na">$PRVTMR ge 600</Resync_Trigger_1>
</flat-profile>`)
	if len(r.Findings) != 0 || r.Parameters != 12 || !r.Readable {
		t.Errorf("%+v", r)
	}
}

// TestHostile is bounded whatever a file has.
func TestHostile(t *testing.T) {
	var b strings.Builder
	b.WriteString("<flat-profile>")
	for i := range 19_000 {
		fmt.Fprintf(&b, "<Proxyy_Hosts%d>x</Proxyy_Hosts%d>", i, i)
	}
	b.WriteString("</flat-profile>")
	r := judged(b.String())
	if len(r.Findings) != maxFindings || r.More < 18_000 {
		t.Errorf("%d findings and %d more", len(r.Findings), r.More)
	}
	if r.Count(Error)+r.Count(Warning) != maxFindings {
		t.Errorf("%d errors", r.Count(Error))
	}
	if r := judged(strings.Repeat("a", flatprofile.MaxSize+1)); r.Readable || len(r.Findings) != 1 || r.Findings[0].Line != 1 {
		t.Errorf("%+v", r)
	}
}

func FuzzFile(f *testing.F) {
	for _, text := range []string{"<flat-profile>\n<Auth_INVITE_1>Yes</Auth_INVITE_1_>\n<TLS_Name_Validate_1_ua=\"na\">Yes</TLS_Name_Validate_1_></flat-profile>",
		`<flat-profile><Profile_Rule>($A eq 1)? [--key $SA] https://x/ | y</Profile_Rule><TLS_Cipher_List>ALL:@STRENGTH</TLS_Cipher_List><Firewall_Config>UDP:1:2,,</Firewall_Config></flat-profile>`} {
		f.Add([]byte(text))
	}
	known := flatprofile.Parameters()
	f.Fuzz(func(t *testing.T, b []byte) {
		r := File(b, known)
		_, err := flatprofile.Parse(b)
		if r.Readable != (err == nil) || !r.Readable && r.Count(Error) == 0 {
			t.Errorf("%+v %v", r, err)
		}
		for _, x := range r.Findings {
			if x.Text == "" || x.Fix == "" || x.Kind == "" || x.Line < 0 {
				t.Errorf("%+v", x)
			}
		}
	})
}
