package probe

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/datagram"
	"ringfence/internal/network/ready/verdict"
	"ringfence/internal/network/ready/wire"
)

// The flows of a prober.
const (
	FlowControl = "ready-control"
	FlowTCP     = "ready-probe-tcp"
	FlowUDP     = "ready-probe-udp"
	FlowWeb     = "ready-web"
	FlowDHCP    = "ready-dhcp"
	FlowDNS     = "ready-dns"
	FlowICMP    = "ready-icmp"
)

// Flows declares what a prober opens.
func Flows() []ringfence.Flow {
	flow := func(name, transport string, d ringfence.Direction, purpose, peers string) ringfence.Flow {
		return ringfence.Flow{Name: name, Purpose: purpose, Room: "network/ready/probe", Direction: d, Transport: transport, Peers: peers, TLS: ringfence.TLSNone}
	}
	return []ringfence.Flow{flow(FlowControl, "tcp", ringfence.Dials, "control of a readiness test, authenticated by a shared key; nothing in it is secret", "the reflector"),
		flow(FlowTCP, "tcp", ringfence.Dials, "probes of a readiness test; they carry nothing but a code that proves their sender", "the reflector"),
		flow(FlowUDP, "udp", ringfence.Listens, "probes of a readiness test; they carry nothing but a code that proves their sender, and questions to time and name servers", "the reflector, and servers that are to be tested"),
		flow(FlowWeb, "tcp", ringfence.Dials, "ways through a web proxy that is to be tested, its auto-configuration file, and a ticket of Kerberos for it", "web proxies, web servers and key distribution centres of the site"),
		flow(FlowDHCP, "udp", ringfence.Listens, "questions for DHCP option 252, from port 68", "the DHCP server that is named"),
		flow(FlowDNS, "tcp", ringfence.Dials, "questions to name servers whose answers are tested", "the name servers that are named, and those of the set"),
		flow(FlowICMP, "icmp", ringfence.Listens, "what machines on the way give back of probes whose hops were counted, and of connections that they refuse", "routers on the way to the reflector")}
}

// Opener opens sockets, also from a port of one's choice.
type Opener interface {
	ListenUDP(ctx context.Context, flow string, addr netip.AddrPort) (net.PacketConn, error)
	DialFrom(ctx context.Context, flow string, from, to netip.AddrPort) (net.Conn, error)
	SourceFor(addr netip.AddrPort) (netip.Addr, error)
	ListenICMP(ctx context.Context, flow string, addr netip.Addr) (net.PacketConn, error)
}

// Carrier knows the host's own tunnels and counts what the host sends; carrier.Host is one.
type Carrier interface {
	Tunnel(local netip.Addr) (name string, ok bool)
	Counters() (datagrams, segments uint64, ok bool)
}

// Config is what is tested, and how.
type Config struct {
	Set       *need.Set
	Version   string
	Direction need.Direction
	Roles     []string // only rows from these roles; none: all
	Rows      []string // only these rows; none: all
	Kinds     []string // only these of [Kinds]; none: all
	Reflector netip.AddrPort
	Key       []byte
	Opener    Opener
	TLS       *tls.Config // of a client that believes everybody, since what it is shown is what is looked at
	Name      string      // the name that it asks for by TLS
	Seed      uint64      // of the random samples
	Between   int         // samples in each range, beside its ends
	Voice     time.Duration
	Lifetime  time.Duration                           // the longest silence after which a NAT is asked whether it remembers; 0: it is not asked
	Flows     int                                     // how many flows at a time the NAT is asked to carry; 0: it is not asked
	Calls     int                                     // how many calls at a time the line is asked to carry; 0: it is not asked
	Carrier   Carrier                                 // nil: tunnels of this host are not looked for
	Web       *Web                                    // how the site reaches the web; nil: without a proxy
	Names     *Names                                  // what is asked of name servers; nil: nothing
	Clocks    []netip.AddrPort                        // time servers of the site that are asked too
	Progress  func(done, total int, what string)      // may be nil
	Again     func(kind string, rows []string) string // the command that makes one test again
	Program   string

	callStep, callHold time.Duration // of the search for how many calls fit; 0: as users have it
}

