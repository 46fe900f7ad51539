package line

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
)

// Transport is how a line signals.
type Transport string

// The transports. Auto is what DNS says, and this phone takes TLS then.
const (
	UDP  Transport = "UDP"
	TCP  Transport = "TCP"
	TLS  Transport = "TLS"
	Auto Transport = "Auto"
)

// Line is one line of the phone.
type Line struct {
	Number       int           `json:"line"`
	Transport    Transport     `json:"transport"`
	Clear        bool          `json:"in_the_clear"`   // it signals over UDP or TCP, since the profile says so
	Host         string        `json:"server"`         // where requests go: the outbound proxy if there is one, else the proxy
	Port         uint16        `json:"port,omitempty"` // 0: that of the transport
	ByDNS        bool          `json:"by_srv"`         // found by SRV records
	Then         []Server      `json:"then"`           // servers when that one is gone, in order
	FallBack     time.Duration `json:"-"`              // how soon the first server is tried again
	Domain       string        `json:"domain"`
	User         string        `json:"user"`
	AuthUser     string        `json:"auth_user"`
	Password     string        `json:"-"`
	OAuth        bool          `json:"signs_in"`              // by access tokens (RFC 8898), which take the place of the password
	SignIn       string        `json:"signs_in_at,omitempty"` // HOST:PORT
	Display      string        `json:"display,omitempty"`
	Expires      time.Duration `json:"-"`
	Register     bool          `json:"registers"`
	NameValidate bool          `json:"validates_name"`
	AuthInvite   bool          `json:"challenges_invite"`
	PageRealm    string        `json:"page_realm,omitempty"` // pages are challenged in it
	PagePassword string        `json:"-"`
	Orders       []string      `json:"orders"` // event packages by which the server makes the phone resync or start again
	AuthOrders   bool          `json:"challenges_orders"`
	Realm        string        `json:"realm,omitempty"`
	SHA256       bool          `json:"sha_256"`              // challenges offer it (RFC 8760); without, they offer MD5 alone
	Codecs       []string      `json:"codecs"`               // as SDP names them, the first one first
	ListAll      bool          `json:"answers_list_all"`     // answers list all codecs that both sides have
	OpusType     uint8         `json:"opus_payload_type"`    // the payload type of Opus in offers
	Suite        string        `json:"suite,omitempty"`      // of SRTP that is offered first; empty: the strongest
	MediaSec     string        `json:"mediasec,omitempty"`   // who begins to agree on sealed media: client or server; empty: nobody
	LocalPort    uint16        `json:"local_port,omitempty"` // of SIP over UDP
	Refused      error         `json:"-"`                    // why the line is not used
	Reason       string        `json:"refused,omitempty"`
	Warnings     []string      `json:"warnings"`
}

// Server is a server of the line after the first.
type Server struct {
	Parameter string        `json:"parameter"` // that names it
	Host      string        `json:"server"`
	Port      uint16        `json:"port,omitempty"`
	FallBack  time.Duration `json:"-"` // how soon it is left again
}

// Use is a parameter and what it did.
type Use struct {
	flatprofile.Value
	Did string `json:"did"`
}

// Plan is what the phone does with the parameters in force.
type Plan struct {
	Lines   []Line              `json:"lines"`
	Media   ringfence.PortRange `json:"media_ports"`
	Ciphers Ciphers             `json:"ciphers"`
	Used    []Use               `json:"-"`
}

type planner struct {
	set  *flatprofile.Set
	plan Plan
	seen map[string]bool
}

// did remembers what a parameter did, and returns its value.
func (p *planner) did(name, format string, args ...any) string {
	v := p.set.Get(name)
	if !p.seen[name] {
		p.seen[name] = true
		p.plan.Used = append(p.plan.Used, Use{v, fmt.Sprintf(format, args...)})
	}
	return v.Value
}

// Of works out what the phone does.
func Of(set *flatprofile.Set) Plan {
	p := &planner{set: set, seen: map[string]bool{}, plan: Plan{Lines: []Line{}, Ciphers: Suites(set)}}
	if v := set.Text(flatprofile.RestrictedDomains); v != "" {
		p.did(flatprofile.RestrictedDomains, "servers other than %s are refused", v)
	}
	if c := p.plan.Ciphers; c.Valid {
		p.did("TLS_Cipher_List", "every TLS application speaks %d suites; this phone %d of them", len(c.Applications[0].Suites), len(c.Served))
	} else {
		p.did("TLS_Cipher_List", "%s, so each TLS application speaks its own list", c.Why)
	}
	p.media()
	for n := 1; n <= flatprofile.Lines; n++ {
		p.line(n)
	}
	return p.plan
}

