package relay

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"ringfence/internal/media/rtp"
)

// latch remembers the address that authenticated packets come from.
type latch struct {
	addr  netip.AddrPort // proven, if valid
	other netip.AddrPort // a new place that packets have begun to come from
	run   int            // packets in a row from there
}

// moves is how many packets in a row must come from a new address before media follows it there.
const moves = 3

// learn takes the source of an authenticated packet and reports whether media shall go there from now on.
func (l *latch) learn(from netip.AddrPort) bool {
	switch {
	case l.addr == from:
		l.run = 0
		return false
	case l.addr.IsValid() && l.other != from:
		l.other, l.run = from, 1
		return false
	case l.addr.IsValid() && l.run+1 < moves:
		l.run++
		return false
	}
	*l = latch{addr: from}
	return true
}

// route is the stream that was last relayed to a leg.
type route struct {
	from *Endpoint
	ssrc uint32 // as the source sends it
	last uint16 // newest sequence number
	mask uint32 // xored onto the SSRC
}

// receive handles one datagram that arrived at p. s.in[:n] holds it; in.mu is held on entry and released here, so that
// callbacks and the other leg see no lock.
func (p *Endpoint) receive(s *scratch, n int, from netip.AddrPort, at time.Duration, control bool) {
	in := &p.in
	b := s.in[:n]
	if in.closed || in.opener == nil {
		in.early++
		in.mu.Unlock()
		return
	}
	if in.plain != "" && !in.expects(from, index(control)) {
		in.rejected++
		in.mu.Unlock()
		return
	}
	if rtp.IsRTCP(b) {
		p.receiveControl(s, b, from, at, control)
		return
	}
	var err error
	h := &s.header // not a local, which a tap would force onto the heap
	if *h, err = rtp.ParseHeader(b); err != nil || control {
		in.rejected++
		in.mu.Unlock()
		return
	}
	clear, fresh := p.open(s, b, at, (*rtp.Opener).RTP)
	if clear == nil {
		in.rejected++
		in.mu.Unlock()
		return
	}
	if fresh {
		p.proven(from, at, 0)
	}
	in.measure.Packet(h, at)
	if !in.dir.receives() {
		in.mu.Unlock()
		return
	}
	var digit rune
	var pressed bool
	if in.onDigit != nil && h.PayloadType == in.events {
		digit, pressed = in.press(h, clear)
	}
	onDigit, tap := in.onDigit, in.tap
	if m := in.mapped; m != nil {
		clear[1] = clear[1]&0x80 | m[h.PayloadType]
	}
	in.mu.Unlock()

	if pressed {
		onDigit(digit)
	}
	if tap != nil {
		if payload, err := h.Payload(clear); err == nil {
			tap(h, payload, at)
		}
	}
	if q := p.peer.Load(); q != nil {
		q.relay(p, h, clear)
	}
}

// expects says whether a clear packet may be the peer's: see [Endpoint.SetPlain].
func (in *inbound) expects(from netip.AddrPort, i int) bool {
	if known := in.proven[i].addr; known.IsValid() {
		return from == known
	}
	return from == in.signal[i] || in.via.IsValid() && from.Addr() == in.via
}

// open tries the peer's keys, and for a while after new ones were set also those before. fresh is false for a packet under
// the old keys, which proves nothing about where the peer is now. It returns nil if neither opens the packet.
func (p *Endpoint) open(s *scratch, b []byte, at time.Duration, open func(*rtp.Opener, []byte, []byte) ([]byte, error)) (clear []byte, fresh bool) {
	in := &p.in
	if in.old != nil && at > in.oldEnds {
		in.old = nil
	}
	if in.old == nil {
		clear, err := open(in.opener, b[:0], b)
		if err != nil {
			return nil, false
		}
		return clear, true
	}
	// A failed attempt may wipe its output, so neither attempt opens in place.
	clear, err := open(in.opener, s.alt[:0], b)
	if err == nil {
		return clear, true
	}
	if errors.Is(err, rtp.ErrForged) {
		if clear, err = open(in.old, s.alt[:0], b); err == nil {
			return clear, false
		}
	}
	return nil, false
}

// proven notes an authenticated packet.
func (p *Endpoint) proven(from netip.AddrPort, at time.Duration, i int) {
	p.heard.Store(int64(at))
	p.in.quiet = false
	if p.in.proven[i].learn(from) && usable(from) {
		to := from // only a move costs memory
		p.dest[i].Store(&to)
	}
}

// press reports a key press that was not told before. All packets of one event share a timestamp (RFC 4733 section 2.5.1).
func (in *inbound) press(h *rtp.Header, clear []byte) (rune, bool) {
	payload, err := h.Payload(clear)
	if err != nil {
		return 0, false
	}
	ev, err := rtp.ParseEvent(payload)
	if err != nil {
		return 0, false
	}
	digit, ok := ev.Digit()
	if !ok || in.evented && in.eventAt == h.Timestamp && in.eventOf == h.SSRC {
		return 0, false
	}
	in.evented, in.eventAt, in.eventOf = true, h.Timestamp, h.SSRC
	return digit, true
}

