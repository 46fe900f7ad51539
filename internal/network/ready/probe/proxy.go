package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/pac"
	"ringfence/internal/network/proxy"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
	"ringfence/internal/network/wpad"
)

// Web is how a site reaches the web.
type Web struct {
	Proxy    string         // HOST:PORT, as people type it in
	PAC      string         // where an auto-configuration file is
	Script   []byte         // or the file itself
	Domain   string         // in which hosts look for wpad
	DHCP     netip.AddrPort // whom to ask for option 252; not valid: nobody
	Who      proxy.Credentials
	Basic    bool     // the password may be told in the clear
	Products []string // rows of the products that the site has; what does not work for one of them fails the test
	Lookup   func(ctx context.Context, host string) ([]netip.Addr, error)
	Trust    *tls.Config // of a client that believes whom this host believes
}

// source is one way to find a proxy, and what came of it.
type source struct {
	means  string // manual, pac or wpad, as the products' rows have it
	from   string
	script *pac.Script
	manual string
	err    error
}

const maxProxies = 4

// proxies finds the web proxy, and says what goes through it, for which product, and what does not.
func (p *Prober) proxies(ctx context.Context) ([]verdict.Check, error) {
	found := verdict.Check{ID: "proxy/found", Kind: "proxy", Title: "Web proxy: how it is found", Required: true, Status: verdict.Pass, Values: map[string]string{}}
	sources, notes := p.sources(ctx)
	ways := p.waysOf(ctx, sources, &found)
	p.judgeSources(sources, notes, &found)
	all := []verdict.Check{found}
	var hosts []pac.Way
	for _, w := range ways {
		if w.Kind != "DIRECT" && !slices.Contains(hosts, w) {
			hosts = append(hosts, w)
		}
	}
	var met []*gate
	for _, w := range hosts[:min(maxProxies, len(hosts))] {
		g, err := p.gate(ctx, w)
		if err != nil {
			return nil, err
		}
		met = append(met, g)
		all = append(all, g.check)
	}
	if len(met) > 0 {
		all = append(all, p.products(sources, met)...)
	}
	return append(all, p.direct(met)), nil
}

func (p *Prober) dialWeb(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	from, err := p.Opener.SourceFor(to)
	if err != nil {
		return nil, err
	}
	return p.Opener.DialFrom(ctx, FlowWeb, netip.AddrPortFrom(from, 0), to)
}

// sources asks everybody who may know.
func (p *Prober) sources(ctx context.Context) (out []source, notes []string) {
	f := &wpad.Finder{Lookup: p.Web.Lookup, Dial: p.dialWeb, TLS: p.Web.Trust, Listen: func(ctx context.Context, at netip.AddrPort) (net.PacketConn, error) {
		return p.Opener.ListenUDP(ctx, FlowDHCP, at)
	}}
	read := func(means, from string, body []byte, err error) {
		s := source{means: means, from: from, err: err}
		if err == nil {
			s.script, s.err = pac.Parse(body)
		}
		out = append(out, s)
	}
	fetch := func(means, from string) {
		file, err := f.Fetch(ctx, from)
		if err != nil {
			read(means, from, nil, err)
			return
		}
		read(means, file.URL, file.Body, nil)
	}
	if p.Web.Proxy != "" {
		out = append(out, source{means: "manual", from: "by hand", manual: p.Web.Proxy})
	}
	if p.Web.Script != nil {
		read("pac", "the file that was given", p.Web.Script, nil)
	}
	if p.Web.PAC != "" {
		fetch("pac", p.Web.PAC)
	}
	if p.Web.DHCP.IsValid() {
		own, err := p.Opener.SourceFor(p.Web.DHCP)
		var offer wpad.Offer
		if err == nil {
			offer, err = f.ByDHCP(ctx, own, p.Web.DHCP)
		}
		switch {
		case err == nil && offer.URL == "":
			err = &ringfence.Fault{Op: "probe", Kind: ringfence.KindNotFound, Text: "the DHCP server names no file (option 252)"}
			fallthrough
		case err != nil:
			read("wpad", "DHCP option 252 of "+p.Web.DHCP.String(), nil, err)
		default:
			fetch("wpad", offer.URL)
		}
	}
	if p.Web.Domain != "" {
		names := wpad.Names(p.Web.Domain)
		fetch("wpad", "http://"+names[0]+"/wpad.dat")
		for _, above := range names[1:] {
			if a, err := p.Web.Lookup(ctx, above); err == nil && len(a) > 0 {
				notes = append(notes, fmt.Sprintf("%s has the address %s: hosts that climb would believe what is there", above, a[0].Unmap()))
			}
		}
	}
	return out, notes
}

