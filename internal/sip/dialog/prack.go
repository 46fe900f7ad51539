package dialog

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
)

// relState is the reliable provisional response that waits for its PRACK (RFC 3262).
type relState struct {
	seq      uint32
	invite   uint32 // CSeq of the INVITE
	msg      []byte
	timer    transaction.Timer
	interval time.Duration
	waited   time.Duration
	sdp      bool   // it carries a description
	then     func() // the answer that waits for the PRACK
}

func (s *Session) progressReliably(status int, sdp []byte) {
	if s.rel.msg != nil {
		return // one at a time; the last one still waits
	}
	if s.rel.seq == 0 {
		s.rel.seq = rand.Uint32N(1 << 20)
	}
	s.rel.seq++
	s.rel.invite, _, _ = s.server.Request.CSeq()
	w := s.server.Respond(status, "")
	w.Header(sip.HeaderContact, s.Contact)
	s.recordRoute(w)
	w.Header(sip.HeaderAllow, allow)
	w.Header(sip.HeaderRequire, "100rel")
	w.Uint(sip.HeaderRSeq, uint64(s.rel.seq))
	w.Body("application/sdp", sdp)
	if s.rel.sdp = len(sdp) > 0; s.rel.sdp {
		s.localSDP = bytes.Clone(sdp)
	}
	s.rel.msg = bytes.Clone(w.Bytes())
	s.rel.interval, s.rel.waited = s.Shard.Layer().Timers().T1, 0
	s.server.Send(status, w)
	s.Shard.Wake(&s.rel.timer, s.rel.interval, (*rings)(s))
}

func (s *Session) repeatProgress() {
	if s.state != Early || s.rel.msg == nil {
		return
	}
	s.rel.waited += s.rel.interval
	limit := 64 * s.Shard.Layer().Timers().T1
	if s.rel.waited >= limit {
		s.Reject(504, "No PRACK", "")
		return
	}
	s.Shard.Send(s.conn(), s.rel.msg)
	s.rel.interval = min(2*s.rel.interval, limit-s.rel.waited)
	s.Shard.Wake(&s.rel.timer, s.rel.interval, (*rings)(s))
}

// pracked handles a PRACK of the peer.
func (s *Session) pracked(tx *transaction.Server) {
	rack := bytes.Fields(tx.Request.Get(sip.HeaderRAck))
	if s.rel.msg == nil || len(rack) != 3 || string(rack[0]) != strconv.FormatUint(uint64(s.rel.seq), 10) ||
		string(rack[1]) != strconv.FormatUint(uint64(s.rel.invite), 10) || string(rack[2]) != "INVITE" {
		tx.Reply(481, "", nil)
		return
	}
	s.rel.timer.Stop()
	s.rel.msg = nil
	if len(tx.Request.Body()) > 0 {
		tx.Reply(488, "No Offer In PRACK", nil)
		return
	}
	tx.Reply(200, "", nil)
	s.negotiated = s.negotiated || s.rel.sdp
	if then := s.rel.then; then != nil {
		s.rel.then = nil
		then()
	}
}

// prack acknowledges a reliable provisional response; it returns false for a repetition or one out of order.
func (s *Session) prack(m *sip.Message) bool {
	rseq, ok := m.Uint(sip.HeaderRSeq, 1<<32-1)
	if !ok || s.lastRSeq != 0 && uint32(rseq) != s.lastRSeq+1 {
		return false
	}
	s.lastRSeq = uint32(rseq)
	inviteSeq, _, _ := m.CSeq()
	s.Send(sip.PRACK, func(w *sip.Writer) {
		w.Header(sip.HeaderRAck, strconv.FormatUint(rseq, 10)+" "+strconv.FormatUint(uint64(inviteSeq), 10)+" INVITE")
	}, "", nil, nil)
	return true
}
