package lint

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/linekey"
	"ringfence/internal/desk/paging"
	"ringfence/internal/desk/profilerule"
)

// paging judges pages by multicast, which are in the clear.
func (j *judge) paging() {
	v := j.set.Get(paging.ScriptParameter)
	if v.Value == "" || v.From == flatprofile.Default {
		return
	}
	groups, err := paging.Parse(v.Value)
	if err != nil {
		j.add(v.Line, Error, "ill-formed", v.Name, ringfence.HintOf(err), "%v", err)
		return
	}
	if len(groups) > 0 && j.set.Yes("Paging_Serv") {
		j.add(v.Line, Danger, "dangerous", v.Name, "take it out, or keep the phones in a network where nobody else is", "pages by multicast are neither sealed nor signed: whoever is on the network hears them, and can make phones speak")
	}
}

// keys judges what line keys do besides being lines.
func (j *judge) keys() {
	lists := j.set.Text("BLF_List_URI") != "" && !strings.Contains(j.set.Text("BLF_List_Feature_Options"), "prk")
	var picks, parks string
	if lists {
		picks = "BLF_List_URI"
	}
	for n := 1; n <= flatprofile.Keys; n++ {
		v := j.set.Get(fmt.Sprintf("Extended_Function_%d_", n))
		f, err := linekey.Parse(v.Value)
		if err != nil {
			j.add(v.Line, Error, "ill-formed", v.Name, ringfence.HintOf(err), "%v", err)
			continue
		}
		if f.PicksUp && picks == "" {
			picks = v.Name
		}
		if f.Parks && parks == "" {
			parks = v.Name
		}
	}
	for _, x := range [...]struct{ of, service, code string }{{picks, "Call_Pick_Up_Serv", "Attendant_Console_Call_Pickup_Code"}, {parks, "Call_Park_Serv", "Call_Park_Code"}, {parks, "Call_Park_Serv", "Call_Unpark_Code"}} {
		if x.of == "" {
			continue
		}
		if !j.set.Yes(x.service) {
			j.add(j.line(x.of), Warning, "contradiction", x.of, "set "+x.service+" to Yes", "the key does what %s switches off", x.service)
		} else if j.set.Text(x.code) == "" {
			j.add(j.line(x.of), Warning, "contradiction", x.of, "set "+x.code+" to what the server wants to have dialled", "%s is empty", x.code)
		}
	}
}

// lines judges each line that is in use.
func (j *judge) lines() {
	for n := 1; n <= flatprofile.Lines; n++ {
		name := func(of string) string { return fmt.Sprintf("%s_%d_", of, n) }
		proxy, user := j.set.Get(name("Proxy")), j.set.Get(name("User_ID"))
		if !j.set.Yes(name("Line_Enable")) || proxy.Value == "" && user.Value == "" {
			if proxy.Value != "" || user.Value != "" {
				j.add(max(proxy.Line, user.Line), Note, "contradiction", name("Line_Enable"), "set "+name("Line_Enable")+" to Yes", "the line is set up, and not enabled")
			}
			continue
		}
		transport := j.set.Get(name("SIP_Transport"))
		if p, _, _ := j.catalogue.Find(transport.Name); p.Danger[transport.Value] != "" {
			why := p.Danger[transport.Value]
			if transport.From == flatprofile.Default {
				why = "it is not set, and UDP unless it is: " + why
			}
			j.add(transport.Line, Danger, "dangerous", transport.Name, "write TLS", "%s", why)
		}
		if v := j.set.Get(name("MediaSec_Over_TLS_Only")); v.Value == "Yes" && transport.Value != "TLS" {
			j.add(v.Line, Warning, "contradiction", v.Name, "set "+transport.Name+" to TLS", "the line does not signal over TLS alone, so nothing is agreed on for its media")
		}
		host, _, _ := strings.Cut(proxy.Value, ":")
		if _, err := netip.ParseAddr(host); err == nil && transport.Value == "TLS" && j.set.Yes(name("TLS_Name_Validate")) {
			j.add(proxy.Line, Warning, "contradiction", proxy.Name, "write the name of the server", "the server is named by an address, which its certificate must then prove")
		}
		switch {
		case proxy.Value == "":
			j.add(user.Line, Warning, "contradiction", proxy.Name, "set "+proxy.Name, "the line has a user and no server")
		case user.Value == "":
			j.add(proxy.Line, Warning, "contradiction", user.Name, "set "+user.Name, "the line has a server and no user")
		}
		if v := j.set.Get(name("Auth_INVITE")); v.Value == "Yes" && j.set.Text(name("Password")) == "" {
			j.add(v.Line, Error, "contradiction", v.Name, "set "+name("Password"), "the first INVITE is challenged, and no password could answer")
		}
	}
}

