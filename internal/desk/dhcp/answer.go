package dhcp

import (
	"fmt"
	"net/netip"
	"time"

	"ringfence"
)

// Family is one of the two protocols.
type Family string

// The families.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// Kind says what an answer is.
type Kind string

// The kinds of answers.
const (
	Offered     Kind = "offer"       // an address that may be asked for
	Leased      Kind = "lease"       // an address that the phone has
	Information Kind = "information" // options alone, for a phone that has an address
)

// Forever is the lifetime of a lease that does not end.
const Forever = time.Duration(1<<63 - 1)

// Option is one option of an answer, in words.
type Option struct {
	Code    uint16 `json:"option"`
	Name    string `json:"name"`
	Value   string `json:"value,omitempty"`
	Problem string `json:"problem,omitempty"` // why it is passed over
}

// ACS is what an answer says of the auto-configuration server (TR-069, section 3.1).
type ACS struct {
	URL              string `json:"url"`
	ProvisioningCode string `json:"provisioning_code,omitempty"`
	RetryWait        string `json:"retry_minimum_wait,omitempty"`
	RetryMultiplier  string `json:"retry_multiplier,omitempty"`
	Option           uint16 `json:"option"`
}

// Answer is what a server said.
type Answer struct {
	Family     Family         `json:"family"`
	Kind       Kind           `json:"kind"`
	Server     netip.Addr     `json:"server"` // whom the answer names, or who sent it
	At         time.Time      `json:"at"`
	Address    netip.Prefix   `json:"address,omitzero"`
	Lifetime   time.Duration  `json:"-"` // Forever: it does not end
	Preferred  time.Duration  `json:"-"`
	Renew      time.Duration  `json:"-"` // T1
	Rebind     time.Duration  `json:"-"` // T2
	Routers    []netip.Addr   `json:"routers,omitempty"`
	DNS        []netip.Addr   `json:"dns,omitempty"`
	Domains    []string       `json:"domains,omitempty"`
	NTP        []string       `json:"ntp,omitempty"`
	TimeOffset *time.Duration `json:"-"`
	Class      string         `json:"vendor_class,omitempty"`
	ACS        *ACS           `json:"acs,omitempty"`
	WPAD       string         `json:"wpad,omitempty"` // where the file is that names the web proxy (option 252)
	Options    []Option       `json:"options"`

	id     []byte            // of the server: a DUID, or the address of option 54
	places map[uint16]string // option: where it says the profile is
	pref   int               // preference of a DHCPv6 server
}

func bad(format string, args ...any) error {
	return &ringfence.Fault{Op: "dhcp.parse", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...)}
}

// seconds reads a time of 32 bits.
func seconds(n uint32) time.Duration {
	if n == 1<<32-1 {
		return Forever
	}
	return time.Duration(n) * time.Second
}

// times puts T1 and T2 right: what a server leaves out, or gets wrong, is half and seven eighths of the lease (RFC 2131 section 4.4.5).
func (a *Answer) times(life, t1, t2 time.Duration) {
	a.Lifetime, a.Renew, a.Rebind = life, t1, t2
	if life == Forever {
		a.Renew, a.Rebind = Forever, Forever
		return
	}
	if a.Rebind <= 0 || a.Rebind >= life {
		a.Rebind = life / 8 * 7
	}
	if a.Renew <= 0 || a.Renew >= a.Rebind {
		a.Renew = min(life/2, a.Rebind)
	}
}

// usable reports whether an address can be one of a host.
func usable(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsLoopback() && !(a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240))
}
