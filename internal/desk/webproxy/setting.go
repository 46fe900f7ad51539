package webproxy

import (
	"fmt"
	"strconv"
	"strings"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/network/proxy"
	"ringfence/internal/network/wpad"
)

// Application is something that a phone uses the web for.
type Application string

// The applications that go by the proxy.
const (
	Onboarding   Application = "onboarding by activation code (GDS)"
	Activation   Application = "device activation (EDOS)"
	Cloud        Application = "onboarding to the Webex cloud"
	Certificates Application = "certificate authentication"
	Provisioning Application = "provisioning"
	Upgrade      Application = "firmware upgrade"
	Report       Application = "status report"
	Problem      Application = "problem report"
	XSI          Application = "XSI services"
	Webex        Application = "Webex services"
)

// Applications returns all that go by the proxy. Nothing else does.
func Applications() []Application {
	return []Application{Onboarding, Activation, Cloud, Certificates, Provisioning, Upgrade, Report, Problem, XSI, Webex}
}

// Mode is how the proxy is found.
type Mode string

// The modes.
const (
	Off    Mode = "Off"
	Manual Mode = "Manual"
	Auto   Mode = "Auto"
)

// Setting is what the profile says of the proxy.
type Setting struct {
	Mode     Mode   `json:"mode"`
	From     string `json:"from"`           // where Proxy_Mode came from
	Host     string `json:"host,omitempty"` // Manual: HOST:PORT
	SignsIn  bool   `json:"signs_in"`
	User     string `json:"user,omitempty"`
	Password string `json:"-"`
	WPAD     bool   `json:"wpad"`          // Auto: the file is found by DHCP and DNS
	PAC      string `json:"pac,omitempty"` // Auto: where the file is
}

func fault(kind ringfence.Kind, hint, format string, args ...any) error {
	return &ringfence.Fault{Op: "webproxy", Kind: kind, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Of reads the parameters. An error says which of them cannot be followed; the phone has no way to the web then.
func Of(set *flatprofile.Set) (Setting, error) {
	mode := set.Get("Proxy_Mode")
	s := Setting{Mode: Mode(mode.Value), From: mode.Where()}
	const hint = "`ringfence phone lint` says what to write"
	switch s.Mode {
	case Off, "":
		s.Mode = Off
	case Manual:
		host, port := set.Text("Proxy_Host"), set.Get("Proxy_Port")
		if n, err := strconv.ParseUint(port.Value, 10, 16); err != nil || n == 0 {
			return s, fault(ringfence.KindInvalid, hint, "Proxy_Port = %.20q (%s) is no port", port.Value, port.Where())
		}
		if strings.Contains(host, ":") { // an address of IPv6, or a scheme that has no place here
			host = "[" + strings.Trim(host, "[]") + "]"
		}
		s.Host = host + ":" + port.Value
		if err := proxy.Target(s.Host); err != nil {
			v := set.Get("Proxy_Host")
			return s, fault(ringfence.KindInvalid, "write its name or address, without http://", "Proxy_Mode is Manual, and Proxy_Host = %.60q (%s) is no host", v.Value, v.Where())
		}
		if s.SignsIn = set.Yes("Proxy_Server_Requires_Authentication"); s.SignsIn {
			s.User, s.Password = set.Text("Proxy_Username"), set.Text("Proxy_Password")
			if s.User == "" || s.Password == "" {
				return s, fault(ringfence.KindInvalid, hint, "the proxy wants to know who asks, and there is no Proxy_Username or no Proxy_Password")
			}
		}
	case Auto:
		if s.WPAD = set.Yes("Use_Auto_Discovery__WPAD_"); s.WPAD {
			return s, nil
		}
		v := set.Get("PAC_URL")
		s.PAC = v.Value
		switch {
		case s.PAC == "":
			return s, fault(ringfence.KindInvalid, hint, "Proxy_Mode is Auto without WPAD, and there is no PAC_URL")
		case strings.HasPrefix(strings.ToLower(s.PAC), "tftp:"):
			return s, fault(ringfence.KindInsecure, "serve the file by https", "PAC_URL (%s) leads to TFTP, which this phone does not speak", v.Where())
		}
		if _, err := wpad.ParseURL(s.PAC); err != nil {
			return s, fault(ringfence.KindInvalid, hint, "PAC_URL = %.80q (%s) is no address of a file", s.PAC, v.Where())
		}
	default:
		return s, fault(ringfence.KindInvalid, hint, "Proxy_Mode = %.20q (%s) is none of Off, Manual and Auto", mode.Value, s.From)
	}
	return s, nil
}
