package line

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
)

func with(t *testing.T, text string) *flatprofile.Set {
	t.Helper()
	f, err := flatprofile.Parse([]byte("<flat-profile>" + text + "</flat-profile>"))
	if err != nil {
		t.Fatal(err)
	}
	set := flatprofile.NewSet(flatprofile.Parameters())
	set.Add(f, "cfg.xml")
	return set
}

const base = "<Proxy_1_>pbx.example.com</Proxy_1_><User_ID_1_>alice</User_ID_1_><Password_1_>secret</Password_1_>"
const tokens = "<Proxy_1_>p.example.com:5090</Proxy_1_><User_ID_1_>a</User_ID_1_><Password_1_>s</Password_1_><SIP_Transport_1_>TLS</SIP_Transport_1_><SIP_OAuth_1_>Yes</SIP_OAuth_1_>"

// TestLines goes through what a line can be.
func TestLines(t *testing.T) {
	for _, x := range []struct {
		cfg     string
		check   func(l Line) bool
		warning string // one of the warnings
		refused string
	}{
		{base + "<SIP_Transport_1_>TLS</SIP_Transport_1_>", func(l Line) bool {
			return l.Transport == TLS && !l.Clear && l.Host == "pbx.example.com" && l.Domain == "pbx.example.com" && l.Port == 0 && l.NameValidate && !l.AuthInvite && l.Register && l.Expires == time.Hour && len(l.Warnings) == 0 && l.AuthUser == "alice"
		}, "", ""},
		{base, func(l Line) bool { return l.Transport == UDP && l.Clear && l.LocalPort == 5060 }, "IN THE CLEAR over UDP, and the keys of its voice with it: SIP_Transport_1_ = UDP (the default", ""},
		{base + "<SIP_Transport_1_>TCP</SIP_Transport_1_>", func(l Line) bool { return l.Transport == TCP && l.Clear && l.LocalPort == 0 }, "(cfg.xml:1)", ""},
		{base + "<SIP_Transport_1_>Auto</SIP_Transport_1_>", func(l Line) bool { return l.Transport == Auto && !l.Clear }, "", ""},
		{base + "<SIP_Transport_1_>SCTP</SIP_Transport_1_>", func(l Line) bool { return l.Refused != nil }, "", "none of UDP, TCP, TLS"},
		{base + "<SIP_Transport_1_>TLS</SIP_Transport_1_><TLS_Name_Validate_1_>No</TLS_Name_Validate_1_>", func(l Line) bool { return !l.NameValidate }, "ANY server with a believed certificate", ""},
		{base + "<SIP_Transport_1_>TLS</SIP_Transport_1_><Outbound_Proxy_1_>edge.example.com:5071</Outbound_Proxy_1_><Use_Outbound_Proxy_1_>Yes</Use_Outbound_Proxy_1_>", func(l Line) bool {
			return l.Host == "edge.example.com" && l.Port == 5071 && l.Domain == "pbx.example.com"
		}, "", ""},
		{base + "<Restricted_Access_Domains>other.example.com</Restricted_Access_Domains>", func(l Line) bool { return ringfence.KindOf(l.Refused) == ringfence.KindDenied }, "", "pbx.example.com is refused: Restricted_Access_Domains (cfg.xml:1)"},
		{base + "<Restricted_Access_Domains>pbx.example.com</Restricted_Access_Domains><Outbound_Proxy_1_>edge.example.com</Outbound_Proxy_1_><Use_Outbound_Proxy_1_>Yes</Use_Outbound_Proxy_1_>", func(l Line) bool { return true }, "", "edge.example.com is refused"},
		{base + "<Auth_INVITE_1_>Yes</Auth_INVITE_1_><Auth_ID_1_>id</Auth_ID_1_><Use_Auth_ID_1_>Yes</Use_Auth_ID_1_>", func(l Line) bool { return l.AuthInvite && l.Realm == "pbx.example.com" && l.AuthUser == "id" }, "", ""},
		{"<Proxy_1_>p.example.com</Proxy_1_><User_ID_1_>a</User_ID_1_><Auth_INVITE_1_>Yes</Auth_INVITE_1_>", func(l Line) bool { return true }, "", "no INVITE could be let in"},
		{base + "<SIP_Transport_1_>TLS</SIP_Transport_1_><Alternate_Proxy_1_>two.example.com:5071</Alternate_Proxy_1_><Survivability_Proxy_1_>192.0.2.7</Survivability_Proxy_1_>", func(l Line) bool {
			return len(l.Then) == 2 && l.Then[0] == Server{"Alternate_Proxy_1_", "two.example.com", 5071, time.Hour} && l.Then[1] == Server{"Survivability_Proxy_1_", "192.0.2.7", 0, 30 * time.Second}
		}, "", ""},
		{base + "<SIP_Transport_1_>TLS</SIP_Transport_1_><Restricted_Access_Domains>pbx.example.com</Restricted_Access_Domains><Alternate_Proxy_1_>two.example.com</Alternate_Proxy_1_>", func(l Line) bool { return len(l.Then) == 0 && l.Refused == nil }, "Alternate_Proxy_1_ (cfg.xml:1) is not used", ""},
		{base + "<SIP_Transport_1_>TLS</SIP_Transport_1_><MediaSec_Request_1_>Yes</MediaSec_Request_1_><MediaSec_Over_TLS_Only_1_>Yes</MediaSec_Over_TLS_Only_1_>", func(l Line) bool { return l.MediaSec == "client" }, "", ""},
		{base + "<SIP_Transport_1_>TCP</SIP_Transport_1_><MediaSec_Request_1_>Yes</MediaSec_Request_1_><MediaSec_Over_TLS_Only_1_>Yes</MediaSec_Over_TLS_Only_1_>", func(l Line) bool { return l.MediaSec == "" }, "", ""},
		{base + "<SIP_Transport_1_>TCP</SIP_Transport_1_>", func(l Line) bool { return l.MediaSec == "server" }, "", ""},
		{base, func(l Line) bool {
			return slices.Equal(l.Codecs, []string{"PCMU", "PCMA", "G722", "opus"}) && l.OpusType == 99 && l.Suite == ""
		}, "", ""},
		{base + "<Preferred_Codec_1_>G722</Preferred_Codec_1_><Second_Preferred_Codec_1_>G711a</Second_Preferred_Codec_1_><G711u_Enable_1_>No</G711u_Enable_1_><Encryption_Method_1_>AES 256 GCM</Encryption_Method_1_>", func(l Line) bool {
			return slices.Equal(l.Codecs, []string{"G722", "PCMA", "opus"}) && l.Suite == "AEAD_AES_256_GCM"
		}, "", ""},
		{base + "<Preferred_Codec_1_>G711a</Preferred_Codec_1_><Use_Pref_Codec_Only_1_>Yes</Use_Pref_Codec_Only_1_>", func(l Line) bool { return slices.Equal(l.Codecs, []string{"PCMA"}) }, "", ""},
		{base + "<Preferred_Codec_1_>OPUS</Preferred_Codec_1_><OPUS_Dynamic_Payload>120</OPUS_Dynamic_Payload>", func(l Line) bool {
			return slices.Equal(l.Codecs, []string{"opus", "PCMU", "PCMA", "G722"}) && l.OpusType == 120 && len(l.Warnings) == 1
		}, "", ""},
		{base + "<Preferred_Codec_1_>OPUS</Preferred_Codec_1_><OPUS_Enable_1_>No</OPUS_Enable_1_>", func(l Line) bool { return slices.Equal(l.Codecs, []string{"PCMU", "PCMA", "G722"}) }, "", ""},
		{base + "<Codec_Negotiation_1_>List All</Codec_Negotiation_1_>", func(l Line) bool { return l.ListAll }, "", ""},
		{base + "<OPUS_Dynamic_Payload>101</OPUS_Dynamic_Payload>", func(l Line) bool { return l.OpusType == 99 }, `"101" cannot be the payload type of Opus, so it is 99: OPUS_Dynamic_Payload (cfg.xml:1)`, ""},
		{base + "<Preferred_Codec_1_>iLBC</Preferred_Codec_1_>", func(l Line) bool { return len(l.Codecs) == 4 }, "this phone does not speak iLBC: Preferred_Codec_1_ (cfg.xml:1)", ""},
		{base + "<G711u_Enable_1_>No</G711u_Enable_1_><G711a_Enable_1_>No</G711a_Enable_1_><G722_Enable_1_>No</G722_Enable_1_><OPUS_Enable_1_>No</OPUS_Enable_1_>", func(l Line) bool { return len(l.Codecs) == 4 }, "leaves no codec", ""},
		{base, func(l Line) bool {
			return slices.Equal(l.Orders, []string{"restart_now", "reboot_now", "resync"}) && l.AuthOrders
		}, "", ""},
		{base + "<Resync_From_SIP>No</Resync_From_SIP><Auth_Resync-Reboot_1_>No</Auth_Resync-Reboot_1_>", func(l Line) bool {
			return slices.Equal(l.Orders, []string{"restart_now", "reboot_now"}) && !l.AuthOrders
		}, "whoever can send it a NOTIFY", ""},
		{"<Proxy_1_>p.example.com</Proxy_1_><User_ID_1_>a</User_ID_1_>", func(l Line) bool { return len(l.Orders) == 0 }, "", ""},
		{base + "<Auth_Page_1_>Yes</Auth_Page_1_><Auth_Page_Realm_1_>pages</Auth_Page_Realm_1_><Auth_Page_Password_1_>s</Auth_Page_Password_1_>", func(l Line) bool { return l.PageRealm == "pages" && l.PagePassword == "s" }, "", ""},
		{base + "<Auth_Page_1_>Yes</Auth_Page_1_>", func(l Line) bool { return true }, "", "no page could be let in"},
		{tokens, func(l Line) bool {
			return l.OAuth && l.SignIn == "p.example.com:8443" && l.Password == "" && len(l.Orders) == 0
		}, "Password_1_ is not used", ""},
		{tokens + "<SIP_OAuth_Server_1_>https://id.example.com</SIP_OAuth_Server_1_>", func(l Line) bool { return l.SignIn == "id.example.com:443" }, "", ""},
		{tokens + "<SIP_OAuth_Server_1_>http://id.example.com</SIP_OAuth_Server_1_>", func(l Line) bool { return true }, "", "is no place to sign in"},
		{tokens + "<SIP_OAuth_Server_1_>https://id.example.com/x?y</SIP_OAuth_Server_1_>", func(l Line) bool { return true }, "", "is no place to sign in"},
		{tokens + "<SIP_OAuth_Server_1_>https://id.example.com</SIP_OAuth_Server_1_><Restricted_Access_Domains>p.example.com</Restricted_Access_Domains>", func(l Line) bool { return true }, "", "id.example.com is refused"},
		{tokens + "<SIP_Transport_1_>UDP</SIP_Transport_1_>", func(l Line) bool { return l.Clear }, "", "where no access token may go"},
		{tokens + "<Auth_INVITE_1_>Yes</Auth_INVITE_1_>", func(l Line) bool { return true }, "", "no INVITE could be let in"},
		{"<Proxy_1_>p.example.com</Proxy_1_>", func(l Line) bool { return true }, "", "no server and user"},
		{"<Proxy_1_>p.example.com:x</Proxy_1_><User_ID_1_>a</User_ID_1_>", func(l Line) bool { return true }, "", "no server and user"},
		{base + "<Register_1_>No</Register_1_>", func(l Line) bool { return !l.Register }, "", "does not register"},
		{"<Proxy_1_>192.0.2.1:5080</Proxy_1_><User_ID_1_>a</User_ID_1_><Register_Expires_1_>600</Register_Expires_1_>", func(l Line) bool { return l.Host == "192.0.2.1" && l.Port == 5080 && l.Expires == 10*time.Minute }, "", ""},
	} {
		p := Of(with(t, x.cfg))
		if len(p.Lines) != 1 {
			t.Errorf("%s: %+v", x.cfg, p.Lines)
			continue
		}
		l := p.Lines[0]
		if !x.check(l) || x.warning != "" && !slices.ContainsFunc(l.Warnings, func(w string) bool { return strings.Contains(w, x.warning) }) || (l.Refused != nil) != (x.refused != "") || !strings.Contains(l.Reason, x.refused) {
			t.Errorf("%s: %+v", x.cfg, l)
		}
	}
	p := Of(with(t, base+"<User_ID_2_>b</User_ID_2_><Proxy_3_>c.example.com</Proxy_3_><User_ID_3_>c</User_ID_3_><Line_Enable_3_>Yes</Line_Enable_3_><RTP_Port_Min>30000</RTP_Port_Min>"))
	if len(p.Lines) != 2 || p.Lines[1].Number != 3 || p.Lines[1].LocalPort != 5062 || p.Media != (ringfence.PortRange{First: 16384, Last: 16538}) {
		t.Errorf("%+v", p)
	}
	for _, want := range []string{"Line_Enable_2_ line 2 is not used", "SIP_Transport_1_ signals over UDP, IN THE CLEAR", "Password_1_ answers the challenges of the server", "RTP_Port_Min no range"} {
		if !slices.ContainsFunc(p.Used, func(u Use) bool { return strings.HasPrefix(u.Name+" "+u.Did, want) }) {
			t.Errorf("nothing says %q", want)
		}
	}
}

