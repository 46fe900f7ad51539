package tlspolicy

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/trust/cipherlist"
)

// Settings are what may be set at a place of the tree. An empty field sets nothing.
type Settings struct {
	Min        string   `yaml:"min,omitempty" json:"min,omitempty"`                 // "1.2" or "1.3"
	Max        string   `yaml:"max,omitempty" json:"max,omitempty"`                 // "1.2" or "1.3"
	Suites     string   `yaml:"suites,omitempty" json:"suites,omitempty"`           // for TLS 1.2: a cipher list of OpenSSL, or names of the IANA
	Groups     []string `yaml:"groups,omitempty" json:"groups,omitempty"`           // best first, by the names of the IANA
	Identity   string   `yaml:"identity,omitempty" json:"identity,omitempty"`       // what we present: node, or the alias of an identity that was added
	Anchors    []string `yaml:"anchors,omitempty" json:"anchors,omitempty"`         // whom we believe: own, host, or aliases of anchors that were added
	ClientAuth string   `yaml:"client-auth,omitempty" json:"client_auth,omitempty"` // listeners only: none, request or require
	Subjects   []string `yaml:"subjects,omitempty" json:"subjects,omitempty"`       // the only names that a peer's certificate may carry
	NameCheck  string   `yaml:"name-check,omitempty" json:"name_check,omitempty"`   // for connections that we open: host or subjects
}

// setting is one field of Settings, by its name in the configuration.
type setting struct {
	name   string
	text   func(*Settings) *string
	list   func(*Settings) *[]string
	sep    string // what separates the parts of a text that is a list
	named  bool   // for what presents something of ours
	listen bool   // for listeners only
	dial   bool   // for what we open only
	trust  bool   // says whom to believe, or who we are
}

// fields returns the settings in the order in which they are shown.
func fields() []setting {
	return []setting{
		{name: "min", text: func(s *Settings) *string { return &s.Min }},
		{name: "max", text: func(s *Settings) *string { return &s.Max }},
		{name: "suites", text: func(s *Settings) *string { return &s.Suites }, sep: ":"},
		{name: "groups", list: func(s *Settings) *[]string { return &s.Groups }},
		{name: "identity", text: func(s *Settings) *string { return &s.Identity }, named: true, trust: true},
		{name: "anchors", list: func(s *Settings) *[]string { return &s.Anchors }, trust: true},
		{name: "client-auth", text: func(s *Settings) *string { return &s.ClientAuth }, listen: true},
		{name: "subjects", list: func(s *Settings) *[]string { return &s.Subjects }, trust: true},
		{name: "name-check", text: func(s *Settings) *string { return &s.NameCheck }, dial: true, trust: true},
	}
}

// Names returns the names of the settings.
func Names() (out []string) {
	for _, f := range fields() {
		out = append(out, f.name)
	}
	return out
}

// value returns a setting as text, lists with spaces.
func (f setting) value(s Settings) string {
	if f.list != nil {
		return strings.Join(*f.list(&s), " ")
	}
	return *f.text(&s)
}

func (f setting) fits(e Endpoint) bool {
	return !(f.listen && e.Dials || f.dial && !e.Dials || f.trust && e.alone() || f.named && nameless(e))
}

// bounds of lists, so that a configuration cannot make each handshake slow.
const (
	maxList = 64
	maxWord = 256
)

// check returns what is wrong with settings at a place, whatever else the tree says. about has no class where the place is about more than one.
func (s Settings) check(about Endpoint) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for name, v := range map[string]string{"min": s.Min, "max": s.Max} {
		if v != "" && v != "1.2" && v != "1.3" {
			bad("%s: %.20q cannot be set: TLS 1.2 is the floor, and 1.3 the latest", name, v)
		}
	}
	if s.Suites != "" {
		l, err := cipherlist.Parse(s.Suites)
		switch {
		case err != nil:
			bad("suites: %s", err.Error())
		case len(l.Served()) == 0:
			bad("suites: nothing of the list can be served, because a suite needs forward secrecy and authenticated encryption; `ringfence tls ciphers` says why for each. For TLS 1.3 alone set min to 1.3")
		}
	}
	for _, g := range s.Groups {
		if _, ok := group(g); !ok {
			bad("groups: %.40q is not known; there are %s", g, strings.Join(groupNames(), ", "))
		}
	}
	if s.ClientAuth != "" && !slices.Contains([]string{"none", "request", "require"}, s.ClientAuth) {
		bad("client-auth: %.20q is none of none, request and require", s.ClientAuth)
	}
	if s.NameCheck != "" && s.NameCheck != "host" && s.NameCheck != "subjects" {
		bad("name-check: %.20q is neither host nor subjects; it cannot be switched off, since a server that proves no name is anybody", s.NameCheck)
	}
	for _, f := range fields() {
		v := f.value(s)
		switch {
		case v == "" || about.Class == "" || f.fits(about):
		case f.trust && about.alone():
			bad("%s: means nothing at %s: the database's address says whom to believe and by which certificate we prove ourselves (sslrootcert, sslcert and sslkey), since everything else is in the database", f.name, about.Class)
		case f.named && nameless(about):
			bad("%s: means nothing at %s, which presents nothing of ours", f.name, about.Class)
		default:
			bad("%s: means nothing at %s, which %s", f.name, about.Class, map[bool]string{true: "connects", false: "listens"}[about.Dials])
		}
		if f.list != nil {
			list := *f.list(&s)
			for i, word := range list {
				if word == "" || len(word) > maxWord || strings.ContainsAny(word, " \t\r\n") || slices.Contains(list[:i], word) {
					bad("%s: %.60q is empty, too long, has a space in it, or comes twice", f.name, word)
				}
			}
			if len(list) > maxList {
				bad("%s: %d is more than %d", f.name, len(list), maxList)
			}
		}
	}
	if slices.Contains(s.Anchors, HostAnchors) && about.Class != "" && !about.Dials {
		bad("anchors: %s means every public authority of the world, whose certificates anybody can get; a listener names the ones it means", HostAnchors)
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

// classical reports whether a group can be used before TLS 1.3 too.
func classical(id tls.CurveID) bool {
	return slices.Contains([]tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}, id)
}
