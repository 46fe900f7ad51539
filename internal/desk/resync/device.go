package resync

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ringfence/internal/desk/flatprofile"
)

// Device is what a phone is, for the macros of its rules.
type Device struct {
	MAC     string // 12 hexadecimal digits
	Product string // e.g. CP-8841-3PCC
	Serial  string
	SWVer   string
	HWVer   string
	IP      netip.Addr
}

// circumstances are what macros stand for at one moment.
type circumstances struct {
	device    Device
	set       *flatprofile.Set
	installed bool // there is a certificate of the phone's own
	last      time.Time
	now       time.Time
	failed    bool
	at        *url.URL // the address in use, or nil
	server    netip.AddrPort
	via       string // the proxy, if the way is by one
	err       string
}

// value returns what a macro stands for, outside of brackets.
func (c *circumstances) value(name string) (string, bool) {
	mac := strings.ToLower(c.device.MAC)
	switch name {
	case "MA":
		return mac, true
	case "MAU":
		return strings.ToUpper(mac), true
	case "MAC":
		var parts []string
		for i := 0; i+2 <= len(mac); i += 2 {
			parts = append(parts, mac[i:i+2])
		}
		return strings.Join(parts, ":"), true
	case "PN":
		return c.device.Product, true
	case "PSN":
		return strings.TrimPrefix(c.device.Product, "CP-"), true
	case "SN":
		return c.device.Serial, true
	case "SWVER":
		return c.device.SWVer, true
	case "HWVER":
		return c.device.HWVer, true
	case "CCERT":
		if c.installed {
			return "Installed", true
		}
		return "Not Installed", true
	case "IP", "EXTIP":
		if ip := c.set.Text("EXT_IP"); name == "EXTIP" && ip != "" {
			return ip, true
		}
		return c.device.IP.String(), c.device.IP.IsValid()
	case "PRVST":
		switch {
		case c.last.IsZero():
			return "-1", true // no resync yet
		case c.failed:
			return "2", true
		}
		return "1", true
	case "PRVTMR":
		if c.last.IsZero() {
			return "0", true
		}
		return strconv.FormatInt(int64(c.now.Sub(c.last)/time.Second), 10), true
	case "UPGST", "UPGCOND", "UPGTMR", "REGTMR1", "REGTMR2":
		return "0", true
	case "UPGERR":
		return "", true
	case "ERR":
		return c.err, true
	case "SCHEME", "SERV", "SERVIP", "PORT", "PATH":
		if c.at == nil {
			return "", true
		}
		return c.part(name), true
	}
	letter, long := strings.CutPrefix(name, "GPP_")
	if len(letter) == 1 && letter[0] >= 'A' && letter[0] <= 'P' && (long || name == letter) {
		return c.set.Text("GPP_" + letter), true
	}
	return "", false
}

// by is where the server was asked: its address, or the proxy.
func (c *circumstances) by() string {
	if c.via != "" {
		return c.via
	}
	return c.server.String()
}

func (c *circumstances) part(name string) string {
	switch name {
	case "SCHEME":
		return c.at.Scheme
	case "SERV":
		return c.at.Hostname()
	case "SERVIP":
		if c.server.IsValid() {
			return c.server.Addr().String()
		}
		return c.at.Hostname()
	case "PORT":
		if p := c.at.Port(); p != "" {
			return p
		}
		return "443"
	}
	return c.at.EscapedPath()
}

// secret also knows the secrets, for what stands in brackets.
func (c *circumstances) secret(name string) (string, bool) {
	switch name {
	case "SA", "SB", "SC", "SD":
		return c.set.Text("GPP_" + name), true
	}
	return c.value(name)
}
