package relay

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
)

// Direction says which way media flows on a leg, seen from this node, as our own SDP says it (RFC 3264 section 5.1).
type Direction uint8

// The directions.
const (
	SendRecv Direction = iota
	SendOnly           // we send, and drop what the peer sends
	RecvOnly           // we listen, and send nothing
	Inactive           // neither; RTCP goes on
)

func (d Direction) sends() bool    { return d == SendRecv || d == SendOnly }
func (d Direction) receives() bool { return d == SendRecv || d == RecvOnly }

// RemoteParams is what the peer's session description says about its media.
type RemoteParams struct {
	Addr netip.AddrPort // where it wants RTP; invalid or unspecified: wait until a packet proves the address
	RTCP netip.AddrPort // where it wants RTCP if not Mux; invalid: the port above Addr's
	Mux  bool           // RTP and RTCP share the port (RFC 5761)
	Keys rtp.Keys       // the keys it seals with, from its a=crypto; not looked at on a leg that SetPlain made plain

	// Signalling is where the peer's SIP comes from. On a plain leg the first packet may come from another port there than its
	// session description says, because of a NAT. A sealed leg does not need it.
	Signalling netip.Addr

	Clock uint32 // RTP clock of its audio in Hz, from its rtpmap; 0: 8000
}

// DigitFunc is told of a key press. It runs on the engine's goroutine and must not block.
type DigitFunc func(digit rune)

// TapFunc sees each authenticated packet of a leg in clear. Both arguments are valid only during the call, which runs on
// the engine's goroutine and must not block. at is the time since the engine began.
type TapFunc func(h *rtp.Header, payload []byte, at time.Duration)

// graceful is how long the peer's previous keys are still tried after new ones were set.
const graceful = 2 * time.Second

// Endpoint is the media of one leg: two ports, the peer's keys and ours. Its methods may be called from any goroutine.
type Endpoint struct {
	engine   *Engine
	id       ringfence.LegID
	local    netip.AddrPort
	port     uint16
	peer     atomic.Pointer[Endpoint]
	dest     [2]atomic.Pointer[netip.AddrPort] // where RTP and RTCP go; nil: nowhere yet
	mux      atomic.Bool                       // the peer takes RTCP on the RTP port
	heard    atomic.Int64                      // engine time of the last authenticated packet, ns
	mask     atomic.Uint32                     // what is xored onto the SSRC of the stream relayed to this leg
	own      uint32                            // SSRC of our receiver reports
	reported atomic.Int64                      // engine time of the last report, ns
	in       inbound
	out      outbound
}

// inbound is the receiving half. No lock of another leg is taken while mu is held.
type inbound struct {
	mu       sync.Mutex
	closed   bool
	keys     rtp.Keys
	opener   *rtp.Opener
	plain    string      // why packets need not authenticate; empty on every leg without a named exception
	via      netip.Addr  // RemoteParams.Signalling
	old      *rtp.Opener // the keys before, until oldEnds
	oldEnds  time.Duration
	dir      Direction
	signal   [2]netip.AddrPort // what the peer's SDP last said
	proven   [2]latch
	measure  rtp.Receiver
	rejected uint64
	early    uint64
	remote   RemoteView
	mapped   *[128]uint8 // payload types heard -> payload types of the other leg; nil: the same
	events   uint8       // payload type of telephone events
	onDigit  DigitFunc
	eventAt  uint32 // timestamp of the event last told
	eventOf  uint32 // its SSRC
	evented  bool
	tap      TapFunc
	silence  time.Duration
	onQuiet  func()
	quiet    bool // onQuiet was called
}

// outbound is the sending half.
type outbound struct {
	mu      sync.Mutex
	closed  bool
	keys    rtp.Keys
	sealer  *rtp.Sealer
	plain   bool
	dir     Direction
	socks   [2]socket // RTP, RTCP
	packets uint64
	route   route
	fresh   bool // the next stream relayed must have an SSRC of our own
	playing *player
	played  played
}

// RemoteView is what the peer says, in its last RTCP report, about the media that we send it.
type RemoteView struct {
	Fraction float64 // lost since its report before, 0 to 1
	Lost     int32
	Jitter   uint32 // in units of the payload's clock
	Reports  uint64 // how many reports came
}

func (p *Endpoint) init(port uint16, now time.Time) {
	p.port = port
	p.local = netip.AddrPortFrom(p.engine.cfg.Addr, port)
	p.in.mu.Lock()
	p.in.closed = false
	p.in.measure = *rtp.NewReceiver(8000)
	p.in.mu.Unlock()
	p.out.mu.Lock()
	p.out.closed = false
	p.out.mu.Unlock()
	p.own = randomWord()
	at := int64(p.engine.since(now))
	p.heard.Store(at)
	p.reported.Store(at)
}

func (p *Endpoint) setSocket(s socket, control bool) {
	p.out.mu.Lock()
	p.out.socks[index(control)] = s
	p.out.mu.Unlock()
}

