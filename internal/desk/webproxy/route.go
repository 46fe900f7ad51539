package webproxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/network/pac"
	"ringfence/internal/network/proxy"
	"ringfence/internal/network/wpad"
)

// Phone is a phone's view of the web. Setting, Lookup, Dial, TLS and Now are needed.
type Phone struct {
	Setting Setting
	Lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial    func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Listen  func(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) // for DHCP
	Own     func(to netip.AddrPort) (netip.Addr, error)                          // the phone's address towards another
	DHCP    netip.AddrPort                                                       // whom to ask for option 252; not valid: nobody
	Offered func() (address string, by netip.Addr)                               // what a DHCP server said of it already, by option 252; nil: nothing
	Ticket  func(ctx context.Context, service string) ([]byte, error)            // of Kerberos, for Negotiate; nil: there is none, and it is made with NTLM
	Domains []string                                                             // in which wpad is looked for
	TLS     *tls.Config                                                          // of files and proxies that are reached by TLS; it decides whom to believe
	Agent   string
	Now     func() time.Time

	mu     sync.Mutex
	script *pac.Script // found before
	found  string      // where, and who sent it
	uses   []Use
}

// Use is a way that an application took last, and why.
type Use struct {
	Application Application `json:"application"`
	Target      string      `json:"target"`
	Way         string      `json:"way"` // DIRECT, or PROXY HOST:PORT
	Because     string      `json:"because"`
	Scheme      string      `json:"scheme,omitempty"` // by which it signed in
	Warning     string      `json:"warning,omitempty"`
	Error       string      `json:"error,omitempty"`
	At          time.Time   `json:"at"`
}

// Direct is [Use.Way] without a proxy.
const Direct = "DIRECT"

// Limits of one way.
const (
	maxWays    = 8
	maxDomains = 4
	evaluation = 5 * time.Second
)

// Uses returns the last way of each application.
func (p *Phone) Uses() []Use {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.uses)
}

// Connect opens a way to a host for an application. Without a connection and without an error it goes directly, and the caller opens the connection itself.
func (p *Phone) Connect(ctx context.Context, a Application, host string, port uint16) (net.Conn, Use, error) {
	u := Use{Application: a, Target: net.JoinHostPort(host, strconv.Itoa(int(port))), Way: Direct, At: p.Now().UTC().Truncate(time.Second)}
	if !slices.Contains(Applications(), a) {
		return nil, u, fault(ringfence.KindInternal, "", "%q does not go by a web proxy", string(a))
	}
	conn, err := p.connect(ctx, host, &u)
	if err != nil {
		u.Error = err.Error()
	}
	p.mu.Lock()
	p.uses = append(slices.DeleteFunc(p.uses, func(old Use) bool { return old.Application == a }), u)
	p.mu.Unlock()
	return conn, u, err
}

func (p *Phone) connect(ctx context.Context, host string, u *Use) (net.Conn, error) {
	s := p.Setting
	switch s.Mode {
	case Manual:
		u.Because = "Proxy_Mode is Manual (" + s.From + ")"
		return p.through(ctx, pac.Way{Kind: "PROXY", Host: s.Host}, u)
	case Auto:
		return p.automatic(ctx, host, u)
	}
	u.Because = "Proxy_Mode is Off (" + s.From + ")"
	return nil, nil
}

// automatic asks the site's file, and takes the first of its ways that can be taken.
func (p *Phone) automatic(ctx context.Context, host string, u *Use) (net.Conn, error) {
	script, from, err := p.file(ctx)
	if err != nil {
		u.Because = "Proxy_Mode is Auto (" + p.Setting.From + ")"
		return nil, err
	}
	if u.Because = from; script == nil {
		return nil, nil
	}
	world := pac.World{Resolve: p.Lookup, Now: p.Now()}
	if p.Own != nil {
		if own, err := p.Own(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 443)); err == nil {
			world.Own = []netip.Addr{own}
		}
	}
	inTime, cancel := context.WithTimeout(ctx, evaluation)
	answer, err := script.Find(inTime, world, "https://"+u.Target+"/", host) // browsers tell such files no more of an address that is sealed, either
	cancel()
	if err != nil {
		return nil, err
	}
	u.Because = fmt.Sprintf("%s says %q for it", from, cmp.Or(answer.Text, Direct))
	var first error
	for i, w := range answer.Ways {
		switch {
		case i == maxWays:
			return nil, first
		case w.Kind == Direct:
			u.Way = Direct
			return nil, nil
		case w.Kind != "PROXY" && w.Kind != "HTTPS":
			if first == nil {
				first = fault(ringfence.KindUnsupported, "let the file name a web proxy", "the file names %.80s, which a phone cannot go by", w)
			}
			continue
		}
		conn, err := p.through(ctx, w, u)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = fault(ringfence.KindInvalid, "", "the file names no way")
	}
	return nil, first
}

