package dialog

import (
	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

// Invitation says whom to invite and how.
type Invitation struct {
	Conn    *transport.Conn
	URI     string   // Request-URI
	Routes  []string // Route values, e.g. the Path of a registration
	From    string   // name-addr without tag
	To      string   // name-addr without tag
	Contact string   // our Contact value
	SDP     []byte   // the offer; the session keeps it
	Spent   int      // how many of the hops that a request has it has behind it
	Extra   func(*sip.Writer)
}

// Invite sends an INVITE and returns the session, whose user hears what becomes of it.
func (l *Layer) Invite(shard *transaction.Shard, in Invitation, user User) *Session {
	s := &Session{Shard: shard, Conn: in.Conn, CallID: shard.Layer().NewCallID(shard), LocalTag: newTag(),
		Local: in.From, Remote: in.To, Target: in.URI, Routes: in.Routes, Contact: in.Contact, UAC: true, spent: in.Spent,
		layer: l, user: user, localSeq: 1, localSDP: in.SDP}
	l.add(s)
	s.extra = in.Extra
	s.invite()
	return s
}

func (s *Session) invite() {
	seq := s.localSeq
	s.ackSeq = seq
	s.client = s.Shard.Request(s.conn(), sip.INVITE, func(w *sip.Writer, via string) {
		s.head(w, via, sip.INVITE, seq)
		w.Header(sip.HeaderContact, s.Contact)
		w.Header(sip.HeaderAllow, allow)
		w.Header(sip.HeaderSupported, "100rel, timer, replaces")
		s.refresh.offer(s, w)
		if s.extra != nil {
			s.extra(w)
		}
		w.Body("application/sdp", s.localSDP)
	}, s.invited)
}

// invited hears the answers to our initial INVITE.
func (s *Session) invited(a transaction.Answer) {
	status := a.Status()
	switch {
	case a.Message == nil:
		s.client = nil
		s.finish(End{Status: status, Err: a.Err})
	case status == 100:
	case status < 200:
		if s.state == Early {
			s.provisional(a.Message)
		}
	case status < 300:
		s.accepted(a.Message)
	case status == 422 && !s.endSent && s.refresh.raise(a.Message):
		s.localSeq++
		s.invite()
	default:
		s.client = nil
		e := End{Status: status, Phrase: string(a.Reason()), Reason: string(a.Get(sip.HeaderReason)), Remote: true, Message: a.Message}
		if status < 400 {
			for line := range a.All(sip.HeaderContact) {
				for v := range sip.Values(line) {
					e.Contacts = append(e.Contacts, string(v))
				}
			}
		}
		s.finish(e)
	}
}

func (s *Session) provisional(m *sip.Message) {
	if tag := m.ToTag(); len(tag) > 0 {
		if s.RemoteTag != string(tag) { // another branch of a fork counts its reliable responses anew
			s.RemoteTag, s.lastRSeq = string(tag), 0
		}
		s.learn(m)
		s.Routes = pick(routes(m, true), s.Routes)
		if m.HasOption(sip.HeaderRequire, "100rel") && !s.prack(m) {
			return // a repetition
		}
		if m.HasOption(sip.HeaderRequire, "100rel") && len(m.Body()) > 0 {
			s.negotiated = true
		}
	}
	s.user.Progress(s, m)
}

func pick(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}

func (s *Session) accepted(m *sip.Message) {
	tag := string(m.ToTag())
	switch {
	case s.state == Confirmed && tag == s.RemoteTag:
		s.Shard.Send(s.conn(), s.ack) // our ACK was lost
		return
	case s.state != Early:
		s.layer.dropFork(s.Shard, s.Conn, m)
		return
	}
	s.client, s.answered = nil, s.client
	s.extra = nil
	s.RemoteTag = tag
	s.learn(m)
	s.Routes = pick(routes(m, true), s.Routes)
	s.state, s.negotiated = Confirmed, true
	s.sendAck(s.ackSeq, nil)
	s.refresh.settle(s, m, true)
	if s.endSent { // it was answered while we were cancelling
		s.endSent = false
		s.bye("")
		s.finish(End{Status: 487, Phrase: "Request Terminated"})
		return
	}
	s.user.Answered(s, m)
}

// sendAck acknowledges a 2xx.
func (s *Session) sendAck(seq uint32, sdp []byte) {
	s.ack = s.Shard.Acknowledge(s.conn(), func(w *sip.Writer, via string) {
		s.head(w, via, sip.ACK, seq)
		w.Body("application/sdp", sdp)
	})
}

// dropFork ends the dialog that a 2xx to an INVITE of ours makes when there was one before: a proxy forked the INVITE, or the call is
// over and the ACK was lost. All that it takes is in the response.
func (l *Layer) dropFork(shard *transaction.Shard, conn *transport.Conn, m *sip.Message) {
	seq, _, _ := m.CSeq()
	f := &Session{Shard: shard, Conn: conn, CallID: string(m.CallID()), LocalTag: string(m.FromTag()), RemoteTag: string(m.ToTag()), Local: string(bare(m.Get(sip.HeaderFrom))),
		Remote: string(bare(m.Get(sip.HeaderTo))), layer: l, localSeq: seq, state: Confirmed}
	if to, err := sip.ParseNameAddr(m.Get(sip.HeaderTo)); err == nil {
		f.Target = to.URI.String() // unless there is a Contact
	}
	f.learn(m)
	f.Routes = routes(m, true)
	f.sendAck(seq, nil)
	f.bye("")
}

// Cancel gives up an INVITE that was not answered yet. The user hears Ended when the peer confirms, or it timed out.
func (s *Session) Cancel(reason string) {
	if s.state != Early || s.client == nil || s.endSent {
		return
	}
	s.endSent = true
	s.client.Cancel(func(w *sip.Writer) {
		if reason != "" {
			w.Header(sip.HeaderReason, reason)
		}
	})
}

// Abandon ends a session whose INVITE has no answer and, as it seems, will have none: the user hears Ended at once. Should the peer say
// something after all, it is cancelled, or hung up on.
func (s *Session) Abandon(reason string) {
	if s.state != Early || !s.UAC {
		s.Bye(reason)
		return
	}
	s.Cancel(reason)
	s.finish(End{Status: 408, Reason: reason, Err: &ringfence.Fault{Op: "dialog", Kind: ringfence.KindTimeout, Text: "the peer does not answer"}})
}
