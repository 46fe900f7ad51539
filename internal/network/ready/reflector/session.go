package reflector

import (
	"bufio"
	"bytes"
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/network/ready/wire"
)

// session is a prober that has proved itself.
type session struct {
	id    uint64
	key   []byte
	from  netip.AddrPort
	ports map[portKey]bool // guarded by the reflector

	mu       sync.Mutex
	highest  uint32
	window   [windowSize / 64]uint64 // which of the last numbers have come
	tokens   float64
	filled   time.Time
	streamed uint32
	strays   map[netip.AddrPort]bool
	messages map[uint32]message
	heard    map[netip.AddrPort]bool // from where probes came
}

type message struct {
	bytes []byte
	from  netip.AddrPort
}

const windowSize = 1 << 14

// once reports whether a number comes for the first time; one that is too old to know does not.
func (s *session) once(seq uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case seq > s.highest:
		for n := uint64(s.highest) + 1; n < uint64(seq) && n <= uint64(s.highest)+windowSize; n++ {
			s.window[n%windowSize/64] &^= 1 << (n % 64)
		}
		s.highest = seq
	case seq == 0 || s.highest-seq >= windowSize || s.window[seq%windowSize/64]&(1<<(seq%64)) != 0:
		return false
	}
	s.window[seq%windowSize/64] |= 1 << (seq % 64)
	return true
}

// mayAnswer takes an answer from what a session may have in a second.
func (s *session) mayAnswer(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = min(perSecond, s.tokens+now.Sub(s.filled).Seconds()*perSecond)
	s.filled = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

func (s *session) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streamed++
}

const maxStrays = 8

func (s *session) stray(from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.strays) < maxStrays {
		s.strays[from] = true
	}
}

const maxHeard = 1024

// hear remembers an address of the prober to which something may be sent later.
func (s *session) hear(from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heard) < maxHeard {
		s.heard[from] = true
	}
}

func (s *session) keep(seq uint32, b []byte, from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.messages[seq]; !ok && len(s.messages) < maxSIP && len(b) <= maxMessage {
		s.messages[seq] = message{b, from}
	}
}

// control serves the control channel of a prober until it goes.
func (r *Reflector) control(ctx context.Context, c net.Conn) {
	ch, err := wire.Accept(c, r.Key)
	if err != nil {
		r.log("%s is not let in: %v", c.RemoteAddr(), err)
		return
	}
	now := r.Now()
	s := &session{id: ch.Session, key: ch.Key, from: addrPort(c.RemoteAddr()), ports: map[portKey]bool{}, tokens: perSecond, filled: now, strays: map[netip.AddrPort]bool{}, messages: map[uint32]message{}, heard: map[netip.AddrPort]bool{}}
	r.mu.Lock()
	full := len(r.sessions) >= maxSessions
	if !full {
		r.sessions[s.id] = s
	}
	r.mu.Unlock()
	if full {
		_ = ch.Send(wire.Reply{Error: "too many tests run at this reflector; try again later"})
		return
	}
	defer r.end(s)
	r.log("%s begins a test", s.from)
	defer r.log("%s has ended its test", s.from)
	for r.Now().Sub(now) < longest {
		_ = c.SetDeadline(time.Now().Add(idle))
		var q wire.Request
		if err := ch.Receive(&q); err != nil {
			if ringfence.KindOf(err) == ringfence.KindUnauthenticated {
				r.log("%s: %v", s.from, err)
			}
			return
		}
		if ch.Send(r.do(ctx, s, q)) != nil {
			return
		}
	}
}

func (r *Reflector) do(ctx context.Context, s *session, q wire.Request) wire.Reply {
	switch q.Op {
	case "open":
		if len(q.TCP)+len(q.UDP) > maxAsked {
			return wire.Reply{Error: "at most " + strconv.Itoa(maxAsked) + " ports in one request"}
		}
		not := r.open(ctx, s, "tcp", q.TCP)
		maps.Copy(not, r.open(ctx, s, "udp", q.UDP))
		out := wire.Reply{Unopened: not, From: s.from.String()}
		if r.Second.IsValid() {
			out.Second = r.Second.String()
		}
		return out
	case "counts":
		s.mu.Lock()
		defer s.mu.Unlock()
		out := wire.Reply{Streamed: s.streamed}
		for a := range s.strays {
			out.Strays = append(out.Strays, a.String())
		}
		slices.Sort(out.Strays)
		return out
	case "sip":
		s.mu.Lock()
		defer s.mu.Unlock()
		m, ok := s.messages[q.Seq]
		if !ok {
			return wire.Reply{}
		}
		return wire.Reply{Arrived: true, Message: m.bytes, MessageBy: m.from.String()}
	case "poke":
		return r.poke(s, q)
	case "presented":
		out := wire.Reply{SPKI: r.SPKI, Issuer: r.Issuer, Sockets: r.TLS != nil}
		if r.TLS != nil && len(r.TLS.NextProtos) > 0 {
			out.ALPN = r.TLS.NextProtos[0]
		}
		return out
	}
	return wire.Reply{Error: "this reflector does not know what " + strconv.Quote(q.Op[:min(len(q.Op), 20)]) + " means"}
}

// poke sends an answer that no probe asks for just now, to where one came from before: does the NAT remember?
func (r *Reflector) poke(s *session, q wire.Request) wire.Reply {
	to, err := netip.ParseAddrPort(q.To)
	s.mu.Lock()
	known := err == nil && s.heard[to]
	s.mu.Unlock()
	if !known || len(q.UDP) != 1 || !s.mayAnswer(r.Now()) {
		return wire.Reply{Error: "nothing came from there"}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := portKey{"udp", netip.AddrPortFrom(r.Listen.Addr(), q.UDP[0])}
	if !s.ports[k] {
		return wire.Reply{Error: "that port is not open"}
	}
	now := r.clock()
	_ = r.ports[k].udp.Write(answer(wire.Probe{Kind: wire.Reach, Session: s.id, Seq: q.Seq}, to, wire.NoMark, now, now, s.key, wire.Size), to, 0)
	return wire.Reply{}
}

// readSIP reads what claims to be a SIP message from a stream: its head, and the body that the head announces.
func readSIP(r *bufio.Reader) []byte {
	var b []byte
	length := 0
	for len(b) <= maxMessage {
		line, err := r.ReadSlice('\n')
		if b = append(b, line...); err != nil {
			return nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if f := strings.ToLower(strings.TrimSpace(string(name))); f == "content-length" || f == "l" {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 || length > maxMessage {
				return nil
			}
		}
		if len(bytes.TrimSpace(line)) == 0 {
			for range length {
				c, err := r.ReadByte()
				if err != nil {
					break // an ALG that miscounts leaves the body short
				}
				b = append(b, c)
			}
			return b
		}
	}
	return nil
}