// TestSuites has a list for each application, and the own ones where the parameter does not count.
func TestSuites(t *testing.T) {
	for _, list := range []string{"", "NOTHING", "HIGH:@NONSENSE"} {
		c := Suites(with(t, "<TLS_Cipher_List>"+list+"</TLS_Cipher_List>"))
		if c.Valid || len(c.Applications) != 18 || (list != "") != (len(c.Warnings) > 0) {
			t.Errorf("%q: %+v", list, c.Warnings)
			continue
		}
		if web := c.Applications[0]; !slices.Equal(web.Suites, []string{"ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256", "AES256-SHA", "AES128-SHA", "DES-CBC3-SHA"}) || web.From != "its own list" {
			t.Errorf("%+v", web)
		}
		if sip := c.Applications[13]; sip.Name != "SIP over TLS" || len(sip.Suites) != 27 {
			t.Errorf("%s has %d suites", sip.Name, len(sip.Suites))
		}
		if !slices.Contains(c.Served, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) || slices.Contains(c.Served, tls.TLS_RSA_WITH_AES_128_CBC_SHA) {
			t.Errorf("%x", c.Served)
		}
	}
	c := Suites(with(t, "<TLS_Cipher_List>ECDHE-RSA-AES128-GCM-SHA256</TLS_Cipher_List>"))
	conf := &tls.Config{}
	if c.Apply(conf); !c.Valid || !slices.Equal(conf.CipherSuites, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}) || len(c.Warnings) != 0 || len(c.Applications[1].Suites) != 1 {
		t.Errorf("%+v", c)
	}
	c = Suites(with(t, "<TLS_Cipher_List>RSA:!aNULL:!eNULL</TLS_Cipher_List>"))
	if c.Apply(conf); conf.MinVersion != tls.VersionTLS13 || !strings.Contains(strings.Join(c.Warnings, "\n"), "TLS 1.3 alone is left") || !strings.Contains(strings.Join(c.Warnings, "\n"), "forward secrecy") {
		t.Errorf("%+v", c.Warnings)
	}
}

// FuzzOf plans whatever a file sets.
func FuzzOf(f *testing.F) {
	f.Add("pbx.example.com:5060", "alice", "Auto", "HIGH", "a,b")
	f.Add("[2001:db8::1]:5061", "a@b", "TLS", "", "")
	known := flatprofile.Parameters()
	f.Fuzz(func(t *testing.T, proxy, user, transport, ciphers, domains string) {
		set := flatprofile.NewSet(known)
		for name, value := range map[string]string{"Proxy_1_": proxy, "User_ID_1_": user, "SIP_Transport_1_": transport, "TLS_Cipher_List": ciphers, "Restricted_Access_Domains": domains} {
			set.Put(flatprofile.Value{Name: name, Value: value, From: "fuzz"})
		}
		for _, l := range Of(set).Lines {
			if l.Refused == nil && (l.Host == "" || l.User == "" || l.Clear != (l.Transport == UDP || l.Transport == TCP) || l.Clear && len(l.Warnings) == 0) {
				t.Errorf("%+v", l)
			}
		}
	})
}
