package rtp

import (
	"encoding/binary"
	"errors"

	"github.com/pion/rtcp"
	prtp "github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"ringfence"
)

// Reasons why a packet is not opened or not sealed.
var (
	ErrForged    = errors.New("srtp: packet does not authenticate")
	ErrReplayed  = errors.New("srtp: packet was seen before or is too old")
	ErrPlainRTCP = errors.New("srtp: RTCP packet is authenticated but not encrypted")
	ErrSources   = errors.New("srtp: too many sources under one key")
	ErrReused    = errors.New("srtp: packet index was sealed before")
	ErrExhausted = errors.New("srtp: the key has sealed all the packets it may")
)

// replayWindow is how far behind the newest packet one may arrive, in packets: 2.5 seconds of 20 ms audio. RFC 3711
// section 3.3.2 asks for at least 64.
const replayWindow = 128

// maxSources bounds the memory that one authenticated peer can make us spend by changing its SSRC.
const maxSources = 1024

// Opener opens what a peer sealed: one direction of one leg. It tracks the roll-over counter and the replay window of each
// source by itself. One goroutine at a time may use it.
type Opener struct {
	suite    Suite
	keys     Keys
	plain    bool
	ctx      *srtp.Context // made for the first packet: most legs of a busy node carry none in one of their directions
	header   prtp.Header
	control  rtcp.Header
	last     uint32 // source of the last good RTP packet, if known is set
	known    bool
	sources  map[uint32]struct{}
	forged   uint64
	replayed uint64
	trial    *srtp.Context // with the roll-over counters of the keys before; nil if there are none to try
	spare    []byte        // the sealed packet, while there is something to try
}

// NewOpener returns an opener for the keys a peer gave us. The error is that of [Keys.Check].
func NewOpener(k Keys) (*Opener, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	return &Opener{suite: k.Suite, keys: k}, nil
}

// NewPlainOpener returns an opener that lets clear packets through, for a leg with a named exception. Nothing authenticates
// them, so whoever uses it must judge their source.
func NewPlainOpener() *Opener { return &Opener{plain: true} }

// ready derives the session keys, once.
func (o *Opener) ready() (err error) {
	if o.ctx == nil {
		o.ctx, err = newContext(o.keys)
	}
	return err
}

// note remembers a source that authenticated.
func (o *Opener) note(ssrc uint32) {
	if o.sources == nil {
		o.sources = map[uint32]struct{}{}
	}
	o.sources[ssrc] = struct{}{}
}

