package pac

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"ringfence"
)

// World is what a program may know of where it runs.
type World struct {
	// Resolve returns the addresses of a name; nil: no name has one.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	Own     []netip.Addr // this host's, the one that packets leave from first
	Now     time.Time
}

// Script is a file that was understood.
type Script struct{ code *function }

// Way is one thing to try.
type Way struct {
	Kind string `json:"kind"`           // DIRECT, PROXY, HTTPS, SOCKS, SOCKS4, SOCKS5 or QUIC
	Host string `json:"host,omitempty"` // host:port
}

// String returns "PROXY proxy.example.com:3128".
func (w Way) String() string { return strings.TrimSuffix(w.Kind+" "+w.Host, " ") }

// Answer is what a file says about one address.
type Answer struct {
	Text   string   `json:"text"`             // as it says it
	Ways   []Way    `json:"ways"`             // in order
	Asked  []string `json:"asked,omitempty"`  // names that it asked DNS for
	Alerts []string `json:"alerts,omitempty"` // what it wanted to show
	Steps  int      `json:"steps"`
}

// Parse reads a file.
func Parse(src []byte) (*Script, error) {
	if len(src) > maxFile {
		return nil, broken(0, "a file of %d bytes is too long; %d are the most", len(src), maxFile)
	}
	s := strings.TrimPrefix(string(src), "\ufeff")
	if !utf8.ValidString(s) { // then it is Latin-1
		r := make([]rune, len(s))
		for i := range len(s) {
			r[i] = rune(s[i])
		}
		s = string(r)
	}
	f, err := parse(s)
	if err != nil {
		return nil, err
	}
	return &Script{f}, nil
}

