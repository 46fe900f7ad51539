package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ringfence"
)

// Mode is how phones of a profile speak.
type Mode string

// The modes of phones.
const (
	Encrypted Mode = "encrypted"  // TLS and SRTP, always
	NonSecure Mode = "non-secure" // the same, and in the clear for as long as a named exception of the phone is in force
)

// Cluster is the security mode of the whole.
type Cluster string

// The modes of a cluster.
const (
	Mixed  Cluster = "mixed"     // everything is sealed; a phone may have an exception by name and with an end
	Sealed Cluster = "encrypted" // everything is sealed, and there are no exceptions
)

// Phone is a phone security profile.
type Phone struct {
	Name string `yaml:"name" json:"name"`
	Mode Mode   `yaml:"mode" json:"mode"`
	// Auth are the ways in which phones of this profile may prove themselves; empty: all that there are.
	Auth []ringfence.Auth `yaml:"auth,omitempty" json:"auth,omitempty"`
}

// Transport is how a trunk carries SIP in one direction.
type Transport string

// The transports of trunks.
const (
	TLS Transport = "tls"
	Off Transport = "off" // nothing goes in that direction
)

// Request is a kind of request that a trunk may be allowed to make beyond calls.
type Request string

// The requests.
const (
	Replaces Request = "replaces" // an INVITE that takes the place of another (RFC 3891)
	Refer    Request = "refer"    // a REFER that has us call somebody else (RFC 3515)
)

// Trunk is a trunk security profile.
type Trunk struct {
	Name     string    `yaml:"name" json:"name"`
	Incoming Transport `yaml:"incoming,omitempty" json:"incoming"` // empty: tls
	Outgoing Transport `yaml:"outgoing,omitempty" json:"outgoing"` // empty: tls
	// Subjects are the names of which the certificate of the other side must carry one: as its common name or as any alternative name, where a host name means a SIP
	// domain (RFC 5922). Empty: the host of the trunk.
	Subjects []string `yaml:"subjects,omitempty" json:"subjects,omitempty"`
	// Anchors are the aliases of whom such a certificate may come from; empty: this organisation's own authority.
	Anchors []string `yaml:"anchors,omitempty" json:"anchors,omitempty"`
	// Accept is what the other side may ask for besides calls; everything else is refused by 403.
	Accept []Request `yaml:"accept,omitempty" json:"accept,omitempty"`
}

// Security is the part of a configuration that this room is about.
type Security struct {
	Mode   Cluster `yaml:"mode,omitempty" json:"mode"` // empty: mixed
	Phones []Phone `yaml:"phones,omitempty" json:"phones,omitempty"`
	Trunks []Trunk `yaml:"trunks,omitempty" json:"trunks,omitempty"`
}

// Wrong is one thing that is wrong, by the key below security.
type Wrong struct{ Key, Text string }

// builtIn are the profiles that are there without anybody's adding them.
func builtIn() Security {
	return Security{
		Phones: []Phone{{Name: string(Encrypted), Mode: Encrypted}, {Name: string(NonSecure), Mode: NonSecure}},
		Trunks: []Trunk{{Name: "encrypted", Incoming: TLS, Outgoing: TLS}},
	}
}

// All returns the profiles with those that are built in, and every default filled in.
func (s Security) All() Security {
	b := builtIn()
	out := Security{Mode: s.Mode, Phones: append(b.Phones, s.Phones...), Trunks: append(b.Trunks, s.Trunks...)}
	if out.Mode == "" {
		out.Mode = Mixed
	}
	for i, t := range out.Trunks {
		if t.Incoming == "" {
			out.Trunks[i].Incoming = TLS
		}
		if t.Outgoing == "" {
			out.Trunks[i].Outgoing = TLS
		}
	}
	return out
}

// Phone returns a phone profile by its name.
func (s Security) Phone(name string) (Phone, bool) {
	all := s.All().Phones
	i := slices.IndexFunc(all, func(p Phone) bool { return p.Name == name })
	if i < 0 {
		return Phone{}, false
	}
	return all[i], true
}

// Trunk returns a trunk profile by its name; empty means the one that is built in.
func (s Security) Trunk(name string) (Trunk, bool) {
	all := s.All().Trunks
	if name == "" {
		return all[0], true
	}
	i := slices.IndexFunc(all, func(t Trunk) bool { return t.Name == name })
	if i < 0 {
		return Trunk{}, false
	}
	return all[i], true
}

// Named returns the aliases of anchors that profiles of trunks name, and which of them does; those that are there without anybody's adding them are left out.
func (s Security) Named() map[string]string {
	out := map[string]string{}
	for i, t := range s.Trunks {
		for _, alias := range t.Anchors {
			if alias != "own" && alias != "host" && out[alias] == "" {
				out[alias] = fmt.Sprintf("security.trunks[%d]", i)
			}
		}
	}
	return out
}