// waysOf finds the way for each name of the set, by each source. Those of all names come back, the first that a host would try of each.
func (p *Prober) waysOf(ctx context.Context, sources []source, c *verdict.Check) (out []pac.Way) {
	var names []string
	for _, d := range p.Set.Domains {
		names = append(names, strings.TrimPrefix(d.Pattern, "*."))
	}
	if len(names) == 0 {
		names = []string{p.Name}
	}
	world := pac.World{Resolve: p.Web.Lookup, Own: []netip.Addr{p.local}, Now: time.Now()}
	for i := range sources {
		s := &sources[i]
		if s.err != nil {
			continue
		}
		by := map[string][]string{}
		for _, name := range names {
			way, text := pac.Way{Kind: "PROXY", Host: s.manual}, "PROXY "+s.manual
			if s.script != nil {
				ctx, cancel := context.WithTimeout(ctx, dialTime)
				a, err := s.script.Find(ctx, world, "https://"+name+"/", name)
				cancel()
				if err != nil {
					s.err = fmt.Errorf("for %s: %w", name, err)
					break
				}
				way, text = a.Ways[0], a.Text
			}
			if text == "" {
				text = "DIRECT"
			}
			by[text] = append(by[text], name)
			out = append(out, way)
		}
		for _, text := range slices.Sorted(maps.Keys(by)) {
			c.Values[s.from+": "+text] = strings.Join(by[text], " ")
		}
	}
	return out
}

func (p *Prober) judgeSources(sources []source, notes []string, c *verdict.Check) {
	var asked, seen, broken []string
	answers := map[string]bool{}
	for _, s := range sources {
		asked = append(asked, s.means+" ("+s.from+")")
		if s.err != nil {
			broken = append(broken, s.means+" ("+s.from+"): "+plainFault(s.err))
			continue
		}
		var all []string
		for k, v := range c.Values {
			if text, ok := strings.CutPrefix(k, s.from+": "); ok {
				all = append(all, fmt.Sprintf("%s for %d names", text, len(strings.Fields(v))))
			}
		}
		slices.Sort(all)
		seen = append(seen, s.means+" ("+s.from+"): "+strings.Join(all, ", "))
		answers[strings.Join(all, ", ")] = true
	}
	c.Sent, c.Seen = "asked for a web proxy: "+strings.Join(asked, ", "), joined(slices.Concat(seen, broken, notes))
	switch {
	case len(sources) == 0:
		c.Status, c.Cause, c.Seen = verdict.Skip, verdict.Untested, "no proxy was named, and nobody to ask for one"
	case len(broken) > 0:
		c.Status, c.Cause = verdict.Fail, verdict.Proxy
		c.Change = "mend what is broken there, or take it away from where hosts look for it: a host that finds no file, or one that does not run, goes the direct way or none"
	case len(answers) > 1:
		c.Status, c.Cause, c.Change = verdict.Warn, verdict.Proxy, "let all ways to find the proxy say the same: products differ in which they use"
	case len(notes) > 0:
		c.Status, c.Cause, c.Change = verdict.Warn, verdict.Proxy, "give the name wpad an address in the hosts' own domain only, and take it away above"
	}
}

// plainFault is the text of an error with its hint.
func plainFault(err error) string {
	text := err.Error()
	if h := ringfence.HintOf(err); h != "" {
		text += " (" + h + ")"
	}
	return text
}

// gate is one web proxy that was met.
type gate struct {
	way   pac.Way
	out   proxy.Outcome
	check verdict.Check
	ports map[uint16]string // what is through it: "" passes
}

