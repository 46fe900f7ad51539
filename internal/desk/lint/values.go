package lint

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/profilerule"
	"ringfence/internal/trust/cipherlist"
)

// translated are values of the web pages in other languages, which files of translated handbooks have.
func translated(value string) string {
	switch value {
	case "예", "Ja", "Oui", "Sí", "Si", "Sim", "是", "はい", "yes", "YES", "True", "true", "1", "on", "On", "enabled", "Enabled":
		return "Yes"
	case "아니요", "아니오", "Nein", "Non", "Não", "否", "いいえ", "no", "NO", "False", "false", "0", "off", "Off", "disabled", "Disabled":
		return "No"
	case "활성화", "사용":
		return "Enabled"
	case "비활성화":
		return "Disabled"
	case "자동":
		return "Auto"
	case "수동":
		return "Manual"
	case "끄기":
		return "Off"
	}
	return ""
}

// value judges what a parameter is set to.
func (j *judge) value(e flatprofile.Element, p flatprofile.Parameter) {
	wrong := func(fix, format string, args ...any) {
		j.add(e.Line, Error, "ill-formed", e.Name, fix, format, args...)
	}
	switch p.Type {
	case flatprofile.YesNo:
		if e.Value != "Yes" && e.Value != "No" {
			fix := "write Yes or No"
			if v := translated(e.Value); v == "Yes" || v == "No" {
				fix = "write " + v
			}
			wrong(fix, "%.40q is neither Yes nor No, in English and with a capital letter", e.Value)
		}
	case flatprofile.OneOf:
		j.oneOf(e, p, wrong)
	case flatprofile.Int:
		if n, err := strconv.Atoi(e.Value); err != nil || n < p.Min || n > p.Max {
			wrong("write a whole number from "+strconv.Itoa(p.Min)+" to "+strconv.Itoa(p.Max), "%.40q is none", e.Value)
		}
	case flatprofile.Port:
		if n, err := strconv.ParseUint(e.Value, 10, 16); err != nil || n == 0 {
			wrong("write a port from 1 to 65535", "%.40q is no port", e.Value)
		}
	case flatprofile.Seconds:
		if n, err := strconv.ParseFloat(e.Value, 64); err != nil || n < 0 || n > 1e6 {
			wrong("write seconds, such as .5", "%.40q is no time in seconds", e.Value)
		}
	case flatprofile.Numbers:
		for _, w := range strings.Split(e.Value, ",") {
			if n, err := strconv.ParseUint(strings.TrimSpace(w), 10, 16); err != nil || n == 0 || n > 254 && strings.HasPrefix(e.Name, "DHCP_") {
				wrong("write numbers of options by commas, such as "+p.Default, "%.20q is no option", w)
				break
			}
		}
	case flatprofile.Hosts:
		for _, w := range strings.Split(e.Value, ",") {
			if !isHostName(strings.TrimSpace(w)) {
				wrong("write whole names by commas, such as voip.example.com", "%.60q is no name of a host or a domain", strings.TrimSpace(w))
			}
		}
	case flatprofile.HostPort:
		j.hostPort(e, wrong)
	case flatprofile.URL:
		u, err := url.Parse(e.Value)
		switch {
		case err != nil || u.Host == "" || !slices.Contains(p.Options, u.Scheme):
			wrong("write an address that begins with "+strings.Join(p.Options, ":// or ")+"://", "%.80q is no such address", e.Value)
		case u.Scheme == "http" || u.Scheme == "tftp" || u.Scheme == "ws":
			j.add(e.Line, Danger, "dangerous", e.Name, "serve it by "+map[string]string{"http": "https", "tftp": "https", "ws": "wss"}[u.Scheme], "%s is in the clear, and nobody proves who answers", u.Scheme)
		}
	case flatprofile.Ciphers:
		j.ciphers(e, wrong)
	case flatprofile.Rule:
		j.rule(e, wrong)
	case flatprofile.Condition:
		if _, err := profilerule.ParseCondition(e.Value); err != nil {
			wrong("write a condition such as $PRVTMR ge 600", "%s", reason(err))
		}
	case flatprofile.Macros:
		j.macros(e, e.Value, false)
	}
	if why, ok := p.Danger[e.Value]; ok && !(p.PerLine && p.Type == flatprofile.OneOf && strings.HasPrefix(e.Name, "SIP_Transport")) { // lines() tells of transports
		fix := "set it to another value"
		if p.Type == flatprofile.YesNo {
			fix = map[string]string{"Yes": "write No", "No": "write Yes"}[e.Value]
		} else if safe := slices.IndexFunc(p.Options, func(o string) bool { return p.Danger[o] == "" }); safe >= 0 {
			fix = "write " + p.Options[safe]
		}
		j.add(e.Line, Danger, "dangerous", e.Name, fix, "%s", why)
	}
	if strings.IndexFunc(e.Value, func(r rune) bool { return r > 0x7e || r < ' ' && r != '\t' }) >= 0 && p.Type != flatprofile.YesNo && p.Type != flatprofile.OneOf {
		j.add(e.Line, Warning, "ill-formed", e.Name, "write it in ASCII", "a phone reads ASCII only")
	}
}

