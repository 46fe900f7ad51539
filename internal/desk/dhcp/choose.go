package dhcp

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ringfence"
)

// The orders in which a phone looks at options, if its profile names no other (DHCP_Option_To_Use and DHCPv6_Option_To_Use).
const (
	Order4 = "66,160,159,150,60,43,125"
	Order6 = "17,160,159"
)

// defaultFile is the file that a phone asks a server for that nobody named a file of.
const defaultFile = "/$PSN.xml"

// ParseOrder reads a list of options. One that tells of no profile is passed over and named.
func ParseOrder(text string, f Family) (order []uint16, problems []string) {
	known := []uint16{66, 160, 159, 150, 60, 43, 125}
	if f == IPv6 {
		known = []uint16{17, 160, 159}
	}
	if len(text) > maxText {
		return nil, []string{"the list of options is too long"}
	}
	for _, w := range strings.Split(text, ",") {
		w = strings.TrimSpace(w)
		n, err := strconv.ParseUint(w, 10, 16)
		switch {
		case w == "":
		case err != nil:
			problems = append(problems, fmt.Sprintf("%.20q is no number of an option", w))
		case !slices.Contains(known, uint16(n)):
			problems = append(problems, fmt.Sprintf("option %d of %s tells of no profile", n, f))
		case !slices.Contains(order, uint16(n)):
			order = append(order, uint16(n))
		}
	}
	return order, problems
}

// Source is an option that may say where the profile is, and what came of it.
type Source struct {
	Family Family     `json:"family"`
	Option uint16     `json:"option"`
	Server netip.Addr `json:"server"`
	Value  string     `json:"value,omitempty"`
	Rule   string     `json:"profile_rule,omitempty"`
	Why    string     `json:"passed_over,omitempty"`
}

// Choice is what the answers say of the profile.
type Choice struct {
	Rule    string   `json:"profile_rule,omitempty"`
	From    string   `json:"from,omitempty"` // e.g. "DHCP option 66 of 192.0.2.1"
	ACS     *ACS     `json:"acs,omitempty"`
	Sources []Source `json:"sources"` // in the order in which they were looked at
}

// Choose looks at the options in their order, those of IPv4 first, and takes the first that leads to a profile by HTTPS.
func Choose(order4, order6 []uint16, answers []Answer) Choice {
	c := Choice{Sources: []Source{}}
	for _, f := range []struct {
		family Family
		order  []uint16
	}{{IPv4, order4}, {IPv6, order6}} {
		for _, a := range answers {
			if a.Family != f.family {
				continue
			}
			if c.ACS == nil {
				c.ACS = a.ACS
			}
			for _, code := range f.order {
				s := Source{Family: f.family, Option: code, Server: a.Server, Value: a.places[code]}
				at := slices.IndexFunc(a.Options, func(o Option) bool { return o.Code == code })
				switch {
				case at < 0:
					s.Why = "the server does not send it"
				case s.Value == "" && a.Options[at].Problem != "":
					s.Why = a.Options[at].Problem
				case code == 60:
					s.Value, s.Why = a.Class, "it says whose option 43 is, and names no place"
				case s.Value == "":
					s.Value, s.Why = a.Options[at].Value, "it names no profile"
				default:
					s.Rule, s.Why = ruleOf(s.Value)
				}
				if s.Rule != "" && c.Rule == "" {
					c.Rule, c.From = s.Rule, fmt.Sprintf("%s option %d of %s", map[Family]string{IPv4: "DHCP", IPv6: "DHCPv6"}[f.family], code, a.Server)
				} else if s.Rule != "" {
					s.Why = "an option before it was taken"
				}
				c.Sources = append(c.Sources, s)
			}
		}
	}
	return c
}

// ruleOf makes a profile rule of what an option says, or says why it makes none. It comes from whoever answered, so it may say where a profile is and which phone asks; a rule's options, conditions and
// parameters, among which are passwords, are the profile's own.
func ruleOf(value string) (rule, why string) {
	if strings.ContainsAny(value, " \"|\\<>^`{}") || strings.HasPrefix(value, "[-") || strings.HasPrefix(value, "(") {
		return "", "it is more than an address"
	}
	macro := regexp.MustCompile(`\$(\(?)(PSN|PN|MAU|MAC|MA|SN|SWVER|HWVER)((?::[0-9]{1,4}){0,2})(\)?)`)
	odd := false
	plain := macro.ReplaceAllStringFunc(value, func(m string) string {
		part := macro.FindStringSubmatch(m)
		odd = odd || (part[1] == "") != (part[4] == "") || part[1] == "" && part[3] != ""
		return "x"
	})
	if odd || strings.Contains(plain, "$") {
		return "", "it has a macro that no server may use"
	}
	scheme, rest, ok := strings.Cut(value, "://")
	switch scheme = strings.ToLower(scheme); {
	case ok && scheme != "https":
		return "", fmt.Sprintf("%.20s is in the clear, and nobody proves who answers", scheme)
	case !ok:
		rest = value
		if a, err := netip.ParseAddr(value); err == nil && a.Is6() {
			rest = "[" + value + "]"
		}
		if at := strings.IndexByte(rest, '/'); at < 0 || at == len(rest)-1 {
			rest = strings.TrimSuffix(rest, "/") + defaultFile
		}
	}
	rule = "https://" + rest
	u, err := url.Parse(macro.ReplaceAllString(rule, "x"))
	if err != nil || u.User != nil || !isHost(u.Hostname()) || u.Port() != "" && !isPort(u.Port()) || u.Path == "" {
		return "", "it is no address of a file"
	}
	return rule, ""
}

func isHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == "" && usable(a)
	}
	return isName(s)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// Others names the servers that answered besides the first of each family: on most networks there is one, and a second is an accident or an attack.
func Others(answers []Answer) []string {
	first, out := map[Family]netip.Addr{}, []string{}
	for _, a := range answers {
		if f, ok := first[a.Family]; !ok {
			first[a.Family] = a.Server
		} else if f != a.Server {
			out = append(out, fmt.Sprintf("more than one server answers by %s: %s as well as %s", a.Family, a.Server, f))
		}
	}
	return out
}

func fault(kind ringfence.Kind, text, hint string, err error) error {
	return &ringfence.Fault{Op: "dhcp", Kind: kind, Text: text, Hint: hint, Err: err}
}