// dialer makes ways through one proxy.
func (p *Prober) dialer(way pac.Way) *proxy.Dialer {
	host, port, _ := net.SplitHostPort(way.Host)
	d := &proxy.Dialer{Name: host, Sealed: way.Kind == "HTTPS", Who: p.Web.Who, Agent: p.Program}
	if p.Web.Basic {
		d.Only = proxy.Schemes()
	}
	d.Dial = func(ctx context.Context) (net.Conn, error) {
		at, err := netip.ParseAddr(host)
		if err != nil {
			all, err := p.Web.Lookup(ctx, host)
			if err != nil || len(all) == 0 {
				return nil, &ringfence.Fault{Op: "probe", Kind: ringfence.KindNotFound, Text: "the proxy " + host + " has no address", Err: err}
			}
			at = all[0].Unmap()
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, err
		}
		conn, err := p.dialWeb(ctx, netip.AddrPortFrom(at, uint16(n)))
		if err != nil || !d.Sealed {
			return conn, err
		}
		conf := p.Web.Trust.Clone()
		conf.ServerName = host
		t := tls.Client(conn, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return t, nil
	}
	return d
}

// webPorts are the ports of the rows that a proxy carries.
func (p *Prober) webPorts() (ports []uint16, rows []string) {
	for _, i := range plan(p.Set, p.Direction, p.Roles, p.Rows) {
		if i.transport != "tcp" || !i.row.Web() || i.skip != "" {
			continue
		}
		rows = append(rows, i.row.ID)
		ports = append(ports, sample(i.to, 0, p.rand)...)
	}
	if len(ports) == 0 {
		ports = []uint16{443}
	}
	slices.SortFunc(ports, func(a, b uint16) int { // the one that proxies let through first
		if (a == 443) != (b == 443) {
			return map[bool]int{true: -1, false: 1}[a == 443]
		}
		return int(a) - int(b)
	})
	ports = slices.Compact(ports)
	return ports[:min(8, len(ports))], rows
}

// gate tries a proxy: who may use it, which ports it lets through, and whether what arrives is what was sent.
func (p *Prober) gate(ctx context.Context, way pac.Way) (*gate, error) {
	g := &gate{way: way, ports: map[uint16]string{}, check: verdict.Check{ID: "proxy/" + way.Host, Kind: "proxy", Title: "Web proxy " + way.String(), Required: true, Status: verdict.Pass, Values: map[string]string{}}}
	c := &g.check
	if way.Kind != "PROXY" && way.Kind != "HTTPS" {
		*c = skipped(c.ID, c.Kind, c.Title, "only web proxies are tested, not "+way.Kind)
		return g, nil
	}
	ports, rows := p.webPorts()
	c.Rows = rows
	open, err := p.need(ctx, "tcp", ports)
	if err != nil {
		return nil, err
	}
	if len(open) == 0 {
		*c = skipped(c.ID, c.Kind, c.Title, "the reflector could open none of the ports: "+p.opened[fmt.Sprintf("tcp/%d", ports[0])])
		return g, nil
	}
	presented, err := p.ask(ctx, wire.Request{Op: "presented"})
	if err != nil {
		return nil, err
	}
	var passed, refused []string
	var first error
	for _, port := range open {
		if why := p.through(ctx, g, port, presented); why != nil {
			g.ports[port] = why.Error()
			refused = append(refused, fmt.Sprintf("%d: %s", port, plainFault(why)))
			if first == nil {
				first = why
			}
			if k := ringfence.KindOf(why); g.out.Status == 0 || k == ringfence.KindUnauthenticated || k == ringfence.KindInsecure && g.out.Used == "" { // no other port will be better, and accounts are locked by guesses
				break
			}
			continue
		}
		g.ports[port] = ""
		passed = append(passed, fmt.Sprint(port))
	}
	c.Sent = fmt.Sprintf("CONNECT to ports %s of the reflector", strings.Trim(fmt.Sprint(open), "[]"))
	offered := make([]string, len(g.out.Offered))
	for i, s := range g.out.Offered {
		offered[i] = string(s)
	}
	c.Values["authentication"] = strings.Join(append(offered, g.out.Others...), ", ")
	if g.out.Used != "" {
		c.Values["used"] = strings.TrimSpace(string(g.out.Used) + " " + g.out.Algorithm)
	}
	if g.out.Via != "" {
		c.Values["calls itself"] = g.out.Via
	}
	c.Seen = "it lets through ports " + strings.Join(passed, ", ")
	if len(passed) == 0 {
		c.Seen = "it lets nothing through"
	}
	if len(offered) > 0 {
		c.Seen += "; it asks for " + strings.Join(offered, ", ")
	}
	p.judgeGate(g, first, refused, len(passed))
	return g, nil
}

func (p *Prober) judgeGate(g *gate, first error, refused []string, passed int) {
	c := &g.check
	if first == nil {
		if g.out.Used == proxy.Basic && g.way.Kind != "HTTPS" {
			c.Status, c.Cause = verdict.Warn, verdict.Login
			c.Seen += "; the password went there in the clear (Basic)"
			c.Change = "have the proxy offer Digest, NTLM or Negotiate, or speak TLS to it"
		}
		return
	}
	c.Seen += "; " + joined(refused)
	for _, r := range refused {
		port, _, _ := strings.Cut(r, ":")
		c.Blocked = append(c.Blocked, "to "+port)
	}
	c.Status = verdict.Fail
	switch ringfence.KindOf(first) {
	case ringfence.KindUnauthenticated, ringfence.KindInsecure:
		c.Cause, c.Change = verdict.Login, "give --proxy-user and --proxy-password-file to test the way behind the login, or exempt the names of the set from it"
		if g.out.Used != "" {
			c.Change = "check the account at the proxy; phones need one that no person changes the password of"
		}
		if ringfence.KindOf(first) == ringfence.KindInsecure && g.out.Status == 200 {
			c.Cause, c.Change = verdict.Intercepted, "exempt the service's names from TLS inspection at the proxy (Squid: ssl_bump splice); `ringfence network render squid-splice` writes the list"
		}
	case ringfence.KindDenied:
		c.Cause, c.Change = verdict.Proxy, "let the proxy allow CONNECT to these ports (Squid: acl SSL_ports port ...); `ringfence network render squid` writes the rules"
		if passed > 0 {
			c.Status = verdict.Warn
		}
	default:
		c.Cause, c.Change = verdict.Proxy, "find out at the proxy why it does not reach the reflector: its own firewall, its resolver, or its parent"
		if g.out.Status == 0 {
			c.Change = "let hosts of the site reach the proxy at " + g.way.Host + ", or correct the address that they are given"
		}
	}
}

// through opens one way through a proxy and looks at what is at its end.
func (p *Prober) through(ctx context.Context, g *gate, port uint16, r wire.Reply) error {
	d := p.dialer(g.way)
	target := netip.AddrPortFrom(p.Reflector.Addr(), port).String()
	conn, out, err := d.Connect(ctx, target)
	if was := g.out; out.Status != 0 || was.Status == 0 {
		if g.out = out; len(out.Offered)+len(out.Others) == 0 { // refused for its port, before anybody asked who it is
			g.out.Offered, g.out.Others, g.out.Used, g.out.Algorithm = was.Offered, was.Others, was.Used, was.Algorithm
		}
	}
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(dialTime))
	q := p.next(wire.Reach)
	b := make([]byte, wire.Size)
	_, err = conn.Write(q.Append(nil, p.ch.Key, wire.Size))
	if err == nil {
		_, err = io.ReadFull(conn, b)
	}
	_ = conn.Close()
	if a, ok := p.genuine(b); err != nil || !ok || a.Seq != q.Seq {
		// A proxy that takes TLS apart lets nothing else through.
		if err == nil {
			err = &ringfence.Fault{Op: "probe", Kind: ringfence.KindInvalid, Text: "somebody else answers at the end of the way"}
		} else {
			err = &ringfence.Fault{Op: "probe", Kind: ringfence.KindUnavailable, Text: "the way opens, and what is not TLS does not come to its end", Err: root(err)}
		}
		if !slices.Contains(tlsPorts(), port) {
			return err
		}
	} else {
		g.check.Values["outside"] = a.Seen.Addr().String()
	}
	if p.TLS == nil || r.SPKI == "" || !slices.Contains(tlsPorts(), port) {
		return err
	}
	conn, _, err2 := d.Connect(ctx, target)
	if err2 != nil {
		return err2
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(tlsTime))
	s, err2 := p.show(ctx, conn, r)
	switch {
	case err2 != nil:
		return &ringfence.Fault{Op: "probe", Kind: ringfence.KindUnavailable, Text: "the way opens, and TLS does not come about", Err: err2}
	case s.spki != r.SPKI:
		g.check.Values["shown"] = "SPKI " + s.spki + ", issuer " + s.issuer
		return &ringfence.Fault{Op: "probe", Kind: ringfence.KindInsecure, Text: joined(append([]string{fmt.Sprintf("the proxy takes TLS apart: it shows a certificate of %q", s.issuer)}, s.faults(strconv.Itoa(int(port)), r)...))}
	case len(s.faults("", r)) > 0:
		return &ringfence.Fault{Op: "probe", Kind: ringfence.KindInvalid, Text: joined(s.faults(strconv.Itoa(int(port)), r))}
	}
	return nil // what is not TLS has no business at these ports
}