// media are the ports of voice: only those that the phone's firewall leaves open.
func (p *planner) media() {
	first, err1 := strconv.ParseUint(p.set.Text("RTP_Port_Min"), 10, 16)
	last, err2 := strconv.ParseUint(p.set.Text("RTP_Port_Max"), 10, 16)
	if err1 != nil || err2 != nil || first == 0 || first > last {
		first, last = 16384, 16538
		p.did("RTP_Port_Min", "no range of ports, so voice uses %d to %d", first, last)
		p.did("RTP_Port_Max", "no range of ports, so voice uses %d to %d", first, last)
	}
	p.did("RTP_Port_Min", "voice uses ports from %d on", first)
	p.did("RTP_Port_Max", "voice uses ports up to %d", last)
	p.plan.Media = ringfence.PortRange{First: uint16(first), Last: uint16(last)}
}

// line works out one line. A line without a user or a server is none.
func (p *planner) line(n int) {
	name := func(of string) string { return fmt.Sprintf("%s_%d_", of, n) }
	if p.set.Text(name("Proxy")) == "" && p.set.Text(name("User_ID")) == "" {
		return
	}
	if !p.set.Yes(name("Line_Enable")) {
		p.did(name("Line_Enable"), "line %d is not used", n)
		return
	}
	l := Line{Number: n, Warnings: []string{}, Then: []Server{}, Expires: time.Hour, Register: p.set.Yes(name("Register")), NameValidate: p.set.Yes(name("TLS_Name_Validate")), AuthInvite: p.set.Yes(name("Auth_INVITE")), ByDNS: p.set.Yes(name("Use_DNS_SRV"))}
	warn := func(format string, args ...any) { l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...)) }
	p.did(name("Line_Enable"), "line %d is used", n)
	p.transport(&l, name, warn)
	l.User = p.did(name("User_ID"), "the line is this user's")
	l.Display = p.set.Text(name("Display_Name"))
	if l.Display != "" {
		p.did(name("Display_Name"), "the name in From")
	}
	l.AuthUser = l.User
	if id := p.set.Text(name("Auth_ID")); id != "" && p.set.Yes(name("Use_Auth_ID")) {
		l.AuthUser = p.did(name("Auth_ID"), "the user name of digest")
		p.did(name("Use_Auth_ID"), "%s is used", name("Auth_ID"))
	}
	if l.Password = p.set.Text(name("Password")); l.Password != "" {
		p.did(name("Password"), "answers the challenges of the server")
	}
	p.oauth(&l, name, warn)
	if s, err := strconv.ParseUint(p.set.Text(name("Register_Expires")), 10, 31); err == nil && s > 0 {
		l.Expires = time.Duration(s) * time.Second
		p.did(name("Register_Expires"), "asks for a registration of %v", l.Expires)
	}
	p.did(name("Register"), "%s", map[bool]string{true: "the line registers", false: "the line does not register, and is not used"}[l.Register])
	if l.Transport == TLS || l.Transport == Auto {
		p.did(name("TLS_Name_Validate"), "%s", map[bool]string{true: "the server must prove its name", false: "any server with a certificate that is believed will do"}[l.NameValidate])
		if !l.NameValidate {
			warn("line %d: ANY server with a believed certificate is taken for %s: %s = No", n, p.set.Text(name("Proxy")), name("TLS_Name_Validate"))
		}
	}
	p.orders(&l, name, warn)
	if p.set.Yes(name("Auth_Page")) {
		l.PageRealm, l.PagePassword = p.set.Text(name("Auth_Page_Realm")), p.set.Text(name("Auth_Page_Password"))
		if l.PageRealm == "" || l.PagePassword == "" {
			l.Refused = fault("%s = Yes, and %s or %s is empty, so no page could be let in", name("Auth_Page"), name("Auth_Page_Realm"), name("Auth_Page_Password"))
		}
		p.did(name("Auth_Page"), "pages are challenged, and must come from who knows %s", name("Auth_Page_Password"))
	}
	l.Realm, l.SHA256 = p.set.Text(name("Reversed_Auth_Realm")), p.set.Yes("Auth_Support_RFC8760")
	if l.AuthInvite {
		p.did("Auth_Support_RFC8760", "%s", map[bool]string{true: "challenges offer SHA-256 before MD5", false: "challenges offer MD5 alone"}[l.SHA256])
		p.did(name("Auth_INVITE"), "the first INVITE is challenged, and must come from who knows the password")
	}
	p.mediaSec(&l, name)
	p.voice(&l, name, warn)
	p.server(&l, name, warn)
	if l.Refused != nil {
		l.Reason = l.Refused.Error()
	}
	p.plan.Lines = append(p.plan.Lines, l)
}