// ParseWays reads what FindProxyForURL returns, such as "PROXY a.example:8080; DIRECT". Nothing is the direct way.
func ParseWays(s string) (out []Way, err error) {
	if len(s) > 16<<10 {
		return nil, &ringfence.Fault{Op: "pac", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("an answer of %d bytes is too long", len(s))}
	}
	for part := range strings.SplitSeq(s, ";") {
		f := strings.Fields(part)
		if len(f) == 0 {
			continue
		}
		w := Way{Kind: strings.ToUpper(f[0])}
		port := map[string]string{"PROXY": "80", "HTTP": "80", "HTTPS": "443", "SOCKS": "1080", "SOCKS4": "1080", "SOCKS5": "1080", "QUIC": "443"}[w.Kind]
		if w.Kind == "HTTP" {
			w.Kind = "PROXY"
		}
		host := ""
		switch {
		case w.Kind == "DIRECT" && len(f) == 1:
		case port != "" && len(f) == 2:
			host = f[1]
			if h, p, err := net.SplitHostPort(host); err == nil {
				host, port = h, p
			}
			host = strings.Trim(host, "[]")
		default:
			return nil, &ringfence.Fault{Op: "pac", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.80q is no way to go", part), Hint: "write PROXY host:port, HTTPS host:port, SOCKS host:port or DIRECT"}
		}
		if w.Kind != "DIRECT" {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 || !regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,253}$`).MatchString(host) {
				return nil, &ringfence.Fault{Op: "pac", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.80q is no proxy", part), Hint: "write PROXY host:port"}
			}
			w.Host = net.JoinHostPort(host, port)
		}
		if len(out) < 32 {
			out = append(out, w)
		}
	}
	if out == nil {
		out = []Way{{Kind: "DIRECT"}}
	}
	return out, nil
}

// Find runs the file for an address. What a file asked for comes back with an error as well.
func (s *Script) Find(ctx context.Context, w World, url, host string) (a Answer, err error) {
	m := &machine{World: w, ctx: ctx, global: &scope{vars: map[string]*any{}}, protos: map[string]*object{}, cache: map[string]string{}}
	defer func() {
		a.Steps, a.Asked, a.Alerts = m.steps, m.asked, m.alerts
		switch r := recover().(type) {
		case nil:
		case fail:
			err = r.err
		case thrown:
			err = broken(r.line, "the program fails: %.200s", describe(r.v))
		default:
			panic(r)
		}
	}()
	m.builtins()
	m.functions()
	m.hoist(s.code, m.global)
	if sig, _ := m.run(s.code.body, m.global, nil); sig != goOn {
		m.throw("return stands outside of a function")
	}
	var f *object
	for _, name := range []string{"FindProxyForURL", "FindProxyForURLEx"} {
		if v := m.global.find(name); v != nil && f == nil {
			f, _ = (*v).(*object)
		}
	}
	if f == nil || f.class != "Function" {
		return a, &ringfence.Fault{Op: "pac", Kind: ringfence.KindInvalid, Text: "the file has no function FindProxyForURL", Hint: "is this a proxy auto-configuration file?"}
	}
	switch v := m.call(f, nil, []any{url, host}).(type) {
	case string:
		a.Text = v
	case nil, null: // as browsers have it: the direct way
	default:
		a.Text = m.text(v)
	}
	a.Ways, err = ParseWays(a.Text)
	return a, err
}

// describe says what was thrown, without running more of the program.
func describe(v any) string {
	if o, ok := v.(*object); ok {
		if s, ok := o.props["message"].(string); ok {
			return s
		}
		return "an object was thrown"
	}
	return str(v)
}

// resolve asks DNS, once for each name; "" is no address.
func (m *machine) resolve(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.String()
	}
	all := m.addresses(host)
	for _, a := range all { // the file's arithmetic is of IPv4
		if a.Is4() {
			return a.String()
		}
	}
	return ""
}

func (m *machine) addresses(host string) []netip.Addr {
	if m.Resolve == nil || host == "" || len(host) > 253 {
		return nil
	}
	known, ok := m.cache[host]
	if !ok {
		if len(m.asked) >= maxNames {
			m.stop(fmt.Sprintf("it asks DNS for more than %d names", maxNames))
		}
		m.asked = append(m.asked, host)
		found, _ := m.Resolve(m.ctx, host)
		texts := make([]string, 0, len(found))
		for _, a := range found[:min(16, len(found))] {
			texts = append(texts, a.Unmap().String())
		}
		known = strings.Join(texts, " ")
		m.cache[host] = known
		m.step(1000)
	}
	var out []netip.Addr
	for s := range strings.FieldsSeq(known) {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// functions are those that such a file may call beside the language's.
func (m *machine) functions() {
	own := func() string {
		for _, a := range m.Own {
			if a.Unmap().Is4() {
				return a.Unmap().String()
			}
		}
		return "127.0.0.1"
	}
	list := func(all []netip.Addr) string {
		out := make([]string, len(all))
		for i, a := range all {
			out[i] = a.Unmap().String()
		}
		return strings.Join(out, ";")
	}
	all := functions{
		"isPlainHostName": func(c call) any { return !strings.ContainsAny(c.str(0), ".:") },
		"dnsDomainIs":     func(c call) any { return strings.HasSuffix(c.str(0), c.str(1)) },
		"localHostOrDomainIs": func(c call) any {
			host, full := c.str(0), c.str(1)
			return host == full || strings.HasPrefix(full, host+".") && !strings.Contains(host, ".")
		},
		"isResolvable":    func(c call) any { return c.resolve(c.str(0)) != "" },
		"dnsDomainLevels": func(c call) any { return float64(strings.Count(c.str(0), ".")) },
		"dnsResolve": func(c call) any {
			if a := c.resolve(c.str(0)); a != "" {
				return a
			}
			return null{}
		},
		"myIpAddress": func(call) any { return own() },
		"isInNet":     isInNet,
		"shExpMatch":  shExpMatch,
		"convert_addr": func(c call) any {
			a, err := netip.ParseAddr(c.str(0))
			if err != nil || !a.Is4() {
				return 0.0
			}
			b := a.As4()
			return float64(int32(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])))
		},
		"weekdayRange": weekdayRange,
		"dateRange":    dateRange,
		"timeRange":    timeRange,
		"alert": func(c call) any {
			if len(c.alerts) < 16 {
				s := c.str(0)
				c.alerts = append(c.alerts, s[:min(200, len(s))])
			}
			return nil
		},
		"isResolvableEx": func(c call) any { return len(c.addresses(c.str(0))) > 0 },
		"dnsResolveEx":   func(c call) any { return list(c.addresses(c.str(0))) },
		"myIpAddressEx":  func(call) any { return list(m.Own) },
		"isInNetEx": func(c call) any {
			a, err := netip.ParseAddr(c.str(0))
			n, err2 := netip.ParsePrefix(c.str(1))
			return err == nil && err2 == nil && n.Masked().Contains(a.Unmap())
		},
		"sortIpAddressList": func(c call) any {
			var out []netip.Addr
			for s := range strings.SplitSeq(c.str(0), ";") {
				a, err := netip.ParseAddr(strings.TrimSpace(s))
				if err != nil {
					return false
				}
				out = append(out, a)
			}
			slices.SortFunc(out, func(a, b netip.Addr) int { // IPv6 first
				if a.Is4() != b.Is4() {
					return map[bool]int{true: 1, false: -1}[a.Is4()]
				}
				return a.Compare(b)
			})
			return list(out)
		},
		"getClientVersion": func(call) any { return "1.0" },
	}
	for name, f := range all {
		v := any(m.native(func(m *machine, this any, args []any) any { return f(call{m, this, args}) }))
		m.global.vars[name] = &v
	}
}

func isInNet(c call) any {
	host, err := netip.ParseAddr(c.str(0))
	if err != nil {
		if host, err = netip.ParseAddr(c.resolve(c.str(0))); err != nil {
			return false
		}
	}
	network, err1 := netip.ParseAddr(c.str(1))
	mask, err2 := netip.ParseAddr(c.str(2))
	if err1 != nil || err2 != nil || !host.Is4() || !network.Is4() || !mask.Is4() {
		return false
	}
	h, n, k := host.As4(), network.As4(), mask.As4()
	for i := range h {
		if h[i]&k[i] != n[i]&k[i] {
			return false
		}
	}
	return true
}

// shExpMatch matches as the first browsers did: * and ? are what they are in a shell, and all else of a regular expression goes through.
func shExpMatch(c call) any {
	s := c.str(0)
	p := strings.NewReplacer(".", `\.`, "*", ".*", "?", ".").Replace(c.str(1))
	o := c.pattern("^"+p+"$", "")
	return c.over(o, s).MatchString(s)
}

// zone takes GMT off the end of arguments, and returns the time in the zone that is meant.
func (c call) zone() (call, time.Time) {
	if n := len(c.args); n > 0 && c.args[n-1] == "GMT" {
		c.args = c.args[:n-1]
		return c, c.Now.UTC()
	}
	return c, c.Now
}

func between[T any](low, now, high T, compare func(a, b T) int) bool {
	if compare(low, high) <= 0 {
		return compare(low, now) <= 0 && compare(now, high) <= 0
	}
	return compare(low, now) <= 0 || compare(now, high) <= 0
}

func ints(a, b int) int { return a - b }

func weekdayRange(c call) any {
	c, now := c.zone()
	day := func(n int) int {
		return slices.Index([]string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}, c.str(n))
	}
	if len(c.args) < 1 || len(c.args) > 2 || day(0) < 0 {
		return false
	}
	low, high := day(0), day(len(c.args)-1)
	return high >= 0 && between(low, int(now.Weekday()), high, ints)
}

func timeRange(c call) any {
	c, now := c.zone()
	part := func(n int) int { return c.whole(n, 0, 0, 99) }
	switch len(c.args) {
	case 1:
		return now.Hour() == part(0)
	case 2:
		return between(part(0), now.Hour(), part(1), ints)
	case 4:
		return between(part(0)*3600+part(1)*60, now.Hour()*3600+now.Minute()*60+now.Second(), part(2)*3600+part(3)*60+59, ints)
	case 6:
		return between(part(0)*3600+part(1)*60+part(2), now.Hour()*3600+now.Minute()*60+now.Second(), part(3)*3600+part(4)*60+part(5), ints)
	}
	return false
}

// dateRange compares what of day, month and year is given; what is not is as it is now.
func dateRange(c call) any {
	c, now := c.zone()
	months := []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	today := [3]int{now.Year(), int(now.Month()), now.Day()}
	read := func(args []any) (d [3]int, ok bool) {
		d, ok = today, len(args) > 0
		for _, a := range args {
			if s, is := a.(string); is {
				n := slices.Index(months, s)
				ok = ok && n >= 0
				d[1] = n + 1
				continue
			}
			switch n := (call{c.machine, nil, []any{a}}).whole(0, 0, 0, 9999); {
			case n >= 32:
				d[0] = n
			default:
				d[2] = n
			}
		}
		return d, ok
	}
	half := (len(c.args) + 1) / 2
	if len(c.args) == 3 || len(c.args) == 5 || len(c.args) == 0 || len(c.args) > 6 {
		return false
	}
	low, ok1 := read(c.args[:half])
	high, ok2 := read(c.args[len(c.args)-half:])
	return ok1 && ok2 && between(low, today, high, func(a, b [3]int) int { return slices.Compare(a[:], b[:]) })
}
