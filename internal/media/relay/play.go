package relay

import (
	"encoding/binary"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/media/rtp"
)

// frameTime is how long one frame of every source lasts.
const frameTime = 20 * time.Millisecond

// maxPayload bounds what a source may yield, in octets.
const maxPayload = 1280

// Source yields what is played into a leg.
type Source interface {
	// Next writes the payload of the next 20 ms into buf (1280 octets) and returns its length; 0 ends the playing. It is
	// called on the engine's ticker and must not block.
	Next(buf []byte) int
}

// Format says how the payloads of a source are labelled.
type Format struct {
	PayloadType uint8  // 0 to 127
	Samples     uint32 // timestamp units in 20 ms: 160 for G.711 and G.722 (RFC 3551 section 4.5.2), 960 for Opus
}

// player is one playing into one leg. Only the ticker touches its counters.
type player struct {
	leg    *Endpoint
	src    Source
	digit  *rtp.DigitSource // in place of src
	format Format
	done   func()
	began  time.Duration
	frames int
	ssrc   uint32
	seq    uint16
	stamp  uint32
}

// players is the one ticker and those it serves.
type players struct {
	mu      sync.Mutex
	active  map[*player]struct{}
	running bool
}

// Play plays src into the leg, under a fresh SSRC, until it ends, [Endpoint.Stop] is called or something else is played;
// then done, if not nil, is called once. While it plays, nothing is relayed to the leg. A leg on hold consumes the source
// without sending. Faults: KindInvalid for a bad format, KindUnavailable if the leg is closed.
func (p *Endpoint) Play(f Format, src Source, done func()) error {
	if src == nil || f.PayloadType > 127 || f.Samples == 0 {
		return &ringfence.Fault{Op: "relay.play", Kind: ringfence.KindInvalid, Text: "playing needs a source, a payload type and its samples"}
	}
	return p.begin(&player{leg: p, src: src, format: f, done: done})
}

// PlayDigit sends one key press as telephone events (RFC 4733), in the way of [Endpoint.Play]. clock is the payload's clock
// in Hz. A character that is no key is a KindInvalid fault.
func (p *Endpoint) PlayDigit(payloadType uint8, digit rune, held time.Duration, clock uint32, done func()) error {
	d, ok := rtp.NewDigitSource(digit, held, clock)
	if !ok || payloadType > 127 || clock == 0 {
		return &ringfence.Fault{Op: "relay.play", Kind: ringfence.KindInvalid, Text: "no such key, payload type or clock"}
	}
	return p.begin(&player{leg: p, digit: d, format: Format{PayloadType: payloadType}, done: done})
}

func (p *Endpoint) begin(pl *player) error {
	pl.began = p.engine.since(p.engine.cfg.Now())
	pl.ssrc, pl.stamp = randomWord(), randomWord()
	pl.seq = uint16(randomWord() >> 17) // below 2^15, RFC 3711 section 3.3.1
	p.out.mu.Lock()
	if p.out.closed {
		p.out.mu.Unlock()
		return &ringfence.Fault{Op: "relay.play", Kind: ringfence.KindUnavailable, Text: "the leg's media is closed"}
	}
	old := p.out.playing
	p.out.playing = pl
	p.out.mu.Unlock()
	if old != nil {
		p.engine.retire(old)
	}
	p.engine.enlist(pl)
	return nil
}

// Stop ends what is played into the leg, if anything; its done is called.
func (p *Endpoint) Stop() {
	p.out.mu.Lock()
	old := p.out.playing
	p.out.playing = nil
	p.out.mu.Unlock()
	if old != nil {
		p.engine.retire(old)
	}
}

// enlist adds a player and starts the ticker if it was the first.
func (e *Engine) enlist(pl *player) {
	ps := &e.players
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.active == nil {
		ps.active = map[*player]struct{}{}
	}
	ps.active[pl] = struct{}{}
	if !ps.running {
		ps.running = true
		e.wg.Go(e.tick)
	}
}

// retire removes a player; whoever removes it calls its done.
func (e *Engine) retire(pl *player) {
	e.players.mu.Lock()
	_, mine := e.players.active[pl]
	delete(e.players.active, pl)
	e.players.mu.Unlock()
	if mine && pl.done != nil {
		pl.done()
	}
}

// tick serves every player each 20 ms, and ends when there is none.
func (e *Engine) tick() {
	t := time.NewTicker(frameTime)
	defer t.Stop()
	var turn []*player
	buf := make([]byte, 12+maxPayload+rtp.Overhead)
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-t.C:
		}
		turn = turn[:0]
		e.players.mu.Lock()
		if len(e.players.active) == 0 {
			e.players.running = false
			e.players.mu.Unlock()
			return
		}
		for pl := range e.players.active {
			turn = append(turn, pl)
		}
		e.players.mu.Unlock()
		now := e.since(e.cfg.Now())
		for _, pl := range turn {
			e.serve(pl, now, buf)
		}
		clear(turn)
	}
}

// serve sends what is due: normally one frame, a few more after a pause of the machine; what is long overdue is skipped.
func (e *Engine) serve(pl *player, now time.Duration, buf []byte) {
	pl.leg.out.mu.Lock()
	current := pl.leg.out.playing == pl
	pl.leg.out.mu.Unlock()
	if !current { // stopped, replaced or closed before it was enlisted
		e.retire(pl)
		return
	}
	const burst = 5
	due := int((now - pl.began) / frameTime)
	if due-pl.frames > burst {
		pl.began += time.Duration(due-pl.frames-burst) * frameTime
		due = pl.frames + burst
	}
	for pl.frames < due {
		if !pl.next(buf) {
			pl.leg.out.mu.Lock()
			if pl.leg.out.playing == pl {
				pl.leg.out.playing = nil
			}
			pl.leg.out.mu.Unlock()
			e.retire(pl)
			return
		}
	}
}

// next builds and sends one frame. It is false at the end.
func (pl *player) next(buf []byte) bool {
	body := buf[12 : 12+maxPayload : 12+maxPayload]
	var n int
	first := pl.frames == 0
	if pl.digit != nil {
		n, first = pl.digit.Next(body)
	} else {
		n = min(pl.src.Next(body), maxPayload)
	}
	if n <= 0 {
		return false
	}
	rtp.AppendHeader(buf[:0], rtp.Header{Marker: first, PayloadType: pl.format.PayloadType, Sequence: pl.seq, Timestamp: pl.stamp, SSRC: pl.ssrc})
	pl.frames++
	pl.seq++
	pl.stamp += pl.format.Samples
	pl.leg.emit(pl, buf[:12+n], pl.began+time.Duration(pl.frames)*frameTime)
	return true
}

// emit seals and sends a frame of the player that is playing.
func (p *Endpoint) emit(pl *player, b []byte, at time.Duration) {
	out := &p.out
	out.mu.Lock()
	defer out.mu.Unlock()
	to := p.dest[0].Load()
	if out.closed || out.playing != pl || out.sealer == nil || !out.dir.sends() || to == nil {
		return
	}
	if pl.frames == 1 {
		for out.sealer.Sealed(pl.ssrc) {
			pl.ssrc = randomWord()
			binary.BigEndian.PutUint32(b[8:], pl.ssrc)
		}
	}
	stamp, octets := binary.BigEndian.Uint32(b[4:]), len(b)-12
	sealed, err := out.sealer.RTP(b[:0], b)
	if err == nil && out.socks[0].send(sealed, *to) == nil {
		out.packets++
		out.played.count(pl.ssrc, stamp, at, octets)
	}
}