// oauth decides whether the line proves itself by access tokens, and who gives them.
func (p *planner) oauth(l *Line, name func(string) string, warn func(string, ...any)) {
	if l.OAuth = p.set.Yes(name("SIP_OAuth")); !l.OAuth {
		return
	}
	if l.Clear {
		p.did(name("SIP_OAuth"), "the line signals in the clear, where no access token may go (RFC 8898): it is not used")
		if l.Refused == nil {
			l.Refused = fault("%s = Yes, and the line signals over %s, where no access token may go", name("SIP_OAuth"), l.Transport)
		}
		return
	}
	host, _, err := hostPort(p.set.Text(name("Proxy")))
	l.SignIn = net.JoinHostPort(host, "8443")
	if text := p.set.Text(name("SIP_OAuth_Server")); text != "" {
		u, bad := url.Parse(text)
		if bad != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Path != "" && u.Path != "/" {
			err = fault("%s = %.60q is no place to sign in; write https://HOST or https://HOST:PORT", name("SIP_OAuth_Server"), text)
		} else if host = u.Hostname(); u.Port() != "" {
			l.SignIn = net.JoinHostPort(host, u.Port())
		} else {
			l.SignIn = net.JoinHostPort(host, "443")
		}
		p.did(name("SIP_OAuth_Server"), "signs in at %s", l.SignIn)
	}
	if err == nil && host != "" {
		err = p.set.Permit(host)
	}
	if err != nil && l.Refused == nil {
		l.Refused = err
	}
	p.did(name("SIP_OAuth"), "registers with access tokens that %s gives (RFC 8898)", l.SignIn)
	if l.Password != "" {
		warn("line %d: %s is not used, since the line signs in by access tokens: %s = Yes", l.Number, name("Password"), name("SIP_OAuth"))
		l.Password = ""
	}
}

// orders decides what the server can make the phone do by a NOTIFY, and whether it must know the line's password for that.
func (p *planner) orders(l *Line, name func(string) string, warn func(string, ...any)) {
	l.Orders, l.AuthOrders = []string{"restart_now", "reboot_now"}, p.set.Yes(name("Auth_Resync-Reboot"))
	if p.set.Yes("Resync_From_SIP") {
		l.Orders = append(l.Orders, "resync")
	}
	switch {
	case !l.AuthOrders:
		p.did(name("Auth_Resync-Reboot"), "a NOTIFY makes the phone resync or start again, whoever sends it")
		warn("line %d: whoever can send it a NOTIFY makes the phone start again: %s = No", l.Number, name("Auth_Resync-Reboot"))
	case l.Password == "":
		l.Orders = []string{} // nobody could answer the challenge
		p.did(name("Auth_Resync-Reboot"), "there is no password to challenge with, so no NOTIFY makes the phone resync")
	default:
		p.did(name("Auth_Resync-Reboot"), "who makes the phone resync or start again by a NOTIFY must know the line's password")
	}
}

