package tlspolicy

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ringfence/internal/trust/cipherlist"
)

// Settings are what may be set at a place of the tree. An empty field sets nothing.
type Settings struct {
	Min        string   `yaml:"min,omitempty" json:"min,omitempty"`                 // "1.2" or "1.3"
	Suites     string   `yaml:"suites,omitempty" json:"suites,omitempty"`           // for TLS 1.2: a cipher list of OpenSSL, or names of the IANA
	Groups     []string `yaml:"groups,omitempty" json:"groups,omitempty"`           // best first, by the names of the IANA
	ClientAuth string   `yaml:"client-auth,omitempty" json:"client_auth,omitempty"` // none, request or require
}

// Tree is the settings by place.
type Tree map[string]Settings

// Listener is what TLS is asked for: a class, such as sip, what it carries, and where it listens.
type Listener struct {
	Class     string // sip, sip-wss, sip-oauth or https
	Transport string // sip or https
	Addr      netip.AddrPort
	// ClientAuth is what is asked of a client where the tree says nothing.
	ClientAuth string
}

// Classes returns the classes of listeners.
func Classes() []string { return []string{"sip", "sip-wss", "sip-oauth", "https"} }

// transportOf returns what a class carries.
func transportOf(class string) string {
	if class == "https" {
		return "https"
	}
	return "sip"
}

// Listen returns the listener of a class. By default clients are asked for a certificate, except where all have a token.
func Listen(class string, at netip.AddrPort) Listener {
	l := Listener{Class: class, Transport: transportOf(class), Addr: at, ClientAuth: "request"}
	if class == "sip-oauth" {
		l.ClientAuth = "none"
	}
	return l
}

// places returns where settings for a listener can be, the least specific first.
func (l Listener) places() []string {
	return []string{"/system", "/system/transport/" + l.Transport, "/interface/" + l.Class, "/interface/" + l.Class + "/" + l.Addr.String()}
}

// Wrong is one thing that is wrong in a tree.
type Wrong struct{ Path, Text string }

// Check returns everything that is wrong, by place.
func (t Tree) Check() (wrong []Wrong) {
	for _, path := range slices.Sorted(maps.Keys(t)) {
		class, text := place(path)
		if text != "" {
			wrong = append(wrong, Wrong{path, text})
			continue
		}
		for _, text := range t[path].check(class) {
			wrong = append(wrong, Wrong{path, text})
		}
	}
	return wrong
}

// place reads a path, and returns the class that it is about, if it is about one.
func place(path string) (class, wrong string) {
	switch path {
	case "/system", "/system/transport/sip", "/system/transport/https":
		return "", ""
	}
	rest, ok := strings.CutPrefix(path, "/interface/")
	class, addr, deep := strings.Cut(rest, "/")
	if !ok || !slices.Contains(Classes(), class) {
		return "", "there is no such place; places are /system, /system/transport/sip or https, and /interface/CLASS or /interface/CLASS/ADDRESS:PORT, where CLASS is one of " + strings.Join(Classes(), ", ")
	}
	if deep {
		if _, err := netip.ParseAddrPort(addr); err != nil {
			return "", fmt.Sprintf("%.60q is no address with a port", addr)
		}
	}
	return class, ""
}

func (s Settings) check(class string) (wrong []string) {
	if s.Min != "" && s.Min != "1.2" && s.Min != "1.3" {
		wrong = append(wrong, fmt.Sprintf("min: %.20q cannot be set: TLS 1.2 is the floor, and 1.3 the latest", s.Min))
	}
	if s.Suites != "" {
		l, err := cipherlist.Parse(s.Suites)
		switch {
		case err != nil:
			wrong = append(wrong, "suites: "+err.Error())
		case len(l.Served()) == 0:
			wrong = append(wrong, "suites: nothing of the list can be served, because a suite needs forward secrecy and authenticated encryption; `ringfence tls ciphers` says why for each. For TLS 1.3 alone set min to 1.3")
		}
	}
	for _, g := range s.Groups {
		if _, ok := group(g); !ok {
			wrong = append(wrong, fmt.Sprintf("groups: %.40q is not known; there are %s", g, strings.Join(groupNames(), ", ")))
		}
	}
	switch s.ClientAuth {
	case "", "request":
	case "none", "require":
		if class == "https" {
			wrong = append(wrong, "client-auth: devices renew by their certificate at https and everybody else has none, so it stays request")
		}
	default:
		wrong = append(wrong, fmt.Sprintf("client-auth: %.20q is none of none, request and require", s.ClientAuth))
	}
	return wrong
}

func groupNames() []string {
	return []string{"X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "x25519", "secp256r1", "secp384r1", "secp521r1"}
}

func group(name string) (tls.CurveID, bool) {
	ids := []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	i := slices.Index(groupNames(), name)
	if i < 0 {
		return 0, false
	}
	return ids[i], true
}

// builtIn is what holds where nothing is set.
func builtIn(l Listener) Settings {
	return Settings{Min: "1.2", Suites: "ECDHE+AESGCM:ECDHE+CHACHA20:!PSK", Groups: []string{"X25519MLKEM768", "x25519", "secp256r1"}, ClientAuth: l.ClientAuth}
}

// Decision says where a setting comes from.
type Decision struct {
	Setting string   `json:"setting"`
	Value   string   `json:"value"`
	Place   string   `json:"place"`          // "built in" where nothing is set
	Over    []string `json:"over,omitempty"` // the less specific places whose value does not count, as PLACE: VALUE
}

// Effective is what a listener speaks.
type Effective struct {
	Listener  Listener   `json:"-"`
	Decisions []Decision `json:"decisions"`

	min    uint16
	suites []uint16
	groups []tls.CurveID
	auth   tls.ClientAuthType
}

// For returns what a listener speaks. The tree must have been checked.
func (t Tree) For(l Listener) Effective {
	e := Effective{Listener: l}
	base := builtIn(l)
	pick := func(name string, of func(Settings) string) string {
		d := Decision{Setting: name, Value: of(base), Place: "built in"}
		for _, place := range l.places() {
			if v := of(t[place]); v != "" {
				d.Over = append(d.Over, d.Place+": "+d.Value)
				d.Value, d.Place = v, place
			}
		}
		e.Decisions = append(e.Decisions, d)
		return d.Value
	}
	e.min = tls.VersionTLS12
	if pick("min", func(s Settings) string { return s.Min }) == "1.3" {
		e.min = tls.VersionTLS13
	}
	if list, err := cipherlist.Parse(pick("suites", func(s Settings) string { return s.Suites })); err == nil {
		e.suites = list.Served()
	}
	for g := range strings.FieldsSeq(pick("groups", func(s Settings) string { return strings.Join(s.Groups, " ") })) {
		if id, ok := group(g); ok {
			e.groups = append(e.groups, id)
		}
	}
	switch pick("client-auth", func(s Settings) string { return s.ClientAuth }) {
	case "none":
		e.auth = tls.NoClientCert
	case "require":
		e.auth = tls.RequireAndVerifyClientCert
	default:
		e.auth = tls.VerifyClientCertIfGiven
	}
	return e
}

// apply puts what was decided into a configuration.
func (e Effective) apply(c *tls.Config) {
	c.MinVersion, c.CipherSuites, c.CurvePreferences, c.ClientAuth = e.min, e.suites, e.groups, e.auth
}