func tlsPorts() []uint16 { return []uint16{443, 8443} }

// products says for each product of the set whether it can use the proxies that were met.
func (p *Prober) products(sources []source, met []*gate) (out []verdict.Check) {
	var means []string
	for _, s := range sources {
		if s.err == nil && !slices.Contains(means, s.means) {
			means = append(means, s.means)
		}
	}
	for _, row := range p.Set.Proxies {
		c := verdict.Check{ID: "proxy/" + row.ID, Kind: "proxy", Rows: []string{row.ID}, Title: "Web proxy for " + row.Product, Status: verdict.Pass, Required: slices.Contains(p.Web.Products, row.ID), Values: map[string]string{}}
		var finds []string
		for _, m := range row.SetUp {
			if slices.Contains(means, m) || m == "os" || m == "gpo" {
				finds = append(finds, m)
			}
		}
		var cannot, lets []string
		for _, g := range met {
			if g.check.Status == verdict.Skip || g.out.Status == 0 {
				continue
			}
			var both []string
			for _, s := range g.out.Offered {
				if slices.Contains(row.Authentication, string(s)) {
					both = append(both, string(s))
				}
			}
			if len(both) > 0 {
				lets = append(lets, g.way.Host+" by "+strings.Join(both, ", "))
			} else if len(g.out.Offered)+len(g.out.Others) > 0 {
				cannot = append(cannot, fmt.Sprintf("%s wants %s, and it has %s", g.way.Host, g.check.Values["authentication"], strings.Join(row.Authentication, ", ")))
			}
		}
		c.Sent = "nothing of its own: what the proxies offered was compared with row " + row.ID
		c.Values["set up by"], c.Values["authentication"] = strings.Join(row.SetUp, ", "), strings.Join(row.Authentication, ", ")
		switch {
		case len(cannot) > 0:
			c.Status, c.Cause = verdict.Warn, verdict.Login
			if c.Required {
				c.Status = verdict.Fail
			}
			c.Seen = "it cannot log in: " + strings.Join(cannot, "; ")
			c.Change = "have the proxy offer " + strings.Join(slices.DeleteFunc(slices.Clone(row.Authentication), func(s string) bool { return s == "none" || s == "basic" }), " or ") + ", or let these names through without a login"
			if !slices.ContainsFunc(row.Authentication, func(s string) bool { return s != "none" && s != "basic" }) {
				c.Change = "let the names of the set through without a login"
			}
		case len(lets) == 0:
			c = skipped(c.ID, c.Kind, c.Title, "no proxy said what it wants")
			c.Rows = []string{row.ID}
		case len(finds) == 0:
			c.Status, c.Cause = verdict.Warn, verdict.Proxy
			c.Seen = fmt.Sprintf("it does not find the proxy by %s", strings.Join(means, ", "))
			c.Change = "set its proxy by " + strings.Join(row.SetUp, " or ")
		default:
			c.Seen = "it finds the proxy by " + strings.Join(finds, ", ") + "; it is let in at " + strings.Join(lets, "; ")
		}
		out = append(out, c)
	}
	return out
}