// voice decides which codecs the line speaks, in which order, and which suite it offers first.
func (p *planner) voice(l *Line, name func(string) string, warn func(string, ...any)) {
	known := map[string]string{"G711u": "PCMU", "G711a": "PCMA", "G722": "G722", "OPUS": "opus"}
	enabled := func(codec string) bool { return p.set.Yes(name(codec + "_Enable")) }
	add := func(codec string) {
		if sdp, ok := known[codec]; ok && enabled(codec) && !slices.Contains(l.Codecs, sdp) {
			l.Codecs = append(l.Codecs, sdp)
		}
	}
	l.Codecs = []string{}
	for _, of := range []string{"Preferred_Codec", "Second_Preferred_Codec", "Third_Preferred_Codec"} {
		v := p.set.Get(name(of))
		if v.Value == "" || v.Value == "Unspecified" {
			continue
		}
		if _, ok := known[v.Value]; !ok {
			warn("line %d: this phone does not speak %.20s: %s (%s)", l.Number, v.Value, v.Name, v.Where())
			p.did(v.Name, "is passed over: this phone does not speak it")
			continue
		}
		add(v.Value)
		p.did(v.Name, "%s", map[bool]string{true: "is offered", false: "is switched off"}[slices.Contains(l.Codecs, known[v.Value])])
	}
	if p.set.Yes(name("Use_Pref_Codec_Only")) && len(l.Codecs) > 0 {
		l.Codecs = l.Codecs[:1]
		p.did(name("Use_Pref_Codec_Only"), "%s alone is offered", l.Codecs[0])
	} else {
		for _, codec := range []string{"G711u", "G711a", "G722", "OPUS"} {
			add(codec)
		}
	}
	if len(l.Codecs) == 0 {
		l.Codecs = []string{"PCMU", "PCMA", "G722", "opus"}
		warn("line %d: the profile leaves no codec that this phone speaks, so it offers all of its own", l.Number)
	}
	if v := p.set.Get(name("Codec_Negotiation")); v.Value == "List All" {
		l.ListAll = true
		p.did(v.Name, "answers list every codec that both sides have")
	}
	p.opusType(l, warn)
	if v := p.set.Get(name("Encryption_Method")); v.From != flatprofile.Default {
		l.Suite = map[string]string{"AES 128": "AES_CM_128_HMAC_SHA1_80", "AES 256": "AEAD_AES_256_GCM", "AES 256 GCM": "AEAD_AES_256_GCM"}[v.Value]
		if v.Value == "AES 256" {
			warn("line %d: this phone speaks AES 256 with GCM alone: %s (%s)", l.Number, v.Name, v.Where())
		}
		if l.Suite != "" {
			p.did(v.Name, "%s is offered first; the others behind it", l.Suite)
		}
	}
}

// opusType reads the payload type of Opus, which must be dynamic and not that of telephone-event here.
func (p *planner) opusType(l *Line, warn func(string, ...any)) {
	v := p.set.Get("OPUS_Dynamic_Payload")
	n, err := strconv.ParseUint(v.Value, 10, 8)
	if l.OpusType = uint8(n); err != nil || n < 96 || n > 127 || n == 101 || n == 110 {
		l.OpusType = 99
		warn("line %d: %.20q cannot be the payload type of Opus, so it is 99: %s (%s)", l.Number, v.Value, v.Name, v.Where())
		return
	}
	if v.From != flatprofile.Default {
		p.did(v.Name, "is the payload type of Opus in offers")
	}
}

// mediaSec decides who begins to agree on sealed media.
func (p *planner) mediaSec(l *Line, name func(string) string) {
	l.MediaSec = "server"
	if p.set.Yes(name("MediaSec_Request")) {
		l.MediaSec = "client"
	}
	if only := p.set.Yes(name("MediaSec_Over_TLS_Only")); only && l.Clear {
		l.MediaSec = ""
		p.did(name("MediaSec_Over_TLS_Only"), "the line signals in the clear, so nothing is agreed on sealed media")
		return
	} else if only {
		p.did(name("MediaSec_Over_TLS_Only"), "the line signals over TLS, so sealed media is agreed on")
	}
	p.did(name("MediaSec_Request"), "%s", map[string]string{"client": "the phone begins to agree on sealed media", "server": "agrees on sealed media if the server begins"}[l.MediaSec])
}

// transport decides how the line signals. What is no transport is the default of the phone, which is in the clear: nobody said that, so it is refused.
func (p *planner) transport(l *Line, name func(string) string, warn func(string, ...any)) {
	v := p.set.Get(name("SIP_Transport"))
	switch {
	case v.Value == "TLS":
		l.Transport = TLS
		p.did(v.Name, "signals over TLS")
	case strings.EqualFold(v.Value, "Auto"):
		l.Transport = Auto
		p.did(v.Name, "a phone signals as DNS says, and so perhaps in the clear; this one signals over TLS")
	case v.Value == "TCP" || v.Value == "UDP":
		l.Transport, l.Clear = Transport(v.Value), true
		because := v.Where()
		if v.From == flatprofile.Default {
			because = "the default, since the profile does not set it"
		}
		p.did(v.Name, "signals over %s, IN THE CLEAR", v.Value)
		warn("line %d signals IN THE CLEAR over %s, and the keys of its voice with it: %s = %s (%s)", l.Number, v.Value, v.Name, v.Value, because)
	default:
		p.did(v.Name, "is no transport: the line is not used")
		l.Refused = fault("%s = %.20q is none of UDP, TCP, TLS and Auto (%s)", v.Name, v.Value, v.Where())
	}
	if l.Transport == UDP {
		if port, err := strconv.ParseUint(p.set.Text(name("SIP_Port")), 10, 16); err == nil && port > 0 {
			l.LocalPort = uint16(port)
		}
		p.did(name("SIP_Port"), "SIP over UDP is heard at port %d", l.LocalPort)
	}
}

