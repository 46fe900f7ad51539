package dialog

import (
	"bytes"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
)

// okState is the 2xx that we repeat until its ACK comes (RFC 3261 section 13.3.1.4).
type okState struct {
	msg      []byte
	seq      uint32
	timer    transaction.Timer
	interval time.Duration
	waited   time.Duration
	first    bool // it answers the initial INVITE
}

// Accept makes a session of a new INVITE. The user then calls Ring, Progress, Answer or Reject.
func (l *Layer) Accept(tx *transaction.Server, contact string, user User) *Session {
	m := tx.Request
	seq, _, _ := m.CSeq()
	var tag [16]byte
	text := together(m.CallID(), appendTag(tag[:0]), m.FromTag(), bare(m.Get(sip.HeaderTo)), bare(m.Get(sip.HeaderFrom)))
	s := &Session{Shard: tx.Shard, Conn: tx.Conn, CallID: text[0], LocalTag: text[1], RemoteTag: text[2], Local: text[3], Remote: text[4],
		Contact: contact, Routes: routes(m, false), layer: l, user: user, server: tx, remoteSeq: seq}
	tx.SetToTag(s.LocalTag)
	tx.Data = s
	s.learn(m)
	l.add(s)
	return s
}

// together returns its arguments as strings that are one allocation, since they live as long as each other.
func together(parts ...[]byte) (out [5]string) {
	var few [256]byte
	b := few[:0]
	for _, p := range parts {
		b = append(b, p...)
	}
	text := string(b)
	for i, p := range parts {
		out[i], text = text[:len(p)], text[len(p):]
	}
	return out
}

// Invite returns the INVITE that is not answered yet, or nil.
func (s *Session) Invite() *sip.Message {
	if s.server == nil {
		return nil
	}
	return s.server.Request
}

// Cancelled tells the session of tx, if it has one, that the peer gave up. It answers 487 and reports whether it knew tx.
func (l *Layer) Cancelled(tx *transaction.Server, cancel *sip.Message) bool {
	s, ok := tx.Data.(*Session)
	if !ok {
		return false
	}
	reason := string(cancel.Get(sip.HeaderReason))
	tx.Reply(487, "", nil)
	if s.server == tx {
		s.server = nil
		s.finish(End{Status: 487, Phrase: "Request Terminated", Reason: reason, Remote: true})
	} else if s.in != nil && s.in.tx == tx {
		s.in = nil
	}
	return true
}

// Ring sends 180 without a body.
func (s *Session) Ring() { s.Progress(180, nil) }

// Progress sends a provisional response, reliably if it has a body and the peer can take it so (RFC 3262).
func (s *Session) Progress(status int, sdp []byte) {
	if s.state != Early || s.server == nil {
		return
	}
	if (len(sdp) > 0 && s.peer100rel || s.server.Request.HasOption(sip.HeaderRequire, "100rel")) && status > 100 {
		s.progressReliably(status, sdp)
		return
	}
	w := s.server.Respond(status, "")
	w.Header(sip.HeaderContact, s.Contact)
	s.recordRoute(w)
	w.Header(sip.HeaderAllow, allow)
	w.Body("application/sdp", sdp)
	s.server.Send(status, w)
	if len(sdp) > 0 {
		s.localSDP = bytes.Clone(sdp)
	}
}

func (s *Session) recordRoute(w *sip.Writer) {
	for _, r := range s.Routes {
		w.Header(sip.HeaderRecordRoute, r)
	}
}

// Answer accepts the INVITE with 200 and repeats it until the ACK comes. sdp may be nil if a reliable provisional
// response has carried the answer; while that one waits for its PRACK, the answer waits too and the session stays Early.
func (s *Session) Answer(sdp []byte, extra func(*sip.Writer)) {
	if s.state != Early || s.server == nil {
		return
	}
	if s.rel.msg != nil && s.rel.sdp { // not before the description sent has been acknowledged (RFC 3262 section 3)
		sdp = bytes.Clone(sdp)
		s.rel.then = func() { s.Answer(sdp, extra) }
		return
	}
	tx := s.server
	s.server = nil
	s.rel.timer.Stop()
	w := tx.Respond(200, "")
	w.Header(sip.HeaderContact, s.Contact)
	s.recordRoute(w)
	w.Header(sip.HeaderAllow, allow)
	w.Header(sip.HeaderSupported, "100rel, timer, replaces")
	s.refresh.answer(s, tx.Request, w)
	if extra != nil {
		extra(w)
	}
	w.Body("application/sdp", sdp)
	if len(sdp) > 0 {
		s.localSDP = bytes.Clone(sdp)
	}
	s.state, s.negotiated = Confirmed, true
	s.ok.first = true
	s.sendOK(tx, w)
}

// sendOK sends a 2xx to an INVITE and keeps it until the ACK comes.
func (s *Session) sendOK(tx *transaction.Server, w *sip.Writer) {
	seq, _, _ := tx.Request.CSeq()
	timers := s.Shard.Layer().Timers()
	s.ok.msg, s.ok.seq, s.ok.interval, s.ok.waited = bytes.Clone(w.Bytes()), seq, timers.T1, 0
	tx.Send(200, w)
	s.Shard.Wake(&s.ok.timer, timers.T1, (*rings)(s))
}

func (s *Session) repeatOK() {
	timers := s.Shard.Layer().Timers()
	s.ok.waited += s.ok.interval
	if s.ok.waited >= 64*timers.T1 {
		s.ok.msg = nil
		s.bye(Reason(102, "no ACK"))
		s.finish(End{Err: &ringfence.Fault{Op: "dialog", Kind: ringfence.KindTimeout, Text: "the caller never acknowledged the answer"}})
		return
	}
	s.Shard.Send(s.conn(), s.ok.msg)
	s.ok.interval = min(2*s.ok.interval, timers.T2, 64*timers.T1-s.ok.waited)
	s.Shard.Wake(&s.ok.timer, s.ok.interval, (*rings)(s))
}

func (s *Session) acked(m *sip.Message, seq uint32) {
	if s.ok.msg == nil || seq != s.ok.seq {
		return
	}
	s.ok.timer.Stop()
	s.ok.msg = nil
	if s.in != nil && s.in.wantsAck {
		in := s.in
		s.in = nil
		in.acked(m)
	} else if s.ok.first {
		s.ok.first = false
		s.user.Confirmed(s, m)
	}
	if s.out != nil && !s.out.sent {
		s.sendModification(s.out)
	}
}

// Reject refuses the INVITE with a final response; reason is a Reason value or empty.
func (s *Session) Reject(status int, phrase, reason string) {
	s.RejectWith(status, phrase, reason, nil)
}

// RejectWith is Reject with further fields, such as Warning, Contact or Retry-After.
func (s *Session) RejectWith(status int, phrase, reason string, extra func(*sip.Writer)) {
	if s.state != Early || s.server == nil {
		return
	}
	tx := s.server
	s.server = nil
	tx.Reply(status, phrase, func(w *sip.Writer) {
		if reason != "" {
			w.Header(sip.HeaderReason, reason)
		}
		if extra != nil {
			extra(w)
		}
	})
	s.finish(End{Status: status, Phrase: phrase, Reason: reason})
}