// Kinds returns the kinds of checks, in the order in which they are made.
func Kinds() []string {
	return []string{"tcp", "udp", "sip", "nat", "dscp", "mtu", "voice", "capacity", "tls", "proxy", "dns", "ntp"}
}

// Prober makes one test.
type Prober struct {
	Config
	rand      *rand.Rand
	local     netip.Addr
	ch        *wire.Channel
	ctrl      net.Conn
	patience  time.Duration // for an answer
	asking    sync.Mutex
	seq       atomic.Uint32
	seenAs    string
	second    netip.Addr
	opened    map[string]string // "udp/5004" -> why it could not be opened, "" if it is
	works     []uint16          // UDP ports that answered
	worksFrom []need.Ports      // from these ports
	looked    bool
	worksT    []uint16         // TCP ports that answered
	known     map[pair]outcome // over TCP, from asking ahead
	report    *verdict.Report
}

const (
	dialTime = 5 * time.Second
	askTime  = 15 * time.Second
)

// Run makes a test. A report comes back even with an error, with what was found until then.
func Run(ctx context.Context, c Config) (*verdict.Report, error) {
	p := &Prober{Config: c, rand: rand.New(rand.NewPCG(c.Seed, 0)), opened: map[string]string{}}
	p.report = &verdict.Report{Format: verdict.Format, Program: c.Program, Set: c.Set.ID, SetTitle: c.Set.Title, SetVersion: c.Version, Reflector: c.Reflector.String(), Began: time.Now().UTC(), Checks: []verdict.Check{},
		Parameters: map[string]string{"seed": fmt.Sprint(c.Seed), "samples in each range": fmt.Sprintf("both ends and %d between", c.Between), "direction": string(c.Direction)}}
	err := p.open(ctx)
	if err == nil {
		defer func() { _ = p.ctrl.Close() }()
		err = p.checks(ctx)
	}
	p.report.Ended, p.report.SeenAs = time.Now().UTC(), p.seenAs
	if p.local.IsValid() {
		p.report.Local = p.local.String()
	}
	if err != nil {
		p.report.Broken = err.Error()
	}
	return p.report, err
}

func (p *Prober) open(ctx context.Context) (err error) {
	if p.local, err = p.Opener.SourceFor(p.Reflector); err != nil {
		return err
	}
	dial, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	p.ctrl, err = p.Opener.DialFrom(dial, FlowControl, netip.AddrPortFrom(p.local, 0), p.Reflector)
	if err != nil {
		return &ringfence.Fault{Op: "probe", Kind: ringfence.KindUnavailable, Text: "no reflector answers at " + p.Reflector.String(), Hint: "is `ringfence ready reflect` running there, and is TCP allowed to that port?", Err: err}
	}
	_ = p.ctrl.SetDeadline(time.Now().Add(askTime))
	if p.ch, err = wire.Dial(p.ctrl, p.Key); err != nil {
		_ = p.ctrl.Close()
		return err
	}
	// The first question shows the reflector whether we know the key.
	began := time.Now()
	r, err := p.ask(ctx, wire.Request{Op: "open"})
	p.patience = min(max(4*time.Since(began)+60*time.Millisecond, 80*time.Millisecond), time.Second)
	p.report.Parameters["probes"] = fmt.Sprintf("at most %d for each UDP port, and %v for each answer", tries, p.patience.Round(time.Millisecond))
	if err != nil {
		_ = p.ctrl.Close()
		return &ringfence.Fault{Op: "probe", Kind: ringfence.KindOf(err), Text: "the reflector ended the control channel", Hint: "its log says why; a wrong key is one reason", Err: err}
	}
	if a, err := netip.ParseAddrPort(r.From); err == nil {
		p.seenAs = a.Addr().String()
	}
	p.second, _ = netip.ParseAddr(r.Second)
	return nil
}

