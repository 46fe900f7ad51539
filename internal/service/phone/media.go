package phone

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/media/codec"
	"ringfence/internal/media/rtp"
	"ringfence/internal/sip/sdp"
)

const (
	frameTime   = 20 * time.Millisecond
	reportEvery = 250 // frames: RTCP each 5 s (RFC 3550 section 6.2)
	keyOverlap  = 5 * time.Second
	maxRate     = 16000 // samples a second of any codec
)

// media is the media session of a call: one socket, keys for both directions, a receiving and a sending goroutine.
type media struct {
	call  *Call
	pc    net.PacketConn
	addr  netip.AddrPort
	begin time.Time
	stop  chan struct{}

	mu       sync.Mutex
	source   Source
	sink     Sink
	choice   sdp.Choice
	dest     net.Addr // choice.RTP
	codec    codec.Codec
	decoder  codec.Codec           // decoders keep a state of their own
	hears    uint8                 // the payload type that decoder is for
	decoders map[uint8]codec.Codec // of what was heard so far: a far end that changes often costs no more than one that does not
	sealer   *rtp.Sealer
	next     *rtp.Sealer // takes over when the peer is known to have the new key
	opener   *rtp.Opener
	old      *rtp.Opener // opens what was sealed before a change of keys
	oldUntil time.Time
	local    sdp.Crypto // the key that sealer uses
	started  bool       // the sending goroutine runs

	ssrc     uint32
	seq      uint16
	stamp    uint32
	talking  bool // the last frame was sent
	digits   []pressed
	digit    *rtp.DigitSource
	digitAt  uint32
	sent     uint32 // packets, for the sender report
	octets   uint32
	packets  uint64
	lastCode uint32 // timestamp of the last telephone-event heard
	hasCode  bool

	jitter   *rtp.JitterBuffer
	receiver *rtp.Receiver
	ahead    []int16 // decoded, and not played yet: a packet may last longer than a frame
	rejected uint64
	early    uint64 // came before there were keys
	trip     time.Duration
	ear      ear
	last     time.Time // when the last authenticated packet came
}

type pressed struct {
	digit rune
	d     time.Duration
}

// openMedia binds a socket for a call.
func (p *Phone) openMedia(ctx context.Context, c *Call, source Source, sink Sink) (*media, error) {
	pc, err := p.listenMedia(ctx)
	if err != nil {
		return nil, &ringfence.Fault{Op: "phone.media", Kind: ringfence.KindUnavailable, Text: "no socket for the media", Err: err}
	}
	addr, err := netip.ParseAddrPort(pc.LocalAddr().String())
	if err != nil {
		_ = pc.Close()
		return nil, &ringfence.Fault{Op: "phone.media", Kind: ringfence.KindInternal, Text: "the media socket has no address", Err: err}
	}
	if source == nil {
		source = Silence()
	}
	if sink == nil {
		sink = Discard()
	}
	m := &media{call: c, pc: pc, addr: netip.AddrPortFrom(p.cfg.MediaAddr, addr.Port()), begin: time.Now(), stop: make(chan struct{}),
		source: source, sink: sink, ssrc: rand.Uint32(), seq: uint16(rand.IntN(1 << 15)), stamp: rand.Uint32(),
		jitter: rtp.NewJitterBuffer(), receiver: rtp.NewReceiver(codec.PCMU.Clock())}
	if !p.spawn(m.receive) {
		_ = pc.Close()
		return nil, &ringfence.Fault{Op: "phone.media", Kind: ringfence.KindUnavailable, Text: "the phone is closed"}
	}
	return m, nil
}

// listenMedia tries even ports of the range, in an order of its own.
func (p *Phone) listenMedia(ctx context.Context) (net.PacketConn, error) {
	r := p.cfg.MediaPorts
	if r == (ringfence.PortRange{}) {
		return p.opener().ListenUDP(ctx, p.cfg.MediaFlow, netip.AddrPortFrom(p.cfg.MediaAddr, 0))
	}
	first := int(r.First) + int(r.First)%2
	n := (int(r.Last)-first)/2 + 1
	var last error = errors.New("the media port range is empty")
	start := rand.IntN(max(n, 1))
	for i := range min(n, 512) {
		port := uint16(first + (start+i)%n*2)
		pc, err := p.opener().ListenUDP(ctx, p.cfg.MediaFlow, netip.AddrPortFrom(p.cfg.MediaAddr, port))
		if err == nil {
			return pc, nil
		}
		last = err
	}
	return nil, last
}

func (p *Phone) opener() ringfence.Opener { return p.stack.cfg.Opener }

// close ends the session: a goodbye, then the socket. It may be called more than once.
func (m *media) close() {
	m.mu.Lock()
	select {
	case <-m.stop:
		m.mu.Unlock()
		return
	default:
	}
	close(m.stop)
	if m.sealer != nil && m.packets > 0 {
		m.control(rtp.AppendBye(m.voiceReport(m.report()), m.ssrc))
	}
	m.mu.Unlock()
	_ = m.pc.Close()
}

func keysOf(c sdp.Crypto) (rtp.Keys, error) {
	key, salt, err := c.Key()
	if err != nil {
		return rtp.Keys{}, err
	}
	return rtp.Keys{Suite: rtp.Suite(c.Suite), Master: append(append([]byte(nil), key...), salt...)}, nil
}

