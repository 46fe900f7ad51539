package phone

import (
	"fmt"
	"net"
	"time"

	"ringfence/internal/media/rtp"
)

// receive reads the socket until it is closed.
func (m *media) receive() {
	buf := make([]byte, rtp.MaxPacket+1)
	clear := make([]byte, 0, rtp.MaxPacket)
	var control rtp.Control
	for {
		n, _, err := m.pc.ReadFrom(buf)
		if err != nil {
			if m.stopped() != nil {
				return
			}
			if ne, ok := err.(net.Error); !ok || !ne.Timeout() { // e.g. an ICMP error of an earlier packet
				select {
				case <-m.stop:
					return
				case <-time.After(frameTime):
				}
			}
			continue
		}
		if n > rtp.MaxPacket {
			continue
		}
		m.packet(buf[:n], clear, &control)
	}
}

// packet handles one datagram. It is heard only if it authenticates.
func (m *media) packet(b, space []byte, control *rtp.Control) {
	now := time.Now()
	m.mu.Lock()
	var digit rune
	switch {
	case m.opener == nil:
		m.early++
	case rtp.IsRTCP(b):
		if out := m.open(space, b, now, (*rtp.Opener).RTCP); out != nil && rtp.ParseRTCP(out, control) == nil {
			m.heardControl(control, now)
		}
	default:
		if out := m.open(space, b, now, (*rtp.Opener).RTP); out != nil {
			digit = m.voice(out, now)
		}
	}
	m.mu.Unlock()
	if digit != 0 {
		m.call.heardDigit(digit)
	}
}

// open tries the present key and, for a while after a change, the one before.
func (m *media) open(space, b []byte, now time.Time, with func(*rtp.Opener, []byte, []byte) ([]byte, error)) []byte {
	out, err := with(m.opener, space[:0], b)
	if err == nil {
		m.promote()
		m.last = now
		return out
	}
	if m.old != nil {
		if now.After(m.oldUntil) {
			m.old = nil
		} else if out, err = with(m.old, space[:0], b); err == nil {
			m.last = now
			return out
		}
	}
	m.rejected++
	return nil
}

func (m *media) heardControl(c *rtp.Control, now time.Time) {
	if c.IsSender {
		m.receiver.SenderReport(c.Sender, now.Sub(m.begin))
	}
	for _, b := range c.Blocks[:c.Count] {
		if b.SSRC == m.ssrc {
			if trip, ok := rtp.RoundTrip(now, b); ok {
				m.trip = trip
			}
		}
	}
}

// voice takes an opened RTP packet. It returns a key if one begins with it.
func (m *media) voice(b []byte, now time.Time) rune {
	h, err := rtp.ParseHeader(b)
	if err != nil {
		return 0
	}
	payload, err := h.Payload(b)
	if err != nil {
		return 0
	}
	m.receiver.Packet(&h, now.Sub(m.begin))
	if !m.choice.Direction.Receives() {
		return 0 // what was under way when the call was put on hold
	}
	if m.choice.Events.Name != "" && h.PayloadType == m.choice.Events.PayloadType {
		m.jitter.Push(&h, nil) // an event holds its place in the sequence
		e, err := rtp.ParseEvent(payload)
		if err != nil || m.hasCode && m.lastCode == h.Timestamp {
			return 0
		}
		m.hasCode, m.lastCode = true, h.Timestamp
		digit, _ := e.Digit()
		return digit
	}
	if m.understands(h.PayloadType) {
		m.jitter.Push(&h, payload)
	}
	return 0
}

// send plays and speaks one frame each 20 ms until the session ends.
func (m *media) send() {
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	var f frames
	start, done := time.Now(), 0
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		due := int(time.Since(start) / frameTime)
		if due-done > 25 { // the machine slept; do not shout it all out at once
			m.skip(due - done - 1)
			done = due - 1
		}
		for ; done < due; done++ {
			m.frame(&f, done)
		}
	}
}

// frames are the buffers of the sending goroutine.
type frames struct {
	say, heard     []int16
	silence        [maxRate / 50]int16
	packet, sealed []byte
}

func (m *media) skip(n int) {
	m.mu.Lock()
	m.stamp += uint32(n) * m.choice.Codec.Clock / 50
	m.talking = false
	m.mu.Unlock()
}

