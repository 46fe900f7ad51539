package dialog

import (
	"bytes"
	"math/rand/v2"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
)

// Offer is a peer's re-INVITE or UPDATE that waits for the user's answer.
type Offer struct {
	SDP []byte // the peer's offer; empty if it asks us for one (a re-INVITE without a body)

	s        *Session
	tx       *transaction.Server
	wantsAck bool
	answered func(answer []byte) // hears the answer in the ACK
}

// Answer accepts the offer with our description.
func (o *Offer) Answer(sdp []byte) {
	s := o.s
	if s.in != o || s.state == Ended {
		return
	}
	s.learn(o.tx.Request) // a refused request changes nothing, so not earlier
	s.localSDP = bytes.Clone(sdp)
	w := o.tx.Respond(200, "")
	w.Header(sip.HeaderContact, s.Contact)
	w.Header(sip.HeaderAllow, allow)
	s.refresh.answer(s, o.tx.Request, w)
	w.Body("application/sdp", sdp)
	if o.tx.Method == sip.INVITE {
		o.wantsAck = o.answered != nil
		if !o.wantsAck {
			s.in = nil
		}
		s.sendOK(o.tx, w)
		return
	}
	s.in = nil
	o.tx.Send(200, w)
}

// Propose answers a re-INVITE without a body by an offer of ours; answered hears the peer's answer, from its ACK.
func (o *Offer) Propose(sdp []byte, answered func(answer []byte)) {
	o.answered = answered
	o.Answer(sdp)
}

func (o *Offer) acked(m *sip.Message) { o.answered(m.Body()) }

// Reject refuses the offer; the session stays as it was.
func (o *Offer) Reject(status int, phrase string, extra func(*sip.Writer)) {
	if o.s.in == o {
		o.s.in = nil
	}
	o.tx.Reply(status, phrase, extra)
}

func (s *Session) reinvited(tx *transaction.Server) {
	switch {
	case s.state == Early || s.in != nil:
		tx.Reply(500, "Another Offer Is Pending", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, uint64(1+rand.IntN(9))) })
	case s.out != nil && s.out.sent || s.ok.msg != nil:
		tx.Reply(491, "", nil)
	default:
		if !s.refresh.acceptable(tx) {
			return
		}
		tx.Data = s
		s.in = &Offer{SDP: bytes.Clone(tx.Request.Body()), s: s, tx: tx}
		s.user.Offered(s, s.in)
	}
}

func (s *Session) updated(tx *transaction.Server) {
	m := tx.Request
	if !s.refresh.acceptable(tx) {
		return
	}
	if len(m.Body()) == 0 { // a session refresh or a target refresh only
		s.learn(m)
		w := tx.Respond(200, "")
		w.Header(sip.HeaderContact, s.Contact)
		s.refresh.answer(s, m, w)
		w.Body("", nil)
		tx.Send(200, w)
		return
	}
	switch {
	case s.in != nil || s.state == Early && !s.UAC && !s.negotiated:
		tx.Reply(500, "Another Offer Is Pending", func(w *sip.Writer) { w.Uint(sip.HeaderRetryAfter, uint64(1+rand.IntN(9))) })
	case s.out != nil && s.out.sent || s.state == Early && !s.negotiated:
		tx.Reply(491, "", nil)
	default:
		tx.Keep()
		s.in = &Offer{SDP: bytes.Clone(m.Body()), s: s, tx: tx}
		s.user.Offered(s, s.in)
	}
}

// modification is an offer of ours inside the dialog.
type modification struct {
	sdp   []byte
	done  func(answer []byte, err error)
	tries int
	timer transaction.Timer // until it is tried again, or given up
	sent  bool              // a request is on its way; otherwise it waits for its turn
}

// patience is how long a re-INVITE may stay without a final answer (Timer C of RFC 3261 section 16.6).
const patience = 3 * time.Minute

// Modify sends our new offer (a re-INVITE). done hears the peer's answer, or why there is none; glare (491) is retried as
// RFC 3261 section 14.1 says, and an offer made before the ACK to our 2xx waits for it. A second call while one is pending fails with KindConflict.
func (s *Session) Modify(sdp []byte, done func(answer []byte, err error)) {
	if s.state != Confirmed || s.out != nil || s.in != nil {
		done(nil, &ringfence.Fault{Op: "dialog.modify", Kind: ringfence.KindConflict, Text: "another offer is pending, or the call is not up"})
		return
	}
	s.out = &modification{sdp: bytes.Clone(sdp), done: done}
	s.sendModification(s.out)
}

func (s *Session) sendModification(out *modification) {
	if s.state != Confirmed || s.out != out || s.ok.msg != nil {
		return // an ACK that is still to come brings us back here
	}
	if s.in != nil {
		s.retryLater(out)
		return
	}
	s.localSeq++
	seq := s.localSeq
	out.sent = true
	s.Shard.After(&out.timer, patience, func() { s.unanswered(out) })
	s.Shard.Request(s.conn(), sip.INVITE, func(w *sip.Writer, via string) {
		s.head(w, via, sip.INVITE, seq)
		w.Header(sip.HeaderContact, s.Contact)
		w.Header(sip.HeaderAllow, allow)
		w.Header(sip.HeaderSupported, "100rel, timer, replaces")
		s.refresh.offer(s, w)
		w.Body("application/sdp", out.sdp)
	}, func(a transaction.Answer) { s.modified(out, seq, a) })
}

// retryLater waits as RFC 3261 section 14.1 says: the owner of the Call-ID 2.1 to 4 s, the other 0 to 2 s.
func (s *Session) retryLater(out *modification) {
	out.sent = false
	wait := time.Duration(rand.IntN(200)) * 10 * time.Millisecond
	if s.UAC {
		wait = 2100*time.Millisecond + time.Duration(rand.IntN(190))*10*time.Millisecond
	}
	s.Shard.After(&out.timer, wait, func() { s.sendModification(out) })
}

func (s *Session) unanswered(out *modification) {
	if s.out != out {
		return
	}
	s.out = nil
	out.done(nil, &ringfence.Fault{Op: "dialog.modify", Kind: ringfence.KindTimeout, Text: "the peer did not answer the change"})
}

func (s *Session) modified(out *modification, seq uint32, a transaction.Answer) {
	status := a.Status()
	if status < 200 {
		return
	}
	if status < 300 {
		s.learn(a.Message)
		s.sendAck(seq, nil)
		if s.out != out {
			return // repeated 2xx
		}
		s.out = nil
		out.timer.Stop()
		s.localSDP = out.sdp
		s.refresh.settle(s, a.Message, true)
		out.done(bytes.Clone(a.Body()), nil)
		return
	}
	if s.out != out || s.state == Ended {
		return
	}
	out.timer.Stop()
	if status == 491 && out.tries < 5 {
		out.tries++
		s.retryLater(out)
		return
	}
	if status == 422 && s.refresh.raise(a.Message) {
		s.sendModification(out)
		return
	}
	s.out = nil
	err := a.Err
	if err == nil {
		kind := ringfence.KindDenied
		if status == 488 || status == 606 {
			kind = ringfence.KindUnsupported
		}
		err = &ringfence.Fault{Op: "dialog.modify", Kind: kind, Text: "the peer refused the change: " + string(a.Reason())}
	}
	out.done(nil, err)
	if status == 481 || status == 408 {
		s.bye("")
		s.finish(End{Remote: true, Err: err})
	}
}
