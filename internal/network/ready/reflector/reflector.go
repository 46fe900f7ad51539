package reflector

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/network/need"
	"ringfence/internal/network/ready/datagram"
	"ringfence/internal/network/ready/wire"
)

// The flows of a reflector.
const (
	FlowTCP = "ready-tcp"
	FlowUDP = "ready-udp"
)

// Flows declares what a reflector listens on.
func Flows() []ringfence.Flow {
	flow := func(name, transport, purpose string) ringfence.Flow {
		return ringfence.Flow{Name: name, Purpose: purpose + "; the probes in it carry nothing but a code that proves their sender", Room: "network/ready/reflector", Direction: ringfence.Listens, Transport: transport,
			Peers: "probers with the key", TLS: ringfence.TLSNone}
	}
	return []ringfence.Flow{flow(FlowTCP, "tcp", "the far end of a readiness test: control and probes"), flow(FlowUDP, "udp", "the far end of a readiness test: probes")}
}

// Config is what a reflector is made of.
type Config struct {
	Listen netip.AddrPort // of the control channel; probes come to the same address
	Second netip.Addr     // another address of this host, to tell kinds of NAT apart; may be invalid
	Key    []byte
	Allow  []need.Ports // which ports a prober may have opened
	Opener ringfence.Opener
	TLS    *tls.Config // with a certificate of its own; nil: no TLS
	SPKI   string      // SHA-256 of its key, hex
	Issuer string
	Now    func() time.Time
	Log    func(text string) // may be nil
}

const (
	maxSessions = 8
	maxPorts    = 2048 // of one session
	maxAsked    = 512  // ports in one request
	maxConns    = 256
	maxPerAddr  = 64
	connTime    = 10 * time.Second
	idle        = 10 * time.Minute
	longest     = time.Hour
	perSecond   = 1000 // datagrams of one session that are answered
	maxSIP      = 64   // SIP messages that are kept for one session
	maxMessage  = 4096
)

// Reflector is one that runs.
type Reflector struct {
	Config
	start    time.Time
	mu       sync.Mutex
	sessions map[uint64]*session
	ports    map[portKey]*port
	conns    map[netip.Addr]int
	total    int
	wg       sync.WaitGroup
}

type portKey struct {
	transport string
	at        netip.AddrPort
}

type port struct {
	users int
	ln    net.Listener
	udp   *datagram.Conn
}