func (p *Endpoint) receiveControl(s *scratch, b []byte, from netip.AddrPort, at time.Duration, control bool) {
	in := &p.in
	clear, fresh := p.open(s, b, at, (*rtp.Opener).RTCP)
	if clear == nil || rtp.ParseRTCP(clear, &s.control) != nil {
		in.rejected++
		in.mu.Unlock()
		return
	}
	if fresh {
		p.proven(from, at, index(control))
	}
	c := &s.control
	if c.IsSender {
		in.measure.SenderReport(c.Sender, at)
	}
	if c.Count > 0 {
		r := c.Blocks[0]
		in.remote = RemoteView{Fraction: float64(r.Fraction) / 256, Lost: r.Lost, Jitter: r.Jitter, Reports: in.remote.Reports + 1}
	}
	in.mu.Unlock()
	if q := p.peer.Load(); q != nil {
		q.relayControl(p, clear)
	}
}

// relay seals a packet that came from another leg and sends it. b is in clear and has room for the tag.
func (p *Endpoint) relay(from *Endpoint, h *rtp.Header, b []byte) {
	out := &p.out
	out.mu.Lock()
	defer out.mu.Unlock()
	if out.closed || out.sealer == nil || !out.dir.sends() || out.playing != nil {
		return
	}
	to := p.dest[0].Load()
	if to == nil {
		return
	}
	if r := &out.route; r.from == from && r.ssrc == h.SSRC {
		if d := int16(h.Sequence - r.last); d > 16384 || d < -16384 {
			p.reroute(from, h)
		} else if d > 0 {
			r.last = h.Sequence
		}
	} else {
		p.reroute(from, h)
	}
	if m := out.route.mask; m != 0 {
		binary.BigEndian.PutUint32(b[8:], h.SSRC^m)
	}
	sealed, err := out.sealer.RTP(b[:0], b)
	if err != nil {
		return
	}
	if out.socks[0].send(sealed, *to) == nil {
		out.packets++
	}
}

// reroute begins to relay a stream: under its own SSRC if that was never sealed here and the peer
// has not seen it under other keys, else under a fresh one.
func (p *Endpoint) reroute(from *Endpoint, h *rtp.Header) {
	mask := uint32(0)
	for p.out.fresh || p.out.sealer.Sealed(h.SSRC^mask) {
		mask, p.out.fresh = randomWord(), false
	}
	p.out.route = route{from: from, ssrc: h.SSRC, last: h.Sequence, mask: mask}
	p.mask.Store(mask)
}

func randomWord() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

func (p *Endpoint) relayControl(from *Endpoint, b []byte) {
	back := from.mask.Load() // what the reporter saw on the SSRCs it reports on
	out := &p.out
	out.mu.Lock()
	defer out.mu.Unlock()
	if out.closed || out.sealer == nil {
		return
	}
	forth := uint32(0)
	if out.route.from == from {
		forth = out.route.mask
	}
	if forth|back != 0 {
		maskControl(b, forth, back)
	}
	p.sendControl(b)
}

// sendControl seals a compound RTCP packet in place and sends it. out.mu is held.
func (p *Endpoint) sendControl(b []byte) {
	i := 1
	if p.mux.Load() {
		i = 0
	}
	to := p.dest[i].Load()
	if to == nil {
		return
	}
	if sealed, err := p.out.sealer.RTCP(b[:0], b); err == nil {
		_ = p.out.socks[i].send(sealed, *to) // RTCP is repeated; a lost report needs no care
	}
}

// maskControl keeps the SSRCs of a compound packet, which ParseRTCP has accepted, in step with those of the streams: sender
// identifiers are xored with forth, identifiers reported on with back.
func maskControl(b []byte, forth, back uint32) {
	flip := func(p []byte, mask uint32) {
		if len(p) >= 4 {
			binary.BigEndian.PutUint32(p, binary.BigEndian.Uint32(p)^mask)
		}
	}
	for len(b) >= 8 {
		n := min(4+4*int(binary.BigEndian.Uint16(b[2:])), len(b))
		p, count := b[:n], int(b[0]&0x1f)
		b = b[n:]
		if len(p) < 8 {
			continue
		}
		flip(p[4:], forth)
		at, step := 0, 24
		switch p[1] {
		case 200:
			at = 28
		case 201:
			at = 8
		case 203: // goodbye: every identifier is a sender's
			for i := 1; i < count && 4+4*i+4 <= len(p); i++ {
				flip(p[4+4*i:], forth)
			}
			continue
		case 205, 206: // feedback on one source, RFC 4585 section 6.1
			at, step, count = 8, 4, 1
		default:
			continue
		}
		for i := 0; i < count && at+step*i+4 <= len(p); i++ {
			flip(p[at+step*i:], back)
		}
	}
}