func index(control bool) int {
	if control {
		return 1
	}
	return 0
}

// ID returns the leg's name.
func (p *Endpoint) ID() ringfence.LegID { return p.id }

// Local returns the address bound for RTP; RTCP is on the port above.
func (p *Endpoint) Local() netip.AddrPort { return p.local }

// SetLocalKeys sets the keys we seal with, which our SDP gave the peer. Keys equal to those in use keep their state, so
// the roll-over counter survives a re-INVITE. The fault is that of rtp.Keys.Check.
func (p *Endpoint) SetLocalKeys(k rtp.Keys) error {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	if p.out.sealer != nil && !p.out.plain && p.out.keys.Equal(k) {
		return nil
	}
	s, err := rtp.NewSealer(k)
	if err != nil {
		return err
	}
	p.out.plain = false
	p.in.mu.Lock() // no lock is taken the other way round
	if p.in.plain != "" {
		p.in.plain, p.in.opener = "", nil
	}
	p.in.mu.Unlock()
	// Under new keys a relayed stream gets a new SSRC, so that the peer need not guess what became of the roll-over counter.
	p.out.fresh = p.out.fresh || p.out.sealer != nil && p.out.packets > 0
	p.out.keys, p.out.sealer, p.out.route = k, s, route{}
	return nil
}

// SetRemote sets what the peer's SDP says. Keys equal to those in use keep their state; with new ones, the old are still
// tried for two seconds, so packets in flight are not lost. An address that the SDP repeats does not undo what was learned
// from authenticated packets. The fault is that of rtp.Keys.Check.
func (p *Endpoint) SetRemote(r RemoteParams) error {
	now := p.engine.since(p.engine.cfg.Now())
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	in := &p.in
	in.via = r.Signalling.Unmap()
	if in.plain == "" && (in.opener == nil || !in.keys.Equal(r.Keys)) {
		o, err := rtp.NewOpener(r.Keys)
		if err != nil {
			return err
		}
		if err := o.Inherit(in.opener); err != nil {
			return err
		}
		in.old, in.oldEnds = in.opener, now+graceful
		in.keys, in.opener = r.Keys, o
	}
	if !r.RTCP.IsValid() && usable(r.Addr) && r.Addr.Port() < 65535 {
		r.RTCP = netip.AddrPortFrom(r.Addr.Addr(), r.Addr.Port()+1)
	}
	p.mux.Store(r.Mux)
	if r.Clock == 0 {
		r.Clock = 8000
	}
	in.measure.SetClock(r.Clock)
	for i, a := range [2]netip.AddrPort{r.Addr, r.RTCP} {
		if in.signal[i] == a {
			continue
		}
		in.signal[i], in.proven[i] = a, latch{}
		if usable(a) {
			p.dest[i].Store(&a)
		} else {
			p.dest[i].Store(nil)
		}
	}
	p.heard.Store(int64(now))
	in.quiet = false
	return nil
}

// SetPlain makes the leg send and take RTP in the clear, which only a named exception may ask for: reason names it, and without
// one the leg stays as it was and the fault is KindInsecure. Since nothing authenticates, packets count only if they come from
// where the peer's SDP says; or, behind a NAT, from where the first packet came, if that was the address of its signalling. That
// place is not learned again until the SDP names another one. SetLocalKeys and SetRemote with keys seal the leg again.
func (p *Endpoint) SetPlain(reason string) error {
	if reason == "" {
		return &ringfence.Fault{Op: "relay.plain", Kind: ringfence.KindInsecure, Text: "plain RTP needs a named exception"}
	}
	p.out.mu.Lock()
	if !p.out.plain {
		p.out.fresh = p.out.fresh || p.out.packets > 0
		p.out.keys, p.out.sealer, p.out.route, p.out.plain = rtp.Keys{}, rtp.NewPlainSealer(), route{}, true
	}
	p.out.mu.Unlock()
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	if p.in.plain == "" {
		p.in.keys, p.in.opener, p.in.old, p.in.proven = rtp.Keys{}, rtp.NewPlainOpener(), nil, [2]latch{}
	}
	p.in.plain = reason
	return nil
}

// Plain returns the exception that lets the leg use plain RTP; empty on a sealed leg.
func (p *Endpoint) Plain() string {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	return p.in.plain
}