// through goes by one proxy.
func (p *Phone) through(ctx context.Context, w pac.Way, u *Use) (net.Conn, error) {
	u.Way, u.Scheme, u.Warning = w.String(), "", ""
	host, text, err := net.SplitHostPort(w.Host)
	port, bad := strconv.ParseUint(text, 10, 16)
	if err != nil || bad != nil {
		return nil, fault(ringfence.KindInvalid, "", "%.80q is no web proxy", w.Host)
	}
	d := proxy.Dialer{Name: host, Sealed: w.Kind == "HTTPS", Agent: p.Agent, Now: p.Now, Dial: func(ctx context.Context) (net.Conn, error) { return p.open(ctx, host, uint16(port), w.Kind == "HTTPS") }}
	if p.Setting.SignsIn {
		d.Who = proxy.Credentials{User: p.Setting.User, Password: p.Setting.Password, Token: p.Ticket}
		d.Only = proxy.Schemes() // Basic in the clear as well, last of all: the profile wants a sign-in, and some proxies know no other
	}
	conn, out, err := d.Connect(ctx, u.Target)
	if u.Scheme = string(out.Used); out.Used == proxy.Basic && !d.Sealed {
		u.Warning = "the password of the proxy went there IN THE CLEAR (Basic): have it offer Digest, NTLM or Negotiate"
	}
	if err != nil && ringfence.KindOf(err) == ringfence.KindUnauthenticated && !p.Setting.SignsIn {
		return nil, fault(ringfence.KindUnauthenticated, "Proxy_Mode Manual with Proxy_Server_Requires_Authentication signs in", "the proxy %s wants to know who asks, and the profile does not say", w.Host)
	}
	return conn, err
}

// open connects to a proxy.
func (p *Phone) open(ctx context.Context, host string, port uint16, sealed bool) (net.Conn, error) {
	found, err := p.Lookup(ctx, host)
	if err != nil || len(found) == 0 {
		return nil, &ringfence.Fault{Op: "webproxy", Kind: ringfence.KindUnavailable, Text: "the proxy " + host + " has no address", Err: err}
	}
	var conn net.Conn
	for _, a := range found[:min(len(found), maxWays)] {
		if conn, err = p.Dial(ctx, netip.AddrPortFrom(a, port)); err == nil {
			break
		}
	}
	if err != nil {
		return nil, &ringfence.Fault{Op: "webproxy", Kind: ringfence.KindUnavailable, Text: fmt.Sprintf("the proxy %s cannot be reached", net.JoinHostPort(host, strconv.Itoa(int(port)))), Err: err}
	}
	if !sealed {
		return conn, nil
	}
	conf := p.TLS.Clone()
	conf.ServerName = host
	t := tls.Client(conn, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, &ringfence.Fault{Op: "webproxy", Kind: ringfence.KindInsecure, Text: "the proxy " + host + " does not prove its name", Err: err}
	}
	return t, nil
}

// file returns the site's file and where it came from; none if nobody knows of one. What cannot be read is an error: whoever put it there wants no direct ways.
func (p *Phone) file(ctx context.Context) (*pac.Script, string, error) {
	p.mu.Lock()
	script, from := p.script, p.found
	p.mu.Unlock()
	if script != nil {
		return script, from, nil
	}
	f, how, err := p.find(ctx)
	if err != nil || f == nil {
		return nil, how, err
	}
	if script, err = pac.Parse(f.Body); err != nil {
		return nil, how, err
	}
	from = fmt.Sprintf("%s (%s, from %s)", how, f.URL, f.From)
	p.mu.Lock()
	p.script, p.found = script, from
	p.mu.Unlock()
	return script, from, nil
}

func (p *Phone) find(ctx context.Context) (*wpad.File, string, error) {
	w := &wpad.Finder{Lookup: p.Lookup, Dial: p.Dial, Listen: p.Listen, TLS: p.TLS}
	if !p.Setting.WPAD {
		f, err := w.Fetch(ctx, p.Setting.PAC)
		return f, "PAC_URL", err
	}
	asked, domains := []string(nil), p.Domains
	if p.Offered != nil {
		if address, by := p.Offered(); address != "" {
			f, err := w.Fetch(ctx, address)
			return f, "WPAD by DHCP option 252 of " + by.String(), err
		}
		asked = append(asked, "DHCP")
	}
	if p.DHCP.IsValid() && p.Listen != nil && p.Own != nil { // DHCP comes first, and where it names a file DNS is not asked
		asked = append(asked, "DHCP")
		own, err := p.Own(p.DHCP)
		var offer wpad.Offer
		if err == nil {
			offer, err = w.ByDHCP(ctx, own, p.DHCP)
		}
		if err == nil && offer.URL != "" {
			f, err := w.Fetch(ctx, offer.URL)
			return f, "WPAD by DHCP", err
		}
		if err == nil && offer.Domain != "" && !slices.Contains(domains, offer.Domain) {
			domains = append([]string{offer.Domain}, domains...)
		}
	}
	for _, domain := range domains[:min(len(domains), maxDomains)] {
		names := wpad.Names(domain)
		if len(names) == 0 {
			continue
		}
		asked = append(asked, names[0])
		if found, err := p.Lookup(ctx, names[0]); err != nil || len(found) == 0 {
			continue
		}
		f, err := w.ByDNS(ctx, names[0])
		return f, "WPAD by DNS", err
	}
	if len(asked) == 0 {
		return nil, "Proxy_Mode is Auto (" + p.Setting.From + "), and there is neither a domain nor a DHCP server to ask for a file", nil
	}
	return nil, "Proxy_Mode is Auto (" + p.Setting.From + "), and WPAD found no file (asked: " + strings.Join(asked, ", ") + ")", nil
}
