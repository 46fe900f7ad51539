package locate

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"ringfence"
	"ringfence/internal/sip"
)

// Target is one place to send a request to.
type Target struct {
	Transport string // as in Via: "TLS", "WSS", and "TCP" or "UDP" if they were allowed
	Addr      netip.AddrPort
	Name      string // the name that the certificate must prove: the host of the URI (RFC 5922 section 7.3)
	Host      string // the host whose address it is
}

// maxTargets bounds what one URI leads to.
const maxTargets = 16

// service says how a transport is found in DNS (RFC 3263 section 4.1, RFC 7118 section 5.2.4).
type service struct {
	transport string
	naptr     string
	srv       string // prefix of the SRV name where there is no NAPTR; empty: there is none
	port      uint16
	sealed    bool
}

func services() []service {
	return []service{
		{"TLS", "SIPS+D2T", "_sips._tcp.", 5061, true},
		{"WSS", "SIPS+D2W", "", 443, true},
		{"TCP", "SIP+D2T", "_sip._tcp.", 5060, false},
		{"UDP", "SIP+D2U", "_sip._udp.", 5060, false},
	}
}

// Locate returns where requests to a SIP or SIPS URI can be sent, best first (RFC 3263 section 4). transports are those the caller
// can and may use, best first; none means TLS alone. What is not among them is refused, or passed over, and never fallen back to.
func (r *Resolver) Locate(ctx context.Context, uri *sip.URI, transports ...string) ([]Target, error) {
	if !uri.IsSIP() {
		return nil, fault(ringfence.KindUnsupported, "only sip: and sips: addresses can be located", "", nil)
	}
	usable, explicit, err := choose(uri, transports)
	if err != nil {
		return nil, err
	}
	return r.locate(ctx, uri, usable, explicit)
}

func (r *Resolver) locate(ctx context.Context, uri *sip.URI, usable []service, explicit bool) ([]Target, error) {
	l := lookup{r: r, usable: usable, name: strings.ToLower(trimDot(string(uri.Host)))}
	host := l.name
	if m, ok := uri.Params.Get("maddr"); ok {
		host = strings.ToLower(trimDot(strings.Trim(string(m), "[]")))
	}
	first := usable[0]
	port := uri.Port
	local := r.cfg.Hosts[host]
	if host == "localhost" && local == nil { // RFC 6761 section 6.3
		local = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	switch addr, err := netip.ParseAddr(host); {
	case err == nil:
		l.add(first, host, []netip.Addr{addr}, cmp.Or(port, first.port))
	case local != nil:
		l.add(first, host, local, cmp.Or(port, first.port))
	case port != 0:
		err = l.host(ctx, first, host, port)
		if err != nil {
			return nil, err
		}
	default:
		if err := l.domain(ctx, host, explicit); err != nil {
			return nil, err
		}
	}
	return r.ordered(l.out), nil
}

// Domain is a SIP domain, or a host, whose servers are looked for again at each connection.
type Domain struct {
	r    *Resolver
	uri  sip.URI
	port uint16 // where nothing says another
}

// Domain returns the domain called name, which may also be a host or an address, over TLS. port counts where no SRV record says another.
func (r *Resolver) Domain(name string, port uint16) (*Domain, error) {
	d, err := r.named(name)
	if err == nil {
		d.port = port
	}
	return d, err
}

// Host is Domain for a host that is to be found by its addresses alone, at this port.
func (r *Resolver) Host(name string, port uint16) (*Domain, error) {
	d, err := r.named(name)
	if err == nil {
		d.uri.Port = port
	}
	return d, err
}

func (r *Resolver) named(name string) (*Domain, error) {
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	uri, err := sip.ParseURI([]byte("sips:" + name))
	if err != nil || uri.HasUser || uri.Port != 0 || len(uri.Params) > 0 || uri.HasHeaders {
		return nil, fault(ringfence.KindInvalid, name+" is no name of a domain", "", err)
	}
	return &Domain{r: r, uri: uri}, nil
}

// Find returns the addresses of the domain's servers, best first.
func (d *Domain) Find(ctx context.Context) ([]netip.AddrPort, error) {
	tls := services()[0]
	if d.port != 0 {
		tls.port = d.port
	}
	targets, err := d.r.locate(ctx, &d.uri, []service{tls}, false)
	out := make([]netip.AddrPort, len(targets))
	for i, t := range targets {
		out[i] = t.Addr
	}
	return out, err
}

// Avoid is [Resolver.Avoid].
func (d *Domain) Avoid(addr netip.AddrPort, wait time.Duration) { d.r.Avoid(addr, wait) }

// choose returns the services that the URI and the caller both allow, and whether the URI names its transport.
func choose(uri *sip.URI, transports []string) (usable []service, explicit bool, err error) {
	want := ""
	if v, ok := uri.Params.Get("transport"); ok {
		explicit = true
		switch t := strings.ToUpper(string(v)); {
		case t == "TCP" && uri.IsSIPS():
			want = "TLS"
		case t == "WS" && uri.IsSIPS():
			want = "WSS"
		default:
			want = t
		}
	}
	if len(transports) == 0 {
		transports = []string{"TLS"}
	}
	for _, t := range transports {
		for _, s := range services() {
			if s.transport == t && (want == "" || want == t) && (s.sealed || !uri.IsSIPS()) {
				usable = append(usable, s)
			}
		}
	}
	if len(usable) > 0 {
		return usable, explicit, nil
	}
	if want == "TCP" || want == "UDP" || want == "WS" {
		return nil, explicit, fault(ringfence.KindInsecure, "the address asks for "+want+", which is not sealed", "write transport=tls, or leave it out", nil)
	}
	return nil, explicit, fault(ringfence.KindUnsupported, "the address asks for a transport that is not spoken here", "write transport=tls, or leave it out", nil)
}

// ordered keeps the order, except that places which failed lately come last.
func (r *Resolver) ordered(in []Target) []Target {
	now := time.Now()
	out := make([]Target, 0, len(in))
	var last []Target
	for _, t := range in {
		if r.avoided(t.Addr, now) {
			last = append(last, t)
		} else {
			out = append(out, t)
		}
	}
	return append(out, last...)
}

// lookup gathers the targets of one URI.
type lookup struct {
	r      *Resolver
	usable []service
	name   string
	out    []Target
}

func (l *lookup) add(s service, host string, addrs []netip.Addr, port uint16) {
	for _, a := range addrs {
		t := Target{Transport: s.transport, Addr: netip.AddrPortFrom(a, port), Name: l.name, Host: host}
		if len(l.out) < maxTargets && !slices.Contains(l.out, t) {
			l.out = append(l.out, t)
		}
	}
}

// host adds the addresses of a host.
func (l *lookup) host(ctx context.Context, s service, host string, port uint16) error {
	addrs, err := l.r.addrs(ctx, host)
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		return fault(ringfence.KindUnavailable, "DNS knows no address of "+host, "check the name, or use an address", nil)
	}
	l.add(s, host, addrs, port)
	return nil
}

