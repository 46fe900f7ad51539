package flatprofile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/testkit"
)

// TestCatalogue checks that the catalogue says what each parameter is, and that what it says of names and values is there.
func TestCatalogue(t *testing.T) {
	c, err := readCatalogue(catalogue)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.All()); n < 550 {
		t.Errorf("only %d parameters", n)
	}
	kinds := []Type{YesNo, OneOf, Int, Port, Seconds, Text, URL, Hosts, HostPort, Numbers, Ciphers, Firewall, Rule, Condition, Macros}
	for _, p := range c.All() {
		switch {
		case p.Does == "" || p.Tab == "" || p.Section == "" || !slices.Contains([]string{"na", "ro", "rw"}, p.UA) || !slices.Contains(kinds, p.Type):
			t.Errorf("%+v", p)
		case p.Type == YesNo && p.Known && p.Default != "Yes" && p.Default != "No":
			t.Errorf("%s is %q unless it is set", p.Name, p.Default)
		case p.Type == OneOf && p.Known && !slices.Contains(p.Options, p.Default):
			t.Errorf("%s is %q unless it is set, which is none of %q", p.Name, p.Default, p.Options)
		case p.Now != "" && c.byName[p.Now].Name == "":
			t.Errorf("%s is now %s, which is not there", p.Name, p.Now)
		}
		for value, why := range p.Danger {
			if why == "" || p.Type == OneOf && !slices.Contains(p.Options, value) || p.Type == YesNo && value != "Yes" && value != "No" {
				t.Errorf("%s: danger %q %q", p.Name, value, why)
			}
		}
	}
	// Every parameter of the published chapter, with its default.
	for name, want := range map[string]string{
		"Restricted_Access_Domains": "", "DHCP_Option_To_Use": "66,160,159,150,60,43,125", "DHCPv6_Option_To_Use": "17,160,159", "Auth_INVITE_3_": "No", "SIP_Transport_16_": "UDP",
		"LDAP_Server": "", "LDAP_StartTLS_Enable": "No", "LDAP_Auth_Method": "None", "Syslog_Server": "", "Log_Failure_Msg": "$PN $MAC -- Resync failed: $ERR", "Firewall": "Enabled", "Firewall_Config": "",
		"TLS_Cipher_List": "", "TLS_Name_Validate_2_": "Yes", "MediaSec_Request_1_": "No", "MediaSec_Over_TLS_Only_1_": "No", "Enable_802.1X_Authentication": "No", "Proxy_Mode": "Off", "Use_Auto_Discovery__WPAD_": "Yes",
		"PAC_URL": "", "Proxy_Host": "", "Proxy_Port": "3128", "Proxy_Server_Requires_Authentication": "No", "Proxy_Username": "", "Proxy_Password": "", "VPN_Server": "", "VPN_User_Name": "",
		"VPN_Password": "", "VPN_Tunnel_Group": "", "Connect_on_Bootup": "No", "Line_Enable_1_": "Yes", "Line_Enable_2_": "No", "SIP_Port_4_": "5063", "RTP_Port_Min": "16384", "RTP_Port_Max": "16538",
		"Log_Request_Msg": "$PN $MAC -- Requesting resync $SCHEME://$SERVIP:$PORT$PATH",
	} {
		if p, _, ok := c.Find(name); !ok || p.Default != want || !p.Known {
			t.Errorf("%s: %v, %q (%v)", name, ok, p.Default, p.Known)
		}
	}
	for _, name := range []string{"SIP_Transport_n_", "SIP_Transport_0_", "SIP_Transport_17_", "SIP_Transport_01_", "SIP_Transport_1", "sip_transport_1_", "_1_", "_", ""} {
		if _, _, ok := c.Find(name); ok {
			t.Errorf("%q was found", name)
		}
	}
	if p, n, ok := c.Find("SIP_TOS_DiffServ_Value_3_"); !ok || n != 3 || p.Now != "SIP_TOS_Value_3_" {
		t.Errorf("%+v", p)
	}
	for _, broken := range []string{"A | b", "A | b | c | int 5 |  | na | d", "A | b | c | yesno | No | na | d | odd", "A | b | c | text |  | na | d\nA | b | c | text |  | na | d"} {
		if _, err := readCatalogue(broken); err == nil {
			t.Errorf("%q was taken", broken)
		}
	}
}