func (m *media) frame(f *frames, n int) {
	m.mu.Lock()
	source, sink, rate, heard := m.source, m.sink, m.codec.Rate(), m.decoder.Rate()
	_, private := source.(Live)
	private = private && !m.choice.Direction.Receives() // whom we put on hold does not hear the room
	m.play(f, heard)
	m.mu.Unlock()

	sink.Write(f.heard, heard)
	if len(f.say) != rate/50 {
		f.say = make([]int16, rate/50)
	}
	if private {
		clear(f.say)
	} else {
		source.Read(f.say, rate)
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped() != nil {
		return
	}
	m.speak(f, rate)
	m.stamp += m.choice.Codec.Clock / 50
	if n%reportEvery == reportEvery-1 {
		m.control(m.report())
	}
}

// play puts what is to be heard now into f.heard. Packets may be shorter or longer than a frame: what is over is kept for the next.
func (m *media) play(f *frames, rate int) {
	for len(m.ahead) < rate/50 {
		payload, _, what := m.jitter.Pop()
		before := len(m.ahead)
		switch {
		case what == rtp.Frame && len(payload) > 0:
			m.ahead = m.decoder.Decode(m.ahead, payload)
		case what == rtp.Missing:
			m.ahead = m.decoder.Conceal(m.ahead, m.jitter.Peek())
		}
		if len(m.ahead) == before {
			m.ahead = append(m.ahead, f.silence[:max(rate/50-before, 0)]...)
		}
	}
	f.heard = append(f.heard[:0], m.ahead[:rate/50]...)
	m.ahead = m.ahead[:copy(m.ahead, m.ahead[rate/50:])]
	m.ear.hear(f.heard, rate)
}

// speak sends the frame, or the next packet of a key. Nothing leaves without keys, an address and the wish to hear us.
func (m *media) speak(f *frames, rate int) {
	if m.sealer == nil || !m.choice.RTP.IsValid() || m.choice.RTP.Addr().IsUnspecified() || !m.choice.Direction.Sends() || rate != m.codec.Rate() {
		m.talking = false
		return
	}
	h := rtp.Header{PayloadType: m.choice.Codec.PayloadType, Sequence: m.seq, Timestamp: m.stamp, SSRC: m.ssrc}
	if m.digit == nil && len(m.digits) > 0 {
		next := m.digits[0]
		m.digits = m.digits[1:]
		if next.digit == 0 { // the pause between keys
			m.voicePacket(f, h)
			return
		}
		m.digit, _ = rtp.NewDigitSource(next.digit, next.d, m.choice.Events.Clock)
		m.digitAt = m.stamp
		m.digits = append([]pressed{{}, {}, {}}, m.digits...) // 60 ms, so that two equal keys are two
	}
	if m.digit != nil {
		var event [4]byte
		if n, first := m.digit.Next(event[:]); n > 0 {
			h.PayloadType, h.Timestamp, h.Marker = m.choice.Events.PayloadType, m.digitAt, first
			m.emit(append(rtp.AppendHeader(f.packet[:0], h), event[:n]...), f, n)
			m.talking = false
			return
		}
		m.digit = nil
	}
	m.voicePacket(f, h)
}

func (m *media) voicePacket(f *frames, h rtp.Header) {
	h.Marker = !m.talking
	m.talking = true
	b := rtp.AppendHeader(f.packet[:0], h)
	n := len(b)
	b = m.codec.Encode(b, f.say)
	m.emit(b, f, len(b)-n)
}

// emit seals a packet and sends it.
func (m *media) emit(b []byte, f *frames, payload int) {
	f.packet = b
	out, err := m.sealer.RTP(f.sealed[:0], b)
	if err != nil {
		return
	}
	f.sealed = out
	m.seq++
	m.sent++
	m.octets += uint32(payload)
	m.packets++
	_, _ = m.pc.WriteTo(out, m.dest) // loss is what RTP is made for
}

// report writes a sender or receiver report with our canonical name.
func (m *media) report() []byte {
	now := time.Now()
	var blocks []rtp.Block
	if b, ok := m.receiver.Report(now.Sub(m.begin)); ok {
		blocks = append(blocks, b)
	}
	var sr *rtp.Sender
	if m.sent > 0 {
		sr = &rtp.Sender{NTP: rtp.NTP(now), Timestamp: m.stamp, Packets: m.sent, Octets: m.octets}
	}
	b := rtp.AppendReport(nil, m.ssrc, sr, blocks...)
	return rtp.AppendName(b, m.ssrc, fmt.Sprintf("%08x", m.ssrc)) // a name that tells nothing about the person
}

// voiceReport appends how the call sounded here (RFC 3611 section 4.7), if anything was heard.
func (m *media) voiceReport(b []byte) []byte {
	block, ok := m.receiver.Report(time.Since(m.begin))
	if !ok {
		return b
	}
	heard := m.receiver.Snapshot()
	late, _ := m.jitter.Trouble()
	all := float64(heard.PacketsIn + heard.Lost)
	loss, gone := float64(heard.Lost)/all, float64(late)/all
	_, depth := m.jitter.Depth()
	milliseconds := func(d time.Duration) uint16 { return uint16(min(d/time.Millisecond, 0xffff)) }
	buffer := milliseconds(time.Duration(depth) * frameTime)
	mos := rtp.G711().MOS(loss+gone, m.receiver.Jitter(), m.trip)
	return rtp.AppendVoice(b, m.ssrc, rtp.VoIPMetrics{SSRC: block.SSRC, Loss: uint8(min(loss*256, 255)), Discard: uint8(min(gone*256, 255)), RoundTrip: milliseconds(m.trip), EndSystem: milliseconds(2*frameTime) + buffer,
		R: uint8(rtp.G711().R(loss+gone, m.receiver.Jitter(), m.trip)), MOSLQ: uint8(10 * rtp.G711().MOS(loss+gone, 0, 0)), MOSCQ: uint8(10 * mos), JitterNow: buffer, JitterPeak: buffer})
}

// control seals and sends an RTCP packet.
func (m *media) control(b []byte) {
	to := m.choice.RTCP
	if m.sealer == nil || !to.IsValid() || to.Port() == 0 || to.Addr().IsUnspecified() {
		return
	}
	if out, err := m.sealer.RTCP(nil, b); err == nil {
		_, _ = m.pc.WriteTo(out, net.UDPAddrFromAddrPort(to))
	}
}