// domain adds what NAPTR and SRV records of a domain lead to, or the addresses of the domain if it has none.
func (l *lookup) domain(ctx context.Context, domain string, explicit bool) error {
	type named struct {
		service
		srv string
	}
	var names []named
	if !explicit {
		// Servers and middleboxes exist that fail at NAPTR and know SRV: what the certificate proves does not depend on either.
		if a, err := l.r.lookup(ctx, domain, typeNAPTR); err == nil {
			for _, n := range l.rank(a.NAPTR) {
				s := l.usable[slices.IndexFunc(l.usable, func(s service) bool { return strings.EqualFold(s.naptr, n.Service) })]
				names = append(names, named{s, n.Replacement})
			}
		} else if ctx.Err() != nil {
			return err
		}
	}
	if len(names) == 0 {
		for _, s := range l.usable {
			if s.srv != "" {
				names = append(names, named{s, s.srv + domain})
			}
		}
	}
	some := false
	var last error
	for _, n := range names {
		a, err := l.r.lookup(ctx, n.srv, dnsmessage.TypeSRV)
		if err != nil {
			last = err
			continue
		}
		for _, srv := range l.r.order(a.SRV) {
			some = true
			if srv.Target == "" {
				last = fault(ringfence.KindUnavailable, domain+" says that it offers no "+n.transport+" for SIP", "ask its administrator", nil)
				continue
			}
			if err := l.host(ctx, n.service, strings.ToLower(srv.Target), srv.Port); err != nil {
				last = err
			}
		}
	}
	switch {
	case len(l.out) > 0:
		return nil
	case some || last != nil:
		return last
	}
	return l.host(ctx, l.usable[0], domain, l.usable[0].port)
}

// rank returns the NAPTR records that lead to a usable SRV record, those of the lowest order only, best first (RFC 3403 section 4.1).
func (l *lookup) rank(in []NAPTR) (out []NAPTR) {
	for _, n := range in {
		usable := slices.ContainsFunc(l.usable, func(s service) bool { return strings.EqualFold(s.naptr, n.Service) })
		if usable && strings.EqualFold(n.Flags, "s") && n.Regexp == "" && n.Replacement != "" {
			out = append(out, n)
		}
	}
	slices.SortStableFunc(out, func(a, b NAPTR) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Replacement, b.Replacement))
	})
	for i, n := range out {
		if n.Order != out[0].Order {
			return out[:i]
		}
	}
	return out
}

// order puts SRV records into the order in which to try them: by priority, and by chance in proportion to their weights
// within one (RFC 2782).
func (r *Resolver) order(in []SRV) []SRV {
	rest := slices.Clone(in)
	slices.SortFunc(rest, func(a, b SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Weight, b.Weight), strings.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port))
	})
	out := make([]SRV, 0, len(rest))
	for len(rest) > 0 {
		same, sum := 0, uint32(0)
		for same < len(rest) && rest[same].Priority == rest[0].Priority {
			sum += uint32(rest[same].Weight)
			same++
		}
		pick, running, mark := 0, uint32(0), r.cfg.Rand(sum+1)
		for i := range same {
			if running += uint32(rest[i].Weight); running >= mark {
				pick = i
				break
			}
		}
		out = append(out, rest[pick])
		rest = slices.Delete(rest, pick, pick+1)
	}
	return out
}

// addrs returns the addresses of a host, IPv6 and IPv4 in turn (RFC 8305 section 4), so that one dead family costs one try.
func (r *Resolver) addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	names := []string{host}
	if !strings.Contains(host, ".") {
		names = names[:0]
		for _, s := range r.cfg.Search[:min(len(r.cfg.Search), 6)] {
			names = append(names, host+"."+s)
		}
		names = append(names, host)
	}
	var last error
	for _, n := range names {
		if local := r.cfg.Hosts[n]; local != nil {
			return local, nil
		}
		six, err6 := r.lookup(ctx, n, dnsmessage.TypeAAAA)
		four, err4 := r.lookup(ctx, n, dnsmessage.TypeA)
		a, b := six.Addrs, four.Addrs
		var out []netip.Addr
		for i := range max(len(a), len(b)) {
			if i < len(a) {
				out = append(out, a[i])
			}
			if i < len(b) {
				out = append(out, b[i])
			}
		}
		if len(out) > 0 {
			return out, nil
		}
		last = cmp.Or(err4, err6, last)
	}
	return nil, last
}