func (j *judge) oneOf(e flatprofile.Element, p flatprofile.Parameter, wrong func(string, string, ...any)) {
	if slices.Contains(p.Options, e.Value) {
		return
	}
	fix := "write " + strings.Join(p.Options, ", ")
	for _, o := range p.Options {
		if strings.EqualFold(o, e.Value) || translated(e.Value) == o {
			fix = "write " + o
		}
	}
	wrong(fix, "%.40q is none of what it can be", e.Value)
}

func (j *judge) hostPort(e flatprofile.Element, wrong func(string, string, ...any)) {
	value := e.Value
	if strings.Contains(value, "://") {
		wrong("leave the scheme out", "%.80q has a scheme", value)
		return
	}
	host, port := value, ""
	if _, err := netip.ParseAddr(strings.Trim(value, "[]")); err != nil {
		if at := strings.LastIndexByte(value, ':'); at >= 0 {
			host, port = value[:at], value[at+1:]
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				wrong("write NAME or NAME:PORT", "%.80q has no port behind the colon", value)
				return
			}
		}
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil && !isHostName(host) && !strings.ContainsAny(host, "$") {
		wrong("write NAME or NAME:PORT", "%.80q is neither a name nor an address", value)
	}
}

// isHostName reports whether s is a host name (RFC 1123 section 2.1).
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.IndexFunc(label, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}) >= 0 {
			return false
		}
	}
	return true
}

func (j *judge) ciphers(e flatprofile.Element, wrong func(string, string, ...any)) {
	list, err := cipherlist.Parse(e.Value)
	switch {
	case err != nil:
		wrong("write a list such as ECDHE+AESGCM:!aNULL, and try it with `ringfence tls ciphers`", "%s; each application of the phone then uses its own list", reason(err))
		return
	case len(list.Suites) == 0:
		wrong("write a list such as ECDHE+AESGCM:!aNULL", "the list names no suite; each application of the phone then uses its own")
		return
	}
	var open, anonymous, weak []string
	for _, s := range list.Suites {
		switch {
		case s.Bits == 0:
			open = append(open, s.OpenSSL)
		case s.Authentication == "none":
			anonymous = append(anonymous, s.OpenSSL)
		case s.Bits < 128 || strings.Contains(s.Encryption, "RC4") || strings.Contains(s.Encryption, "DES"):
			weak = append(weak, s.OpenSSL)
		}
	}
	for _, x := range []struct {
		suites []string
		what   string
		fix    string
	}{{open, "do not encrypt", "add :!eNULL"}, {anonymous, "prove no name", "add :!aNULL"}, {weak, "are broken or worn out", "add :!3DES:!RC4"}} {
		if len(x.suites) > 0 {
			j.add(e.Line, Danger, "dangerous", e.Name, x.fix, "%d of its suites %s, such as %s", len(x.suites), x.what, x.suites[0])
		}
	}
	for _, w := range list.Warnings {
		if !strings.Contains(w, "Go chooses") { // that is about us, not the phone
			j.add(e.Line, Warning, "ill-formed", e.Name, "see `ringfence tls ciphers '"+e.Value+"'`", "%s", w)
		}
	}
}

func (j *judge) rule(e flatprofile.Element, wrong func(string, string, ...any)) {
	rule, err := profilerule.Parse(e.Value)
	if err != nil {
		wrong(`a rule is (CONDITION)? [--key "KEY"] URL | …`, "%s", reason(err))
		return
	}
	outside, inside := rule.Names()
	for _, name := range outside {
		j.macroName(e, name, false)
	}
	for _, name := range inside {
		j.macroName(e, name, true)
	}
	for _, a := range rule.Alternatives {
		scheme, _, found := strings.Cut(a.URL, "://")
		switch {
		case !found || strings.EqualFold(scheme, "tftp"):
			if !strings.HasPrefix(a.URL, "$") || found {
				j.add(e.Line, Danger, "dangerous", e.Name, "serve it by https", "%.60s is fetched by TFTP, in the clear, and nobody proves who answers", a.URL)
			}
		case strings.EqualFold(scheme, "http"):
			j.add(e.Line, Danger, "dangerous", e.Name, "serve it by https", "%.60s is fetched in the clear, and nobody proves who answers", a.URL)
		case !strings.EqualFold(scheme, "https"):
			wrong("write https://…", "%.20q is no scheme that a phone fetches by", scheme)
		}
		if a.Key != "" && !strings.HasPrefix(a.Key, "$S") || a.PWD != "" && !strings.HasPrefix(a.PWD, "$S") {
			j.add(e.Line, Danger, "dangerous", e.Name, "put the secret into GPP_SA and write $SA", "a secret stands in the rule itself, which the phone shows on its pages")
		}
	}
}

// macros judges the macros of a text.
func (j *judge) macros(e flatprofile.Element, text string, brackets bool) {
	_, names := profilerule.Expand(text, func(string) (string, bool) { return "", false })
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		j.macroName(e, name, brackets)
	}
}

func (j *judge) macroName(e flatprofile.Element, name string, brackets bool) {
	switch {
	case profilerule.Known(name, brackets):
	case profilerule.Known(name, true):
		j.add(e.Line, Error, "ill-formed", e.Name, "write it behind --key, within brackets", "$%s is known within brackets only, and stays as it stands here", name)
	default:
		j.add(e.Line, Warning, "ill-formed", e.Name, "see docs/guides/desk-phone.md for the macros", "there is no macro $%.40s, so it stays as it stands", name)
	}
}

// reason returns what a fault says, without the operation.
func reason(err error) string {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, ".parse: "); ok {
		return rest
	}
	return text
}
