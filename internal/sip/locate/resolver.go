package locate

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"ringfence"
)

// How long answers are remembered at most, whatever they say.
const (
	longest         = time.Hour
	longestNegative = 5 * time.Minute
	briefNegative   = 30 * time.Second // where nothing says how long
)

// The names of the flows that a resolver opens.
const (
	FlowUDP = "dns"
	FlowTCP = "dns-tcp"
)

// Flows declares what a resolver needs of the network.
func Flows(servers []netip.AddrPort) []ringfence.Flow {
	var ports ringfence.PortRange // different ports: any
	for i, s := range servers {
		p := ringfence.PortRange{First: s.Port(), Last: s.Port()}
		if i > 0 && p != ports {
			ports = ringfence.PortRange{}
			break
		}
		ports = p
	}
	f := ringfence.Flow{Name: FlowUDP, Purpose: "SIP servers are looked up; what DNS says is not trusted, the certificate decides", Room: "sip/locate",
		Direction: ringfence.Dials, Transport: "udp", Ports: ports, Peers: "DNS servers", TLS: ringfence.TLSNone}
	g := f
	g.Name, g.Transport, g.Purpose = FlowTCP, "tcp", "SIP servers are looked up where the answer is too long for a datagram"
	return []ringfence.Flow{f, g}
}

// Opener opens the sockets of a resolver.
type Opener interface {
	Dial(ctx context.Context, flow string, addr netip.AddrPort) (net.Conn, error)
	// DialUDP returns a socket that hears from addr only.
	DialUDP(ctx context.Context, flow string, addr netip.AddrPort) (net.Conn, error)
}

// Config holds what a Resolver needs.
type Config struct {
	Opener  Opener
	Servers []netip.AddrPort        // asked in this order; none: only addresses and Hosts are known
	Hosts   map[string][]netip.Addr // names that DNS is not asked about, in lower case
	Search  []string                // domains to try behind a name without a dot
	Timeout time.Duration           // of one try; 2 s
	Tries   int                     // rounds over the servers; 2
	Entries int                     // answers remembered; 1,024
	// Rand returns a number from 0 to n-1, for the weights of SRV records; nil: math/rand/v2.
	Rand func(n uint32) uint32
}

// Resolver finds servers. Its methods may be called from any goroutine.
type Resolver struct {
	cfg Config

	mu    sync.Mutex
	cache map[key]entry
	avoid map[netip.AddrPort]time.Time
}

type key struct {
	name string
	typ  dnsmessage.Type
}

type entry struct {
	answer  Answer
	expires time.Time
}

// New returns a resolver that has asked nothing yet.
func New(cfg Config) *Resolver {
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.Tries == 0 {
		cfg.Tries = 2
	}
	if cfg.Entries == 0 {
		cfg.Entries = 1024
	}
	if cfg.Rand == nil {
		cfg.Rand = mrand.Uint32N
	}
	return &Resolver{cfg: cfg, cache: map[key]entry{}, avoid: map[netip.AddrPort]time.Time{}}
}

// lookup returns the records of a name, from memory if they are fresh. A name that does not exist has none, which is no error.
func (r *Resolver) lookup(ctx context.Context, name string, typ dnsmessage.Type) (Answer, error) {
	k := key{strings.ToLower(name), typ}
	r.mu.Lock()
	e, ok := r.cache[k]
	r.mu.Unlock()
	if ok && time.Now().Before(e.expires) {
		return e.answer, nil
	}
	a, err := r.ask(ctx, k.name, typ)
	if err == nil {
		r.remember(k, a)
	}
	return a, err
}

func (r *Resolver) remember(k key, a Answer) {
	if a.TTL <= 0 {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cache) >= r.cfg.Entries {
		for old, e := range r.cache {
			if !now.Before(e.expires) {
				delete(r.cache, old)
			}
		}
		for old := range r.cache { // still full: any one
			if len(r.cache) < r.cfg.Entries {
				break
			}
			delete(r.cache, old)
		}
	}
	r.cache[k] = entry{a, now.Add(a.TTL)}
}