func newContext(k Keys) (*srtp.Context, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	n := k.Suite.KeyLen()
	ctx, err := srtp.CreateContext(k.Master[:n], k.Master[n:], k.Suite.profile(),
		srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	if err != nil {
		return nil, &ringfence.Fault{Op: "rtp.context", Kind: ringfence.KindInternal, Text: "the SRTP context could not be made", Err: err}
	}
	return ctx, nil
}

// RTP opens an SRTP packet. The clear packet is written into dst's storage, or into new storage if that is too small; dst
// may be packet[:0] to open in place. On error (a header fault, ErrForged, ErrReplayed, ErrSources) no state changes but
// the counters, and what dst's storage holds is undefined.
func (o *Opener) RTP(dst, packet []byte) ([]byte, error) {
	h, err := ParseHeader(packet)
	if err != nil {
		return nil, err
	}
	if o.plain {
		return o.pass(dst, packet, h.SSRC)
	}
	if len(packet) < h.Offset+o.tagLen() {
		return nil, ErrShort
	}
	if h.Extension && (h.Profile == prtp.CryptexProfileOneByte || h.Profile == prtp.CryptexProfileTwoByte) {
		o.forged++ // RFC 9335 was not negotiated
		return nil, ErrForged
	}
	fresh := !o.known || o.last != h.SSRC
	if fresh && !o.room(h.SSRC) {
		return nil, ErrSources
	}
	if err := o.ready(); err != nil {
		return nil, err
	}
	if fresh && o.trial != nil {
		return o.first(dst, packet, h.SSRC)
	}
	out, err := o.ctx.DecryptRTP(dst, packet, &o.header)
	if err != nil {
		return nil, o.refuse(err)
	}
	if fresh {
		o.note(h.SSRC)
		o.last, o.known = h.SSRC, true
	}
	return out, nil
}

// pass lets a clear packet through.
func (o *Opener) pass(dst, packet []byte, ssrc uint32) ([]byte, error) {
	if !o.room(ssrc) {
		return nil, ErrSources
	}
	o.note(ssrc)
	return append(dst[:0], packet...), nil
}

// Inherit makes o ready for a peer that changed its keys but not its SSRC. RFC 3711 section 3.3.1 lets the roll-over counter
// run on then, yet many peers begin again at zero; a source's first packet is tried both ways.
func (o *Opener) Inherit(old *Opener) error {
	if old == nil || old.ctx == nil || o.plain {
		return nil
	}
	for ssrc := range old.sources {
		roc, ok := old.ctx.ROC(ssrc)
		if !ok || roc == 0 {
			continue
		}
		if o.trial == nil {
			ctx, err := newContext(o.keys)
			if err != nil {
				return err
			}
			o.trial = ctx
		}
		o.trial.SetROC(ssrc, roc)
	}
	return nil
}

// first opens a packet of a source that did not send the last one, while there are counters to try.
func (o *Opener) first(dst, packet []byte, ssrc uint32) ([]byte, error) {
	o.spare = append(o.spare[:0], packet...) // a failed attempt wipes dst, which may be the packet
	out, err := o.ctx.DecryptRTP(dst, packet, &o.header)
	if err != nil && errors.Is(err, srtp.ErrFailedToVerifyAuthTag) {
		if _, known := o.sources[ssrc]; !known {
			roc, ok := o.trial.ROC(ssrc)
			if _, try := o.trial.DecryptRTP(nil, o.spare, &o.header); ok && try == nil {
				o.ctx.SetROC(ssrc, roc)
				out, err = o.ctx.DecryptRTP(dst, o.spare, &o.header)
			}
		}
	}
	if err != nil {
		return nil, o.refuse(err)
	}
	o.note(ssrc)
	o.last, o.known = ssrc, true
	return out, nil
}

// RTCP opens an SRTCP packet, with the storage rule of [Opener.RTP]. A packet whose encryption bit is not set is refused
// with ErrPlainRTCP even if it authenticates (RFC 3711 section 3.4).
func (o *Opener) RTCP(dst, packet []byte) ([]byte, error) {
	switch {
	case len(packet) > MaxPacket:
		return nil, ErrLong
	case len(packet) < 8 || !o.plain && len(packet) < 8+4+o.tagLen():
		return nil, ErrShort
	case packet[0]>>6 != 2:
		return nil, ErrVersion
	case o.plain:
		return o.pass(dst, packet, binary.BigEndian.Uint32(packet[4:]))
	}
	index := len(packet) - 4 // RFC 7714 section 9.2: the tag is inside the sealed part
	if !o.suite.aead() {
		index -= o.tagLen()
	}
	if packet[index]&0x80 == 0 {
		o.forged++
		return nil, ErrPlainRTCP
	}
	ssrc := binary.BigEndian.Uint32(packet[4:])
	if !o.room(ssrc) {
		return nil, ErrSources
	}
	if err := o.ready(); err != nil {
		return nil, err
	}
	out, err := o.ctx.DecryptRTCP(dst, packet, &o.control)
	if err != nil {
		return nil, o.refuse(err)
	}
	o.note(ssrc)
	return out, nil
}

func (o *Opener) room(ssrc uint32) bool {
	if len(o.sources) < maxSources {
		return true
	}
	_, ok := o.sources[ssrc]
	return ok
}

func (o *Opener) tagLen() int {
	if o.suite.aead() {
		return 16
	}
	return 10
}

// refuse tells a forged packet from a replayed one. Lengths and header extensions were checked before, so what does not
// fail to authenticate can only have failed the replay window.
func (o *Opener) refuse(err error) error {
	if errors.Is(err, srtp.ErrFailedToVerifyAuthTag) {
		o.forged++
		return ErrForged
	}
	o.replayed++
	return ErrReplayed
}

// Refused returns how many packets did not authenticate and how many were replayed since the opener was made.
func (o *Opener) Refused() (forged, replayed uint64) { return o.forged, o.replayed }

// Sealer seals what we send: one direction of one leg. One goroutine at a time may use it.
type Sealer struct {
	keys    Keys
	plain   bool
	ctx     *srtp.Context // made for the first packet
	header  prtp.Header
	control rtcp.Header
	last    *sent
	sources map[uint32]*sent
	reports map[uint32]struct{} // sources that sent RTCP
}

// sent remembers which packet indices of one source were sealed: the highest, and the replayWindow below it.
type sent struct {
	ssrc uint32
	high uint64 // 48-bit packet index, RFC 3711 section 3.3.1
	seen [replayWindow / 64]uint64
}

// NewSealer returns a sealer for the keys we gave a peer. The error is that of [Keys.Check].
func NewSealer(k Keys) (*Sealer, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	return &Sealer{keys: k}, nil
}

// NewPlainSealer returns a sealer that seals nothing, for a leg with a named exception.
func NewPlainSealer() *Sealer { return &Sealer{plain: true} }

// ready derives the session keys, once.
func (s *Sealer) ready() (err error) {
	if s.ctx == nil {
		s.ctx, err = newContext(s.keys)
	}
	return err
}

// RTP seals a clear packet. The result is written into dst's storage, or into new storage if that is too small (it is at
// most [Overhead] longer); dst may be packet[:0] to seal in place. It fails with a header fault, with ErrReused if this
// source's index was sealed before or lies too far back to know, with ErrSources or with ErrExhausted.
func (s *Sealer) RTP(dst, packet []byte) ([]byte, error) {
	h, err := ParseHeader(packet)
	if err != nil {
		return nil, err
	}
	if s.last == nil || s.last.ssrc != h.SSRC {
		src := s.sources[h.SSRC]
		if src == nil {
			if len(s.sources) >= maxSources {
				return nil, ErrSources
			}
			src = &sent{ssrc: h.SSRC, high: uint64(h.Sequence)}
			src.seen[0] = 1
			if s.sources == nil {
				s.sources = map[uint32]*sent{}
			}
			s.sources[h.SSRC], s.last = src, src
			return s.seal(dst, packet)
		}
		s.last = src
	}
	if !s.plain { // in the clear, an index may be used again
		if err := s.last.mark(h.Sequence); err != nil {
			return nil, err
		}
	}
	return s.seal(dst, packet)
}

func (s *Sealer) seal(dst, packet []byte) ([]byte, error) {
	if s.plain {
		return append(dst[:0], packet...), nil
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	out, err := s.ctx.EncryptRTP(dst, packet, &s.header)
	if err != nil {
		return nil, &ringfence.Fault{Op: "rtp.seal", Kind: ringfence.KindInternal, Text: "the packet could not be sealed", Err: err}
	}
	return out, nil
}

// mark claims the packet index nearest to seq, or says why it may not be used.
func (w *sent) mark(seq uint16) error {
	d := int64(int16(seq - uint16(w.high)))
	if d > 0 {
		if w.high+uint64(d) >= 1<<48 {
			return ErrExhausted
		}
		w.shift(uint64(d))
		w.high += uint64(d)
		w.seen[0] |= 1
		return nil
	}
	back := uint64(-d)
	if back >= replayWindow || back > w.high {
		return ErrReused
	}
	bit := uint64(1) << (back % 64)
	if w.seen[back/64]&bit != 0 {
		return ErrReused
	}
	w.seen[back/64] |= bit
	return nil
}

func (w *sent) shift(n uint64) {
	switch {
	case n >= 128:
		w.seen = [2]uint64{}
	case n >= 64:
		w.seen[1], w.seen[0] = w.seen[0]<<(n-64), 0
	default:
		w.seen[1] = w.seen[1]<<n | w.seen[0]>>(64-n)
		w.seen[0] <<= n
	}
}

// Sealed reports whether any packet of this source was sealed already.
func (s *Sealer) Sealed(ssrc uint32) bool { return s.sources[ssrc] != nil }

// RTCP seals a clear compound RTCP packet, with the storage rule of [Sealer.RTP]. The SRTCP index is the sealer's own, so
// the same packet may be sealed twice.
func (s *Sealer) RTCP(dst, packet []byte) ([]byte, error) {
	if len(packet) < 8 {
		return nil, ErrShort
	}
	if len(packet) > MaxPacket {
		return nil, ErrLong
	}
	ssrc := binary.BigEndian.Uint32(packet[4:])
	if _, ok := s.reports[ssrc]; !ok {
		if len(s.reports) >= maxSources {
			return nil, ErrSources
		}
		if s.reports == nil {
			s.reports = map[uint32]struct{}{}
		}
		s.reports[ssrc] = struct{}{}
	}
	if s.plain {
		return append(dst[:0], packet...), nil
	}
	if err := s.ready(); err != nil {
		return nil, err
	}
	out, err := s.ctx.EncryptRTCP(dst, packet, &s.control)
	if err != nil {
		return nil, &ringfence.Fault{Op: "rtp.seal", Kind: ringfence.KindInvalid, Text: "the control packet could not be sealed", Err: err}
	}
	return out, nil
}