// ask puts a question to the reflector.
func (p *Prober) ask(ctx context.Context, q wire.Request) (r wire.Reply, err error) {
	p.asking.Lock()
	defer p.asking.Unlock()
	defer context.AfterFunc(ctx, func() { _ = p.ctrl.SetDeadline(time.Unix(1, 0)) })()
	_ = p.ctrl.SetDeadline(time.Now().Add(askTime))
	if err = p.ch.Send(q); err == nil {
		err = p.ch.Receive(&r)
	}
	bound(&r)
	switch {
	case ctx.Err() != nil:
		return r, &ringfence.Fault{Op: "probe", Kind: ringfence.KindCancelled, Text: "the test was stopped"}
	case ringfence.KindOf(err) == ringfence.KindUnavailable:
		return r, &ringfence.Fault{Op: "probe", Kind: ringfence.KindUnavailable, Text: "the reflector stopped answering", Hint: "see its log; if it still runs, something on the way cuts TCP connections that were open", Err: errors.Unwrap(err)}
	case err != nil:
		return r, err
	case r.Error != "":
		return r, &ringfence.Fault{Op: "probe", Kind: ringfence.KindUnavailable, Text: "the reflector: " + r.Error}
	}
	return r, nil
}

// maxSaid bounds each thing that a reflector says in words, in bytes.
const maxSaid = 300

// bound leaves of a reply what can be meant: a reflector with the key can lie still, but not at length, and only in the form of what it was asked for.
func bound(r *wire.Reply) {
	clip := func(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxSaid)], "?") }
	r.Error, r.Issuer, r.ALPN = clip(r.Error), clip(r.Issuer), clip(r.ALPN)
	for name, why := range r.Unopened {
		r.Unopened[name] = cmp.Or(clip(why), "no reason given")
	}
	if b, err := hex.DecodeString(r.SPKI); err != nil || len(b) != sha256.Size {
		r.SPKI = ""
	}
	if _, err := netip.ParseAddrPort(r.From); err != nil {
		r.From = ""
	}
	r.Strays = slices.DeleteFunc(r.Strays, func(s string) bool { _, err := netip.ParseAddrPort(s); return err != nil })
	r.Strays = r.Strays[:min(len(r.Strays), 8)]
	r.Message = r.Message[:min(len(r.Message), wire.MaxSize)]
}