// agree takes over what an offer and its answer agreed on. If wait is set, a new key of ours is used only once the peer
// shows that it has it: by a packet under its own new key, or by [media.confirmed].
func (m *media) agree(ch sdp.Choice, wait bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	remote, err := keysOf(ch.Remote)
	if err != nil {
		return err
	}
	local, err := keysOf(ch.Local)
	if err != nil {
		return err
	}
	newRemote := m.opener == nil || ch.Remote.Inline != m.choice.Remote.Inline || ch.Remote.Suite != m.choice.Remote.Suite
	newLocal := m.sealer == nil || ch.Local.Inline != m.local.Inline || ch.Local.Suite != m.local.Suite
	var opener *rtp.Opener
	var sealer *rtp.Sealer
	if newRemote {
		if opener, err = rtp.NewOpener(remote); err != nil {
			return err
		}
	}
	if newLocal {
		if sealer, err = rtp.NewSealer(local); err != nil {
			return err
		}
	}
	if err := m.adopt(ch.Codec, ch.Others); err != nil {
		return err
	}
	if opener != nil {
		m.old, m.oldUntil = m.opener, time.Now().Add(keyOverlap)
		m.opener = opener
	}
	if sealer != nil {
		m.local = ch.Local
		if wait && m.sealer != nil {
			m.next = sealer
		} else {
			m.sealer, m.next = sealer, nil
		}
	}
	m.choice, m.dest = ch, net.UDPAddrFromAddrPort(ch.RTP)
	if !m.started && m.stopped() == nil {
		m.started = m.call.phone.spawn(m.send)
	}
	return nil
}

// adopt changes to a codec, and to others that may be heard, unless they are those of before.
func (m *media) adopt(c sdp.Codec, others []sdp.Codec) error {
	if m.codec != nil && m.choice.Codec.Same(c) && m.choice.Codec.FMTP == c.FMTP && slices.Equal(m.choice.Others, others) {
		return nil
	}
	enc, err := codec.NewFor(codec.Name(c.Name), c.FMTP)
	if err != nil {
		return err
	}
	m.codec, m.decoders = enc, map[uint8]codec.Codec{}
	m.listen(c)
	if m.sent > 0 && m.choice.Codec.Clock != c.Clock { // one source has one clock (RFC 7160 section 4.1)
		m.ssrc, m.sent, m.octets, m.talking, m.digit = rand.Uint32(), 0, 0, false, nil
	}
	return nil
}

// listen makes c the codec that is heard.
func (m *media) listen(c sdp.Codec) {
	dec := m.decoders[c.PayloadType]
	if dec == nil {
		var err error
		if dec, err = codec.New(codec.Name(c.Name)); err != nil { // it is not one that we offered
			return
		}
		m.decoders[c.PayloadType] = dec
	}
	m.decoder, m.hears, m.ahead = dec, c.PayloadType, nil
	m.jitter.Flush()
	m.receiver.SetClock(c.Clock)
}

// understands reports whether a payload type is of a codec that was agreed on; if it is another than before, it is the one that is heard from now on.
func (m *media) understands(payloadType uint8) bool {
	if payloadType == m.hears {
		return true
	}
	for _, c := range append([]sdp.Codec{m.choice.Codec}, m.choice.Others...) {
		if c.PayloadType == payloadType {
			m.listen(c)
			return m.hears == payloadType
		}
	}
	return false
}

func (m *media) stopped() error {
	select {
	case <-m.stop:
		return net.ErrClosed
	default:
		return nil
	}
}

// confirmed tells that the peer has our last answer.
func (m *media) confirmed() {
	m.mu.Lock()
	m.promote()
	m.mu.Unlock()
}

func (m *media) promote() {
	if m.next != nil {
		m.sealer, m.next = m.next, nil
	}
}

// proof returns what was seen so far.
func (m *media) proof() *ringfence.MediaProof {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.receiver.Snapshot()
	out.Suite = m.choice.Remote.Suite
	out.DSCP = dscpOf(m.pc)
	out.PacketsOut = m.packets
	out.Rejected = m.rejected
	if out.PacketsIn > 0 {
		late, _ := m.jitter.Trouble()
		out.MOS = rtp.G711().MOS(float64(out.Lost+late)/float64(out.Lost+out.PacketsIn), m.receiver.Jitter(), m.trip)
	}
	return &out
}

func (m *media) audio() Audio {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, missing := m.jitter.Trouble()
	a := Audio{Codec: m.choice.Codec.Name, HeardHz: m.ear.hz(), HeardLevel: m.ear.level, HeardSeconds: float64(m.ear.sound) * frameTime.Seconds(), Concealed: missing}
	if m.ear.frames == 0 {
		a.HeardLevel = -100
	}
	if t, ok := m.source.(interface{ Hz() float64 }); ok {
		a.SentHz = t.Hz()
	}
	return a
}

func (m *media) set(source Source, sink Sink) {
	m.mu.Lock()
	if source != nil {
		m.source = source
	}
	if sink != nil {
		m.sink = sink
	}
	m.mu.Unlock()
}

// press queues digits; it fails if the peer does not take telephone-events.
func (m *media) press(digits string, each time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.choice.Events.Name == "" {
		return &ringfence.Fault{Op: "phone.digits", Kind: ringfence.KindUnsupported, Text: "the far end takes no telephone-events (RFC 4733)"}
	}
	for _, d := range digits {
		if _, ok := rtp.EventCode(d); !ok {
			return &ringfence.Fault{Op: "phone.digits", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%q is no key", d), Hint: "use 0 to 9, *, #, A to D"}
		}
	}
	for _, d := range digits {
		m.digits = append(m.digits, pressed{d, each})
	}
	return nil
}