// direct says what never goes by a proxy, and whether its own way is there.
func (p *Prober) direct(met []*gate) verdict.Check {
	c := verdict.Check{ID: "proxy/direct", Kind: "proxy", Title: "What never goes through a web proxy: SIP and media", Status: verdict.Pass, Values: map[string]string{}}
	state := func(n need.Need) string {
		worst := ""
		for _, k := range p.report.Checks {
			if (k.Kind == "tcp" || k.Kind == "udp") && slices.Contains(k.Rows, n.ID) && (worst == "" || k.Status == verdict.Fail) {
				worst = string(k.Status)
			}
		}
		return worst
	}
	var fine, failed, unknown []string
	for _, n := range p.Set.Needs {
		if n.Direction != p.Direction || slices.Equal(n.Transport, []string{"icmp"}) {
			continue
		}
		s := state(n)
		if n.Web() {
			if s == string(verdict.Fail) && len(met) > 0 {
				c.Values[n.ID] = "the direct way is closed, so only what uses the proxy works"
			}
			continue
		}
		switch s {
		case string(verdict.Pass), string(verdict.Warn):
			fine = append(fine, n.ID)
		case string(verdict.Fail):
			failed = append(failed, n.ID)
		default:
			unknown = append(unknown, n.ID)
		}
	}
	c.Rows = failed
	c.Sent = "nothing of its own: the rows over TCP and UDP were tested without a proxy"
	var seen []string
	for _, part := range []struct {
		text string
		ids  []string
	}{{"the direct way is open for", fine}, {"it is closed for", failed}, {"it was not tested for", unknown}} {
		if len(part.ids) > 0 {
			seen = append(seen, part.text+" "+strings.Join(part.ids, ", "))
		}
	}
	c.Seen = joined(seen)
	switch {
	case len(failed) > 0:
		c.Status, c.Cause, c.Change = verdict.Warn, verdict.Dropped, "open the direct way for these rows at the firewall: no setting of a proxy replaces it"
	case len(fine) == 0:
		c.Status, c.Cause = verdict.Skip, verdict.Untested
	}
	return c
}