// server finds where the line's requests go, and whether it may have to do with it.
func (p *planner) server(l *Line, name func(string) string, warn func(string, ...any)) {
	refuse := func(err error) {
		if l.Refused == nil {
			l.Refused = err
		}
	}
	proxy := p.did(name("Proxy"), "the SIP server of the line")
	host, port, err := hostPort(proxy)
	if err != nil || l.User == "" {
		refuse(fault("line %d has no server and user: %s = %.60q, %s = %.60q", l.Number, name("Proxy"), proxy, name("User_ID"), l.User))
		return
	}
	l.Domain, l.Host, l.Port = host, host, port
	if err := p.set.Permit(host); err != nil {
		refuse(err)
	}
	if out := p.set.Text(name("Outbound_Proxy")); out != "" && p.set.Yes(name("Use_Outbound_Proxy")) {
		if l.Host, l.Port, err = hostPort(out); err != nil {
			refuse(fault("%s = %.60q is no server", name("Outbound_Proxy"), out))
			return
		}
		p.did(name("Outbound_Proxy"), "all requests go there first")
		p.did(name("Use_Outbound_Proxy"), "%s is used", name("Outbound_Proxy"))
		if err := p.set.Permit(l.Host); err != nil {
			refuse(err)
		}
	}
	p.others(l, name, warn)
	if l.ByDNS {
		p.did(name("Use_DNS_SRV"), "finds the server by SRV records")
		if l.Clear {
			warn("line %d: SRV records are used for TLS only; the server is found by its address", l.Number)
		}
	}
	if l.AuthInvite && l.Password == "" {
		refuse(fault("%s = Yes, and %s is empty, so no INVITE could be let in", name("Auth_INVITE"), name("Password")))
	}
	if l.Realm == "" {
		l.Realm = l.Domain
	}
	if !l.Register {
		refuse(fault("%s = No: the line does not register", name("Register")))
	}
}

// others are the servers that the line goes to when its first one is gone.
func (p *planner) others(l *Line, name func(string) string, warn func(string, ...any)) {
	for _, x := range [...]struct{ proxy, interval string }{{"Alternate_Proxy", "Proxy_Fallback_Intvl"}, {"Survivability_Proxy", "Survivability_Proxy_Fallback_Intvl"}} {
		of := x.proxy
		if of == "Alternate_Proxy" && p.set.Text(name("Alternate_Outbound_Proxy")) != "" && p.set.Yes(name("Use_Outbound_Proxy")) {
			of = "Alternate_Outbound_Proxy"
		}
		v := p.set.Get(name(of))
		if v.Value == "" {
			continue
		}
		host, port, err := hostPort(v.Value)
		if err == nil {
			err = p.set.Permit(host)
		}
		if err != nil {
			p.did(v.Name, "is not used: %v", err)
			warn("line %d: %s (%s) is not used: %v", l.Number, v.Name, v.Where(), err)
			continue
		}
		s := Server{Parameter: v.Name, Host: host, Port: port, FallBack: 30 * time.Second}
		if n, err := strconv.ParseUint(p.set.Text(name(x.interval)), 10, 16); err == nil && n > 0 {
			s.FallBack = time.Duration(n) * time.Second
		}
		p.did(v.Name, "registers there when the servers before it are gone, and looks for them again after %v", s.FallBack)
		l.Then = append(l.Then, s)
	}
	if len(l.Then) > 0 && p.set.Yes(name("Dual_Registration")) {
		p.did(name("Dual_Registration"), "this phone registers at one server at a time")
	}
}

// hostPort reads NAME, NAME:PORT, ADDRESS or [ADDRESS]:PORT.
func hostPort(s string) (host string, port uint16, err error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), 0, nil
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		host, text, err = s, "", nil
	}
	if text != "" {
		n, bad := strconv.ParseUint(text, 10, 16)
		if bad != nil || n == 0 {
			return "", 0, fault("%.20q is no port", text)
		}
		port = uint16(n)
	}
	if host == "" || strings.ContainsAny(host, " /@<>\"\r\n:;?") {
		return "", 0, fault("%.60q is no name of a server", s)
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")), port, nil
}

func fault(format string, args ...any) error {
	return &ringfence.Fault{Op: "line.plan", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...), Hint: "`ringfence phone lint` says what to write"}
}
