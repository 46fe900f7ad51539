package relay

import (
	"fmt"
	"time"

	"ringfence/internal/media/rtp"
)

// reportEvery is the time between the reports of a leg whose media ends here (RFC 3550 section 6.2: five seconds at least).
const reportEvery = 5 * time.Second

// played is what was sent of the stream being played, for the sender reports on it.
type played struct {
	ssrc    uint32
	stamp   uint32 // timestamp of the last frame
	at      time.Duration
	packets uint32
	octets  uint32
}

// count notes a frame that was sent.
func (s *played) count(ssrc, stamp uint32, at time.Duration, octets int) {
	if s.ssrc != ssrc {
		*s = played{ssrc: ssrc}
	}
	s.stamp, s.at = stamp, at
	s.packets++
	s.octets += uint32(octets)
}

// report sends a sender or receiver report to a leg that is joined to nobody; between joined legs the peers' own reports
// pass through.
func (p *Endpoint) report(now time.Time) {
	at := p.engine.since(now)
	if p.peer.Load() != nil || at-time.Duration(p.reported.Load()) < reportEvery {
		return
	}
	p.reported.Store(int64(at))
	p.in.mu.Lock()
	block, heard := p.in.measure.Report(at)
	p.in.mu.Unlock()

	out := &p.out
	out.mu.Lock()
	defer out.mu.Unlock()
	plays := out.playing != nil && out.played.packets > 0
	if out.closed || out.sealer == nil || !plays && !heard {
		return
	}
	var blocks []rtp.Block
	if heard {
		blocks = append(blocks, block)
	}
	ssrc, sender := p.own, (*rtp.Sender)(nil)
	if plays {
		s := out.played
		ssrc = s.ssrc
		// The frame's instant in wall-clock time goes with its timestamp.
		sender = &rtp.Sender{NTP: rtp.NTP(now.Add(s.at - at)), Timestamp: s.stamp, Packets: s.packets, Octets: s.octets}
	}
	b := rtp.AppendReport(make([]byte, 0, 256), ssrc, sender, blocks...)
	p.sendControl(rtp.AppendName(b, ssrc, fmt.Sprintf("%08x", p.own)))
}