// ask puts the question to each server until one answers it.
func (r *Resolver) ask(ctx context.Context, name string, typ dnsmessage.Type) (Answer, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil || name == "" {
		return Answer{}, fault(ringfence.KindInvalid, fmt.Sprintf("%.80q is no name of a host", name), "", err)
	}
	if len(r.cfg.Servers) == 0 {
		return Answer{}, fault(ringfence.KindUnavailable, "no DNS server is known to ask about "+name, "name one, or use an address", nil)
	}
	var last error
	for range r.cfg.Tries {
		for _, server := range r.cfg.Servers {
			a, err := r.exchange(ctx, server, n, typ)
			if err == nil && a.failed != dnsmessage.RCodeSuccess && a.failed != dnsmessage.RCodeNameError {
				err = fmt.Errorf("%s answers %s", server, a.failed)
			}
			if err == nil {
				return a, nil
			}
			last = err
			if ctx.Err() != nil {
				return Answer{}, fault(ringfence.KindTimeout, "DNS did not answer about "+name+" in time", "", ctx.Err())
			}
		}
	}
	return Answer{}, fault(ringfence.KindUnavailable, "no DNS server answers about "+name, "check the DNS servers of this host, or use an address", last)
}

// exchange asks one server over UDP, and over TCP if the answer did not fit (RFC 7766).
func (r *Resolver) exchange(ctx context.Context, server netip.AddrPort, name dnsmessage.Name, typ dnsmessage.Type) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails
	id := binary.BigEndian.Uint16(random[:])
	q, err := question(id, name, typ) // two bytes for the length stand before it
	if err != nil {
		return Answer{}, err
	}
	plain := trimDot(name.String())
	c, err := r.cfg.Opener.DialUDP(ctx, FlowUDP, server)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = c.Close() }()
	stop := expire(ctx, c)
	defer stop()
	if _, err := c.Write(q[2:]); err != nil {
		return Answer{}, err
	}
	buf := make([]byte, maxDatagram)
	for range 16 { // forged answers are passed over, but not for ever
		n, err := c.Read(buf)
		if err != nil {
			return Answer{}, err
		}
		a, err := ParseAnswer(buf[:n], id, plain, uint16(typ))
		switch {
		case err != nil:
			continue
		case a.Truncated:
			return r.stream(ctx, server, q, id, plain, typ)
		}
		return a, nil
	}
	return Answer{}, fault(ringfence.KindInvalid, "nothing but malformed answers came from "+server.String(), "", nil)
}

func (r *Resolver) stream(ctx context.Context, server netip.AddrPort, q []byte, id uint16, name string, typ dnsmessage.Type) (Answer, error) {
	c, err := r.cfg.Opener.Dial(ctx, FlowTCP, server)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = c.Close() }()
	stop := expire(ctx, c)
	defer stop()
	binary.BigEndian.PutUint16(q, uint16(len(q)-2))
	if _, err := c.Write(q); err != nil {
		return Answer{}, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return Answer{}, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > maxStream {
		return Answer{}, fault(ringfence.KindInvalid, "the answer of "+server.String()+" is too long", "", nil)
	}
	msg := make([]byte, n)
	if _, err := io.ReadFull(c, msg); err != nil {
		return Answer{}, err
	}
	a, err := ParseAnswer(msg, id, name, uint16(typ))
	if err == nil && a.Truncated {
		err = fault(ringfence.KindInvalid, "the answer of "+server.String()+" is truncated over TCP", "", nil)
	}
	return a, err
}

// expire makes what waits on c fail when ctx ends.
func expire(ctx context.Context, c net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
}

// Avoid makes addr the last choice for a while: it did not answer in time, or said 503 (RFC 3263 section 4.3).
func (r *Resolver) Avoid(addr netip.AddrPort, d time.Duration) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for a, until := range r.avoid {
		if !now.Before(until) {
			delete(r.avoid, a)
		}
	}
	if len(r.avoid) < r.cfg.Entries {
		r.avoid[addr] = now.Add(d)
	}
}

func (r *Resolver) avoided(addr netip.AddrPort, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.avoid[addr])
}