// New checks a configuration.
func New(c Config) (*Reflector, error) {
	if len(c.Key) < wire.MinKey {
		return nil, &ringfence.Fault{Op: "reflector.new", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("the key has %d bytes; %d is the least", len(c.Key), wire.MinKey), Hint: "`ringfence ready reflect --key-file ready.key` makes the file if it is not there"}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Reflector{Config: c, start: c.Now(), sessions: map[uint64]*session{}, ports: map[portKey]*port{}, conns: map[netip.Addr]int{}}, nil
}

func (r *Reflector) log(format string, args ...any) {
	if r.Log != nil {
		r.Log(fmt.Sprintf(format, args...))
	}
}

func (r *Reflector) clock() int64 { return int64(r.Now().Sub(r.start)) }

// Serve answers until the context ends. Ready is told where the control channel listens.
func (r *Reflector) Serve(ctx context.Context, ready func(netip.AddrPort)) error {
	ctx, stop := context.WithCancel(ctx)
	defer r.wg.Wait()
	defer stop()
	ln, err := r.Opener.Listen(ctx, FlowTCP, r.Listen)
	if err != nil {
		return err
	}
	at := addrPort(ln.Addr())
	r.Listen = at
	r.mu.Lock()
	r.ports[portKey{"tcp", at}] = &port{users: 1, ln: ln} // its last user is the reflector itself
	r.mu.Unlock()
	ready(at)
	r.wg.Go(func() { r.accept(ctx, ln) })
	<-ctx.Done()
	r.mu.Lock()
	for _, p := range r.ports {
		p.close()
	}
	r.mu.Unlock()
	return nil
}

func (p *port) close() {
	if p.ln != nil {
		_ = p.ln.Close()
	} else {
		_ = p.udp.Close()
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		p = a.AddrPort()
	case *net.UDPAddr:
		p = a.AddrPort()
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

func (r *Reflector) accept(ctx context.Context, ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		from := addrPort(c.RemoteAddr()).Addr()
		r.mu.Lock()
		full := r.total >= maxConns || r.conns[from] >= maxPerAddr
		if !full {
			r.total++
			r.conns[from]++
		}
		r.mu.Unlock()
		if full {
			_ = c.Close()
			continue
		}
		r.wg.Go(func() {
			cut := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer func() {
				cut()
				_ = c.Close()
				r.mu.Lock()
				if r.total--; r.conns[from] > 1 {
					r.conns[from]--
				} else {
					delete(r.conns, from)
				}
				r.mu.Unlock()
			}()
			r.stream(ctx, c)
		})
	}
}

// peeked is a connection whose first bytes were looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// stream serves a connection: what it is shows in its first bytes. Strangers get no answer.
func (r *Reflector) stream(ctx context.Context, c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(connTime))
	p := &peeked{c, bufio.NewReaderSize(c, wire.MaxSize)}
	head, err := p.r.Peek(4)
	if err != nil {
		return
	}
	switch {
	case string(head) == wire.Greeting:
		r.control(ctx, p)
	case string(head) == wire.Magic:
		b := make([]byte, wire.Size)
		if _, err := io.ReadFull(p, b); err != nil {
			return
		}
		came := r.clock()
		probe, err := wire.ParseProbe(b)
		if err != nil || probe.Answer {
			return
		}
		if s := r.session(probe.Session); s != nil && wire.Genuine(b, s.key) && s.once(probe.Seq) && s.mayAnswer(r.Now()) {
			_, _ = c.Write(answer(probe, addrPort(c.RemoteAddr()), wire.NoMark, came, r.clock(), s.key, wire.Size))
		}
	case head[0] == 0x16 && r.TLS != nil && r.inUse():
		if t := tls.Server(p, r.TLS); t.HandshakeContext(ctx) == nil {
			r.socket(t, addrPort(c.RemoteAddr()))
		}
	default:
		r.message(readSIP(p.r), addrPort(c.RemoteAddr()))
	}
}

// socket answers a probe through a web socket within TLS, if a session asks for it.
func (r *Reflector) socket(t *tls.Conn, from netip.AddrPort) {
	in := bufio.NewReader(t)
	key, b, err := wire.ParseSocketRequest(in)
	if err != nil {
		return
	}
	genuine := func(b []byte) (wire.Probe, *session) {
		probe, err := wire.ParseProbe(b)
		if err != nil || probe.Answer {
			return probe, nil
		}
		if s := r.session(probe.Session); s != nil && wire.Genuine(b, s.key) && s.once(probe.Seq) && s.mayAnswer(r.Now()) {
			return probe, s
		}
		return probe, nil
	}
	if _, s := genuine(b); s == nil {
		return
	}
	if _, err := t.Write(wire.SocketResponse(key)); err != nil {
		return
	}
	if b, err = wire.ParseFrame(in, true); err != nil {
		return
	}
	came := r.clock()
	if probe, s := genuine(b); s != nil {
		_, _ = t.Write(wire.Frame(answer(probe, from, wire.NoMark, came, r.clock(), s.key, wire.Size), nil))
	}
}

func (r *Reflector) inUse() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions) > 0
}

func (r *Reflector) session(id uint64) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[id]
}

// message keeps a SIP message for the session that its token names.
func (r *Reflector) message(b []byte, from netip.AddrPort) {
	t, ok := wire.ParseToken(b)
	if !ok {
		return
	}
	if s := r.session(t.Session); s != nil && t.Genuine(s.key) {
		s.keep(t.Seq, b, from)
	}
}

func answer(p wire.Probe, seen netip.AddrPort, mark uint8, came, left int64, key []byte, size int) []byte {
	p.Answer, p.Seen, p.SeenMark, p.Came, p.Left = true, seen, mark, came, left
	return p.Append(nil, key, size)
}