func TestNearest(t *testing.T) {
	c := Parameters()
	for name, want := range map[string]string{
		"SIP_Transprot_1_": "SIP_Transport_1_", "sip_transport_2_": "SIP_Transport_2_", "SIP_Transport_1": "SIP_Transport_1_", "TLS_Chiper_List": "TLS_Cipher_List", "Restricted_Access_Domain": "Restricted_Access_Domains",
		"Use_Auto_Discovery_(WPAD)": "Use_Auto_Discovery__WPAD_", "Use_Auto_Discovery_WPAD_": "Use_Auto_Discovery__WPAD_", "Auth_INVITE1_": "Auth_INVITE_1_", "Something_Else_Entirely": "", "GPP": "", "Frwall": "Firewall",
	} {
		if got := c.Nearest(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestParse reads what a phone reads.
func TestParse(t *testing.T) {
	f, err := Parse([]byte("<?xml version=\"1.0\" encoding=\"us-ascii\"?>\n<!-- <a> -->\n<flat-profile>\n<Firewall ua=\"na\">\n Ena\n bled </Firewall>\n<GPP_A ua='rw' group='x'>a &amp; <![CDATA[<b>]]></GPP_A>\n<GPP_B/>stray\n<GPP_A>two  blanks</GPP_A>\n</flat-profile>\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Element{{Name: "Firewall", Value: "Ena  bled", UA: "na", Line: 4, Depth: 2}, {Name: "GPP_A", Value: "a & <b>", UA: "rw", Line: 7, Depth: 2, Other: []string{"group"}},
		{Name: "GPP_B", Line: 8, Depth: 2}, {Name: "GPP_A", Value: "two  blanks", Line: 9, Depth: 2}}
	if fmt.Sprint(f.Elements) != fmt.Sprint(want) || f.Root != Root || f.RootLine != 3 || !slices.Equal(f.Stray, []int{9}) {
		t.Errorf("%+v\n%+v", f, want)
	}
	set := NewSet(Parameters())
	set.Add(f, "cfg.xml")
	if v := set.Get("GPP_A"); v.Value != "two  blanks" || v.Line != 9 || v.UA != "rw" || v.From != "cfg.xml" {
		t.Errorf("%+v", v)
	}
	old, err := Parse([]byte("<flat-profile><Log_Resync_Request_Msg>old</Log_Resync_Request_Msg><SIP_TOS_DiffServ_Value_2_>0x60</SIP_TOS_DiffServ_Value_2_><Password_1_>x</Password_1_><Register_1_>ja</Register_1_></flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set.Add(old, "old.xml")
	if set.Text("Log_Request_Msg") != "old" || set.Text("SIP_TOS_Value_2_") != "0x60" || set.Text("SIP_TOS_Value_1_") != "0x68" || !set.Get("Password_1_").Secret || !set.Yes("Register_1_") {
		t.Errorf("%+v", set.Changed())
	}
	if copied := set.Clone(); len(copied.Changed()) != len(set.Changed()) {
		t.Error("a copy has another number of parameters")
	}
}

// TestPermit refuses servers that are not listed, with the place of the list.
func TestPermit(t *testing.T) {
	f, err := Parse([]byte("<flat-profile>\n<Restricted_Access_Domains>voiceip.com, PBX.example.com</Restricted_Access_Domains></flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := NewSet(Parameters())
	if err := set.Permit("anything.example.net"); err != nil {
		t.Error(err)
	}
	set.Add(f, "cfg.xml")
	for host, ok := range map[string]bool{"voiceip.com": true, "pbx.example.com.": true, "a.voiceip.com": false, "evilvoiceip.com": false, "": false, "example.com": false} {
		err := set.Permit(host)
		if (err == nil) != ok || err != nil && (ringfence.KindOf(err) != ringfence.KindDenied || !strings.Contains(err.Error(), "Restricted_Access_Domains (cfg.xml:2)")) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestNoProfile(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "no XML": "Firewall=Enabled", "half": "<flat-profile><Firewall>", "another end": "<a><b></a></b>", "a document type": "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", "an entity": "<a>&b;</a>",
		"no blank before ua": `<flat-profile><TLS_Name_Validate_1_ua="na">Yes</TLS_Name_Validate_1_></flat-profile>`, "too deep": strings.Repeat("<a>", 20), "too long": strings.Repeat(" ", MaxSize+1), "too many": "<a>" + strings.Repeat("<b/>", maxElements+1) + "</a>",
		"two roots": "<a/><b/>", "a long name": "<a><" + strings.Repeat("b", 200) + "/></a>", "UTF-16": "<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>",
		"nested entities": `<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]><l>&c;</l>`} {
		if _, err := Parse([]byte(text)); ringfence.KindOf(err) != ringfence.KindInvalid || err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// samples are the three that the published chapter prints malformed.
const samples = "<flat-profile>\n<Auth_INVITE_1>Yes</Auth_INVITE_1_>\n<TLS_Name_Validate_1_ua=\"na\">Yes</TLS_Name_Validate_1_>\n<MediaSec_Over_TLS_Only_1_ua=\"na\">No</MediaSec_Over_TLS_Only_1_>\n</flat-profile>\n"

// TestMend repairs the three, and what else is often wrong; xmllint judges before and after.
func TestMend(t *testing.T) {
	xmllint := testkit.Need(t, "/usr/bin/xmllint", "libxml2-utils")
	well := func(b []byte) bool {
		file := filepath.Join(t.TempDir(), "cfg.xml")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(xmllint, "--noout", "--nonet", file).Run() == nil
	}
	for name, x := range map[string]struct {
		text string
		want []string
	}{
		"the samples": {samples, []string{"2 Auth_INVITE_1_", "3 TLS_Name_Validate_1_", "4 MediaSec_Over_TLS_Only_1_"}},
		"quotes":      {"<flat-profile>\n<Firewall ua=”na“>Enabled</Firewall></flat-profile>", []string{"2 "}},
		"ampersand":   {"<flat-profile>\n\n<GPP_A>a & b</GPP_A><GPP_B>&amp; &#38;</GPP_B></flat-profile>", []string{"3 "}},
		"an end":      {"<flat-profile><GPP_A ua=\"na\">x</GPP_B></flat-profile>", []string{"1 GPP_A"}},
	} {
		out, repairs := Mend([]byte(x.text))
		var got []string
		for _, r := range repairs {
			got = append(got, fmt.Sprintf("%d %s", r.Line, r.Name))
			if r.Text == "" || r.Fix == "" {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%s: %q", name, got)
		}
		if well([]byte(x.text)) || !well(out) {
			t.Errorf("%s: xmllint does not agree:\n%s", name, out)
		}
		if f, err := Parse(out); err != nil || len(f.Elements) == 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	whole := "<flat-profile>\n<!-- <a_ua=\"na\"> & -->\n<!--\n & <A>x</B>\n-->\n<Firewall ua=\"na\">Enabled</Firewall>\n</flat-profile>\n"
	if out, repairs := Mend([]byte(whole)); string(out) != whole || len(repairs) != 0 {
		t.Errorf("%+v\n%s", repairs, out)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(samples))
	f.Add([]byte(`<?xml version="1.0" encoding="us-ascii"?><flat-profile><Firewall_Config ua="na">NO_ICMP_PING,TCP:12000,UDP:8000:8010</Firewall_Config><Enable_TR-069>Yes</Enable_TR-069></flat-profile>`))
	f.Add([]byte(`<!DOCTYPE l [<!ENTITY a "ha">]><l>&a;</l>`))
	f.Add([]byte("<a><!-- --><b ua='rw'><c/></b>&amp;</a>"))
	known := Parameters()
	f.Fuzz(func(t *testing.T, b []byte) {
		mended, repairs := Mend(b)
		if strings.Count(string(mended), "\n") != strings.Count(string(b), "\n") {
			t.Errorf("lines were lost")
		}
		for _, r := range repairs {
			if r.Line < 1 || r.Fix == "" {
				t.Errorf("%+v", r)
			}
		}
		file, err := Parse(b)
		if err != nil {
			return
		}
		set := NewSet(known)
		set.Add(file, "cfg.xml")
		for _, v := range set.Changed() {
			if v.Line < 1 || strings.ContainsAny(v.Value, "\r\n") {
				t.Errorf("%+v", v)
			}
			known.Nearest(v.Name)
		}
	})
}

// TestCoverage looks for each parameter that docs/desk-phone-coverage.md names.
func TestCoverage(t *testing.T) {
	b, err := os.ReadFile("../../../docs/desk-phone-coverage.md")
	if err != nil {
		t.Fatal(err)
	}
	c, named := Parameters(), map[string]bool{}
	for _, m := range regexp.MustCompile("`([A-Z][A-Za-z0-9.-]*_[A-Za-z0-9_.-]*)`").FindAllStringSubmatch(string(b), -1) {
		named[m[1]] = true
		if _, _, ok := c.Find(m[1]); !ok && m[1] != "NO_ICMP_PING" && m[1] != "NO_ICMP_UNREACHABLE" && m[1] != "NO_CISCO_TFTP" { // those are options of one
			t.Errorf("there is no parameter %s", m[1])
		}
	}
	if len(named) < 28 {
		t.Errorf("only %d are named: %v", len(named), named)
	}
}
