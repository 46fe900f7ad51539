package trunk

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ringfence/internal/trust/profile"
)

// Trunk is another telephone system: a session border controller, a carrier, a PBX.
type Trunk struct {
	Name string `yaml:"name" json:"name"`
	Host string `yaml:"host" json:"host"`                     // where its calls go: a host name or an address, or a domain that DNS knows by SRV
	Port uint16 `yaml:"port,omitempty" json:"port,omitempty"` // 0: what DNS says, else 5061
	// Security is the name of its security profile; empty: encrypted, which is built in.
	Security string `yaml:"security,omitempty" json:"security,omitempty"`
	// Prefix is what comes before our own numbers at the other side, in international form, such as +4930123 for its direct dial-in: it is taken off what the other side
	// dials, and put before the numbers of our callers.
	Prefix string `yaml:"prefix,omitempty" json:"prefix,omitempty"`
	// MaxCalls is how many calls there may be over it at once, in both directions; 0: no limit of its own.
	MaxCalls int `yaml:"max-calls,omitempty" json:"max_calls,omitempty"`
	// TrustDomain says that the other side belongs to the trust domain of RFC 3325: it is told who calls although the caller withholds that from whoever is called, as carriers need it.
	TrustDomain bool `yaml:"trust-domain,omitempty" json:"trust_domain,omitempty"`
}

// Wrong is one thing that is wrong, by its key in a configuration.
type Wrong struct{ Key, Text string }

// Check returns everything that is wrong with some trunks.
func Check(trunks []Trunk, s profile.Security) (wrong []Wrong) {
	host := regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	prefix := regexp.MustCompile(`^(\+[0-9]{1,14})?$`)
	names, subjects := map[string]bool{}, map[string]string{}
	for i, t := range trunks {
		key := fmt.Sprintf("trunks[%d]", i)
		bad := func(when bool, format string, args ...any) {
			if when {
				wrong = append(wrong, Wrong{key, fmt.Sprintf(format, args...)})
			}
		}
		_, err := netip.ParseAddr(t.Host)
		bad(!host.MatchString(t.Name) || names[t.Name], "%.60q is no name in lower case, or comes twice", t.Name)
		bad(!host.MatchString(t.Host) && err != nil, "host: %.80q is neither a host name in lower case nor an address", t.Host)
		bad(!prefix.MatchString(t.Prefix), "prefix: %.40q is not the beginning of a number in international form, such as +4930123", t.Prefix)
		bad(t.MaxCalls < 0 || t.MaxCalls > 1_000_000, "max-calls: %d is not between 0 and 1000000", t.MaxCalls)
		names[t.Name] = true
		p, ok := s.Trunk(t.Security)
		bad(!ok, "security: there is no trunk security profile %.60q", t.Security)
		for _, name := range subjectsOf(t, p) {
			other, taken := subjects[strings.ToLower(name)]
			bad(taken, "%s is a subject of the trunk %s too: nobody could tell which of them comes", name, other)
			subjects[strings.ToLower(name)] = t.Name
		}
	}
	return wrong
}

// subjectsOf returns the names of which a trunk's certificate must carry one.
func subjectsOf(t Trunk, p profile.Trunk) []string {
	if len(p.Subjects) > 0 {
		return p.Subjects
	}
	return []string{t.Host}
}

// Incoming returns what the other side means by what it dialled: its own prefix before our numbers is taken off, with or without "+".
func (t Trunk) Incoming(dialled string) string {
	for _, prefix := range []string{t.Prefix, strings.TrimPrefix(t.Prefix, "+")} {
		if rest, ok := strings.CutPrefix(dialled, prefix); ok && prefix != "" && rest != "" {
			return rest
		}
	}
	return dialled
}

// Outgoing returns how the number of a caller of ours is shown at the other side.
func (t Trunk) Outgoing(number string) string {
	if t.Prefix == "" || number == "" || strings.ContainsFunc(number, func(r rune) bool { return r < '0' || r > '9' }) {
		return number
	}
	return t.Prefix + number
}

// URI is where its servers are looked for (RFC 3263).
func (t Trunk) URI() string { return "sip:" + t.HostPort() + ";transport=tls" }

// HostPort returns the host as it stands in a URI, with the port if one is set.
func (t Trunk) HostPort() string {
	switch {
	case t.Port != 0:
		return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	case strings.Contains(t.Host, ":"):
		return "[" + t.Host + "]"
	}
	return t.Host
}

func accepts(p profile.Trunk, r profile.Request) bool { return slices.Contains(p.Accept, r) }