// datagrams answers what comes to a UDP port.
func (r *Reflector) datagrams(c *datagram.Conn) {
	b := make([]byte, wire.MaxSize+1)
	for {
		n, from, mark, err := c.Read(b)
		if err != nil {
			return
		}
		came := r.clock()
		_ = c.Refusals() // the kernel keeps them until somebody looks
		p, err := wire.ParseProbe(b[:n])
		if err != nil {
			r.message(slices.Clone(b[:n]), from)
			continue
		}
		s := r.session(p.Session)
		if s == nil || p.Answer || !wire.Genuine(b[:n], s.key) || !s.once(p.Seq) {
			continue
		}
		if from.Addr() != s.from.Addr() { // a NAT with several addresses, or a copy with a forged sender: it is told of, not answered
			s.stray(from)
			continue
		}
		if !s.mayAnswer(r.Now()) {
			continue
		}
		s.hear(from)
		size, by := wire.Size, c
		if p.Whole {
			size = n
		}
		if p.Kind == wire.Stream {
			s.count()
		}
		if p.Kind == wire.Elsewhere || p.Kind == wire.Afar {
			if by = r.another(s, addrPort(c.LocalAddr()), p.Kind == wire.Afar); by == nil {
				continue
			}
		}
		if by.Write(answer(p, from, mark, came, r.clock(), s.key, size), from, p.Mark) != nil && size > wire.Size { // known to be too long for the way back
			_ = by.Write(answer(p, from, mark, came, r.clock(), s.key, wire.Size), from, p.Mark)
		}
	}
}

// another returns a socket of a session with another port, or with another address too.
func (r *Reflector) another(s *session, not netip.AddrPort, afar bool) *datagram.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range s.ports {
		if k.transport == "udp" && k.at.Port() != not.Port() && (k.at.Addr() != not.Addr()) == afar {
			return r.ports[k].udp
		}
	}
	return nil
}

// open opens ports for a session, and says which it could not.
func (r *Reflector) open(ctx context.Context, s *session, transport string, numbers []uint16) map[string]string {
	not := map[string]string{}
	for _, n := range numbers {
		name := transport + "/" + strconv.Itoa(int(n))
		if n == 0 || !slices.ContainsFunc(r.Allow, func(p need.Ports) bool { return ringfence.PortRange(p).Contains(n) }) {
			not[name] = "the reflector is told not to open it"
			continue
		}
		addrs := []netip.Addr{r.Listen.Addr()}
		if transport == "udp" && r.Second.IsValid() {
			addrs = append(addrs, r.Second)
		}
		for _, a := range addrs {
			if err := r.openOne(ctx, s, portKey{transport, netip.AddrPortFrom(a, n)}); err != nil {
				not[name] = err.Error()
			}
		}
	}
	return not
}

func (r *Reflector) openOne(ctx context.Context, s *session, k portKey) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.ports[k] {
		return nil
	}
	if len(s.ports) >= maxPorts {
		return &ringfence.Fault{Op: "reflector.open", Kind: ringfence.KindOverload, Text: fmt.Sprintf("a session may open %d ports", maxPorts)}
	}
	p := r.ports[k]
	if p == nil {
		p = &port{}
		if k.transport == "tcp" {
			ln, err := r.Opener.Listen(ctx, FlowTCP, k.at)
			if err != nil {
				return err
			}
			p.ln = ln
			r.wg.Go(func() { r.accept(ctx, ln) })
		} else {
			pc, err := r.Opener.ListenUDP(ctx, FlowUDP, k.at)
			if err != nil {
				return err
			}
			p.udp = datagram.New(pc)
			p.udp.Whole()
			r.wg.Go(func() { r.datagrams(p.udp) })
		}
		r.ports[k] = p
	}
	p.users++
	s.ports[k] = true
	return nil
}

// end closes what only this session used.
func (r *Reflector) end(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s.id)
	for k := range s.ports {
		if p := r.ports[k]; p.users > 1 {
			p.users--
		} else {
			p.close()
			delete(r.ports, k)
		}
	}
}