// domains finds servers that Restricted_Access_Domains would refuse.
func (j *judge) domains() {
	check := func(name, host string) {
		if host == "" || strings.Contains(host, "$") {
			return
		}
		if j.set.Permit(host) != nil {
			j.add(j.line(name), Error, "contradiction", name, "add "+host+" to Restricted_Access_Domains", "the phone refuses %s: Restricted_Access_Domains does not list it", host)
		}
	}
	for _, v := range j.set.Changed() {
		p, n, ok := j.catalogue.Find(v.Name)
		switch {
		case !ok || v.Value == "":
		case n > 0 && (strings.HasPrefix(v.Name, "Proxy_") || strings.HasPrefix(v.Name, "Outbound_Proxy_")) && p.Type == flatprofile.HostPort:
			host, _, _ := strings.Cut(v.Value, ":")
			check(v.Name, host)
		case p.Type == flatprofile.Rule:
			rule, err := profilerule.Parse(v.Value)
			if err != nil {
				continue
			}
			for _, a := range rule.Alternatives {
				if u, err := url.Parse(a.URL); err == nil {
					check(v.Name, u.Hostname())
				}
			}
		}
	}
}

// directory judges how the LDAP directory is reached.
func (j *judge) directory() {
	server, tls, method := j.set.Get("LDAP_Server"), j.set.Get("LDAP_StartTLS_Enable"), j.set.Get("LDAP_Auth_Method")
	if !strings.HasPrefix(server.Value, "ldap://") {
		return
	}
	switch {
	case tls.Value == "Yes":
		j.add(tls.Line, Warning, "dangerous", tls.Name, "write ldaps:// in LDAP_Server", "a server that offers no StartTLS, or somebody who takes the offer out, is spoken to in the clear")
	case method.Value == "Simple":
		j.add(method.Line, Danger, "dangerous", method.Name, "write ldaps:// in LDAP_Server", "the directory's password is sent in the clear")
	default:
		j.add(server.Line, Danger, "dangerous", server.Name, "write ldaps://", "the directory is asked in the clear")
	}
}

// proxy judges whether the HTTP proxy has what its mode needs.
func (j *judge) proxy() {
	mode := j.set.Get("Proxy_Mode")
	lacks := func(name, why string) {
		if j.set.Text(name) == "" {
			j.add(mode.Line, Error, "contradiction", "Proxy_Mode", "set "+name, "%s", why)
		}
	}
	switch {
	case mode.Value == "Auto" && !j.set.Yes("Use_Auto_Discovery__WPAD_"):
		lacks("PAC_URL", "the proxy is to be found by a PAC file, without WPAD, and PAC_URL does not say where it is")
	case mode.Value == "Manual":
		lacks("Proxy_Host", "the proxy is set by hand, and Proxy_Host does not name it")
		if j.set.Yes("Proxy_Server_Requires_Authentication") {
			lacks("Proxy_Username", "the proxy asks who it is, and Proxy_Username is empty")
			lacks("Proxy_Password", "the proxy asks who it is, and Proxy_Password is empty")
		}
	}
}