// need opens ports at the reflector, and returns those that are open.
func (p *Prober) need(ctx context.Context, transport string, ports []uint16) (open []uint16, err error) {
	name := func(q uint16) string { return fmt.Sprintf("%s/%d", transport, q) }
	var ask []uint16
	for _, q := range ports {
		if _, known := p.opened[name(q)]; !known {
			ask = append(ask, q)
		}
	}
	for some := range slices.Chunk(ask, 256) {
		q := wire.Request{Op: "open", TCP: some}
		if transport == "udp" {
			q = wire.Request{Op: "open", UDP: some}
		}
		r, err := p.ask(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, port := range some {
			p.opened[name(port)] = r.Unopened[name(port)]
		}
	}
	for _, q := range ports {
		if p.opened[name(q)] == "" {
			open = append(open, q)
		}
	}
	return open, nil
}

func (p *Prober) wants(kind string) bool { return len(p.Kinds) == 0 || slices.Contains(p.Kinds, kind) }

// checks makes all checks, in order.
func (p *Prober) checks(ctx context.Context) error {
	items := plan(p.Set, p.Direction, p.Roles, p.Rows)
	for n := range items {
		items[n].froms, items[n].tos = sample(items[n].from, 2, p.rand), sample(items[n].to, p.Between, p.rand)
	}
	type part struct {
		what string
		run  func(context.Context) ([]verdict.Check, error)
	}
	one := func(run func(context.Context) (verdict.Check, error)) func(context.Context) ([]verdict.Check, error) {
		return func(ctx context.Context) ([]verdict.Check, error) {
			c, err := run(ctx)
			return []verdict.Check{c}, err
		}
	}
	var steps []part
	for _, kind := range []string{"tcp", "udp", "icmp"} {
		for _, i := range items {
			if i.transport == kind && (p.wants(kind) || kind == "icmp" && len(p.Kinds) == 0) {
				steps = append(steps, part{kind + " " + i.row.ID, one(func(ctx context.Context) (verdict.Check, error) { return p.ports(ctx, i) })})
			}
		}
	}
	for _, k := range []struct {
		kind string
		run  func(context.Context) (verdict.Check, error)
	}{{"sip", p.gateways}, {"nat", p.nat}, {"dscp", p.marks}, {"mtu", p.pathMTU}, {"capacity", p.capacity}, {"tls", p.interception}} {
		if k.kind == "capacity" && p.wants("voice") {
			steps = append(steps, part{"voice", p.voice})
		}
		if p.wants(k.kind) && (k.kind != "capacity" || p.Calls > 0) {
			steps = append(steps, part{k.kind, one(k.run)})
		}
	}
	if p.Web != nil && p.wants("proxy") {
		steps = append(steps, part{"proxy", p.proxies})
	}
	if p.Config.Names != nil && p.wants("dns") {
		steps = append(steps, part{"dns", p.names})
	}
	for _, server := range p.Clocks {
		if p.wants("ntp") {
			steps = append(steps, part{"ntp", one(func(ctx context.Context) (verdict.Check, error) { return p.clock(ctx, server) })})
		}
	}
	if p.wants("tcp") {
		if p.Progress != nil {
			p.Progress(0, len(steps), "tcp, all rows")
		}
		if err := p.ahead(ctx, items); err != nil {
			return err
		}
	}
	for n, s := range steps {
		if p.Progress != nil {
			p.Progress(n, len(steps), s.what)
		}
		began := time.Now()
		found, err := s.run(ctx)
		if err == nil && ctx.Err() != nil {
			err = &ringfence.Fault{Op: "probe", Kind: ringfence.KindCancelled, Text: "the test was stopped"}
		}
		if err == nil && slices.ContainsFunc(found, func(c verdict.Check) bool { return c.Status != verdict.Pass && c.Status != verdict.Skip }) {
			_, err = p.ask(ctx, wire.Request{Op: "counts"}) // a reflector that is gone is no fault of the network
		}
		if err != nil {
			return err
		}
		for _, c := range found {
			c.Took = time.Since(began).Seconds() / float64(len(found))
			if c.Again == "" && c.Status != verdict.Pass && p.Again != nil {
				c.Again = p.Again(c.Kind, c.Rows)
			}
			p.report.Checks = append(p.report.Checks, c)
		}
	}
	if p.Progress != nil {
		p.Progress(len(steps), len(steps), "done")
	}
	return nil
}

// listen opens a socket for probes at a port of ours; 0 is any.
func (p *Prober) listen(ctx context.Context, port uint16) (*datagram.Conn, error) {
	pc, err := p.Opener.ListenUDP(ctx, FlowUDP, netip.AddrPortFrom(p.local, port))
	if err != nil {
		return nil, err
	}
	return datagram.New(pc), nil
}

// next returns a probe with the next number.
func (p *Prober) next(kind wire.Kind) wire.Probe {
	return wire.Probe{Kind: kind, Session: p.ch.Session, Seq: p.seq.Add(1), Sent: time.Now().UnixNano()}
}

// genuine reads an answer to one of our probes.
func (p *Prober) genuine(b []byte) (wire.Probe, bool) {
	a, err := wire.ParseProbe(b)
	return a, err == nil && a.Answer && a.Session == p.ch.Session && wire.Genuine(b, p.ch.Key)
}

// skipped is a check that could not be made.
func skipped(id, kind, title, why string) verdict.Check {
	return verdict.Check{ID: id, Kind: kind, Title: title, Status: verdict.Skip, Seen: why, Cause: verdict.Untested}
}

func joined(all []string) string { return strings.Join(all, "; ") }