// usable reports whether media may be sent to a: one host, one port.
func usable(a netip.AddrPort) bool {
	return a.IsValid() && a.Port() != 0 && !a.Addr().IsUnspecified() && !a.Addr().IsMulticast() &&
		a.Addr().Unmap() != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// SetPayloadMap says how payload types heard on this leg are numbered on the leg it is joined to; those not in m stay as
// they are. Types above 127 are a KindInvalid fault.
func (p *Endpoint) SetPayloadMap(m map[uint8]uint8) error {
	var t *[128]uint8
	if len(m) > 0 {
		t = new([128]uint8)
		for i := range t {
			t[i] = uint8(i)
		}
		for from, to := range m {
			if from > 127 || to > 127 {
				return &ringfence.Fault{Op: "relay.map", Kind: ringfence.KindInvalid, Text: "a payload type is above 127"}
			}
			t[from] = to
		}
	}
	p.in.mu.Lock()
	p.in.mapped = t
	p.in.mu.Unlock()
	return nil
}

// Hold sets the direction of the leg. Packets of a peer that we do not listen to are still authenticated and counted.
func (p *Endpoint) Hold(d Direction) {
	now := p.engine.since(p.engine.cfg.Now())
	p.in.mu.Lock()
	p.in.dir, p.in.quiet = d, false
	p.heard.Store(int64(now))
	p.in.mu.Unlock()
	p.out.mu.Lock()
	p.out.dir = d
	p.out.mu.Unlock()
}

// OnDigit calls f once for each key press that arrives as telephone events of the given payload type. nil stops it.
func (p *Endpoint) OnDigit(payloadType uint8, f DigitFunc) {
	p.in.mu.Lock()
	p.in.events, p.in.onDigit = payloadType, f
	p.in.mu.Unlock()
}

// Tap calls f for each authenticated RTP packet that the leg's direction lets in. nil stops it.
func (p *Endpoint) Tap(f TapFunc) {
	p.in.mu.Lock()
	p.in.tap = f
	p.in.mu.Unlock()
}

// OnTimeout calls f when no authenticated packet, RTP or RTCP, came for d while the leg listens and has keys; again after
// the next silence. 0 stops it.
func (p *Endpoint) OnTimeout(d time.Duration, f func()) {
	p.in.mu.Lock()
	p.in.silence, p.in.onQuiet, p.in.quiet = d, f, false
	p.heard.Store(int64(p.engine.since(p.engine.cfg.Now())))
	p.in.mu.Unlock()
}

func (p *Endpoint) checkSilence(now time.Time) {
	p.in.mu.Lock()
	in := &p.in
	due := !in.closed && !in.quiet && in.silence > 0 && in.onQuiet != nil && in.opener != nil && in.dir.receives() &&
		p.engine.since(now)-time.Duration(p.heard.Load()) >= in.silence
	f := in.onQuiet
	if due {
		in.quiet = true
	}
	p.in.mu.Unlock()
	if due {
		f()
	}
}

// Stats returns the evidence of this leg so far. Suite is empty until both sides' keys are set and agree on it; DSCP is
// what the kernel says the socket is marked with (on a virtual network: what the flow declares).
func (p *Endpoint) Stats() ringfence.MediaProof {
	p.in.mu.Lock()
	m := p.in.measure.Snapshot()
	m.Rejected = p.in.rejected
	suite := p.in.keys.Suite
	p.in.mu.Unlock()
	p.out.mu.Lock()
	m.PacketsOut = p.out.packets
	if suite == p.out.keys.Suite {
		m.Suite = string(suite)
	}
	if s := p.out.socks[0]; s != nil {
		m.DSCP = s.dscp()
		if !p.out.closed {
			m.Overrun = s.overrun()
		}
	}
	p.out.mu.Unlock()
	return m
}

// Early returns how many packets came before the peer's keys were known. They were dropped unread.
func (p *Endpoint) Early() uint64 {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	return p.in.early
}

// Remote returns what the peer last reported.
func (p *Endpoint) Remote() RemoteView {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	return p.in.remote
}

// Peer returns the address that RTP is sent to: proven by an authenticated packet, or else the one from the SDP. It is
// invalid if neither is known.
func (p *Endpoint) Peer() netip.AddrPort {
	if a := p.dest[0].Load(); a != nil {
		return *a
	}
	return netip.AddrPort{}
}

// Close closes the leg's sockets, parts it from the leg it is joined to, and returns its last numbers. Its ports rest
// before they are used again. Closing twice is harmless.
func (p *Endpoint) Close() ringfence.MediaProof {
	m := p.Stats()
	if first, parked := p.shutSockets(true); first {
		p.engine.release(p, parked)
	}
	p.Stop() // after the mark, so that nothing new can begin
	return m
}

// shutSockets closes both sockets, or parks them if it may, and reports whether this call did it.
func (p *Endpoint) shutSockets(mayPark bool) (first, parked bool) {
	p.in.mu.Lock()
	first = !p.in.closed
	p.in.closed = true
	p.in.mu.Unlock()
	p.out.mu.Lock()
	p.out.closed = true
	socks := p.out.socks
	p.out.mu.Unlock()
	if !first {
		return false, false
	}
	// Neither half uses a socket once it is marked closed, and both marks were set under the locks that use needs.
	if mayPark && p.engine.park(p.port, socks) {
		return true, true
	}
	for _, s := range socks {
		if s != nil {
			s.close()
		}
	}
	return true, false
}

func (e *Engine) since(t time.Time) time.Duration { return t.Sub(e.origin) }