// MayBeExcepted says whether a phone may have an exception: by the mode of the cluster, and by its profile if it has one. An error says why not.
func (s Security) MayBeExcepted(phone string) error {
	if s.Mode == Sealed {
		return denied("the cluster is encrypted: nobody may speak in the clear", "exceptions need security.mode: mixed")
	}
	if phone == "" {
		return nil
	}
	p, ok := s.Phone(phone)
	if !ok {
		return denied("its security profile "+phone+" is not there any more", "give it another one: ringfence device profile DEVICE PROFILE")
	}
	if p.Mode != NonSecure {
		return denied("its security profile "+phone+" is "+string(p.Mode), "give it one whose mode is non-secure first: ringfence device profile DEVICE non-secure")
	}
	return nil
}

// MayProve says whether a phone may prove itself in a way: an error says why not.
func (s Security) MayProve(phone string, by ringfence.Auth) error {
	if phone == "" {
		return nil
	}
	p, ok := s.Phone(phone)
	if !ok {
		return denied("its security profile "+phone+" is not there any more", "give it another one: ringfence device profile DEVICE PROFILE")
	}
	if len(p.Auth) > 0 && !slices.Contains(p.Auth, by) {
		return denied("its security profile "+phone+" does not allow "+string(by), "give it another profile, or credentials of another kind")
	}
	return nil
}

func denied(text, hint string) error {
	return &ringfence.Fault{Op: "profile", Kind: ringfence.KindDenied, Text: text, Hint: hint}
}

// Check returns everything that is wrong.
func (s Security) Check() (wrong []Wrong) {
	bad := func(when bool, key, format string, args ...any) {
		if when {
			wrong = append(wrong, Wrong{key, fmt.Sprintf(format, args...)})
		}
	}
	word := regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	bad(s.Mode != "" && s.Mode != Mixed && s.Mode != Sealed, "mode", "%.40q is neither mixed nor encrypted%s", s.Mode, why("cluster "+string(s.Mode)))
	names := map[string]bool{}
	for _, p := range builtIn().Phones {
		names[p.Name] = true
	}
	for i, p := range s.Phones {
		key := fmt.Sprintf("phones[%d]", i)
		bad(!word.MatchString(p.Name) || names[p.Name], key, "%.60q is no name in lower case, or is taken", p.Name)
		names[p.Name] = true
		bad(p.Mode != Encrypted && p.Mode != NonSecure, key, "the mode %.40q is neither encrypted nor non-secure%s", p.Mode, why(string(p.Mode)))
		for _, a := range p.Auth {
			bad(!slices.Contains(Auths(), a), key, "%.40q is no way to prove oneself: there are certificate, token, digest-sha-256 and digest-md5", a)
		}
	}
	names = map[string]bool{}
	for _, t := range builtIn().Trunks {
		names[t.Name] = true
	}
	for i, t := range s.Trunks {
		key := fmt.Sprintf("trunks[%d]", i)
		bad(!word.MatchString(t.Name) || names[t.Name], key, "%.60q is no name in lower case, or is taken", t.Name)
		names[t.Name] = true
		for _, x := range []struct {
			name string
			is   Transport
		}{{"incoming", t.Incoming}, {"outgoing", t.Outgoing}} {
			bad(x.is != "" && x.is != TLS && x.is != Off, key, "%s is %.40q: a trunk is carried by tls or is off; nothing that leaves the house goes by udp or tcp in the clear", x.name, x.is)
		}
		bad(t.Incoming == Off && t.Outgoing == Off, key, "it is off in both directions")
		for _, n := range t.Subjects {
			cn, ok := strings.CutPrefix(n, "CN=")
			bad(cn == "" || len(n) > 253 || !ok && strings.ContainsAny(n, " \t,;"), key, "%.80q is no name: one subject is one entry of the list", n)
			bad(strings.Contains(n, "*"), key, "%.80q has a wildcard, which proves nothing in SIP", n)
		}
		bad(slices.Contains(t.Anchors, "host") && t.Incoming != Off, key, "the anchors of host mean every public authority of the world, whose certificates anybody can get; that does only for a trunk whose incoming is off")
		for _, r := range t.Accept {
			bad(r != Replaces && r != Refer, key, "%.40q cannot be accepted: there are replaces and refer; presence and unsolicited notifications of trunks are always refused", r)
		}
	}
	return wrong
}

// Auths returns the ways in which phones may prove themselves, strongest first.
func Auths() []ringfence.Auth {
	return []ringfence.Auth{ringfence.AuthCertificate, ringfence.AuthToken, ringfence.AuthDigestSHA256, ringfence.AuthDigestMD5}
}

// NotServed returns the modes that others have and this does not.
func NotServed() []string { return []string{"authenticated", "cluster non-secure"} }

// WhyNot says why such a mode is not served, or nothing of any other word.
func WhyNot(mode string) string {
	switch mode {
	case "authenticated":
		return "authenticated means TLS with NULL ciphers, which signs what is said and seals nothing, and those are not served; use encrypted"
	case "cluster non-secure":
		return "a whole cluster in the clear is what this is made to end; use mixed, and exceptions by name for the phones that need one"
	}
	return ""
}

func why(mode string) string {
	if text := WhyNot(mode); text != "" {
		return ": " + text
	}
	return ""
}
