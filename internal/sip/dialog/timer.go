package dialog

import (
	"strconv"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
)

// minSE is the shortest session interval accepted (RFC 4028 section 4).
const minSE = 90 * time.Second

// sessionTimer keeps a session alive, or ends it when the peer is gone (RFC 4028).
type sessionTimer struct {
	interval time.Duration // agreed; 0 means none
	min      time.Duration // raised by a 422
	ours     bool          // we refresh
	until    time.Duration // when the session expires unless it is refreshed, on the clock of the shard
	timer    transaction.Timer
}

func (t *sessionTimer) wanted(s *Session) time.Duration {
	return max(s.layer.cfg.SessionExpires, t.min)
}

// offer asks for a session timer in an INVITE or re-INVITE.
func (t *sessionTimer) offer(s *Session, w *sip.Writer) {
	switch {
	case t.interval == 0:
		w.Uint(sip.HeaderSessionExpires, uint64(t.wanted(s)/time.Second))
	case t.ours:
		expires(w, t.interval, "uac")
	default:
		expires(w, t.interval, "uas")
	}
	w.Uint(sip.HeaderMinSE, uint64(max(t.min, minSE)/time.Second))
}

// expires writes Session-Expires and who refreshes.
func expires(w *sip.Writer, interval time.Duration, refresher string) {
	var few [48]byte
	b := append(strconv.AppendInt(few[:0], int64(interval/time.Second), 10), ";refresher="...)
	w.Value(sip.HeaderSessionExpires, append(b, refresher...))
}

// raise takes the interval a 422 asks for; it reports whether trying again makes sense.
func (t *sessionTimer) raise(m *sip.Message) bool {
	n, ok := m.Uint(sip.HeaderMinSE, 86400)
	d := time.Duration(n) * time.Second
	if !ok || d <= t.min {
		return false
	}
	t.min = d
	if t.interval > 0 {
		t.interval = max(t.interval, d)
	}
	return true
}

// acceptable answers 422 if the peer asks for an interval below the minimum.
func (t *sessionTimer) acceptable(tx *transaction.Server) bool {
	if n, ok := tx.Request.Uint(sip.HeaderSessionExpires, 1<<31); ok && time.Duration(n)*time.Second < minSE &&
		tx.Request.HasOption(sip.HeaderSupported, "timer") {
		tx.Reply(422, "", func(w *sip.Writer) { w.Uint(sip.HeaderMinSE, uint64(minSE/time.Second)) })
		return false
	}
	return true
}

// answer writes Session-Expires into a 2xx to req and starts the timer accordingly.
func (t *sessionTimer) answer(s *Session, req *sip.Message, w *sip.Writer) {
	supported := req.HasOption(sip.HeaderSupported, "timer")
	interval := t.wanted(s)
	if n, ok := req.Uint(sip.HeaderSessionExpires, 1<<31); ok {
		interval = min(interval, max(time.Duration(n)*time.Second, minSE))
	}
	refresher := refresherOf(req)
	if !supported {
		refresher = "uas"
	} else if refresher == "" {
		refresher = "uac"
	}
	t.start(s, interval, refresher == "uas")
	expires(w, interval, refresher)
	if supported {
		w.Header(sip.HeaderRequire, "timer")
	}
}

// settle reads what a 2xx to our request agreed to. Without Session-Expires the peer knows no timers and we refresh alone.
func (t *sessionTimer) settle(s *Session, m *sip.Message, sent bool) {
	n, ok := m.Uint(sip.HeaderSessionExpires, 1<<31)
	interval := time.Duration(n) * time.Second
	if !ok {
		interval = t.wanted(s)
	}
	t.start(s, max(interval, minSE), !ok || refresherOf(m) != "uas" == sent)
}

func refresherOf(m *sip.Message) string {
	v := m.Get(sip.HeaderSessionExpires)
	for i, c := range v {
		if c == ';' {
			r, _ := sip.Params(v[i:]).Get("refresher")
			return string(r)
		}
	}
	return ""
}

func (t *sessionTimer) start(s *Session, interval time.Duration, ours bool) {
	t.interval, t.ours, t.until = interval, ours, s.Shard.Clock()+interval
	wait := interval / 2
	if !ours { // RFC 4028 section 10: give up a little before the session expires
		wait = interval - min(32*time.Second, interval/3)
	}
	s.Shard.Wake(&t.timer, wait, (*rings)(s))
}

func (t *sessionTimer) expire(s *Session) {
	if s.state != Confirmed {
		return
	}
	s.bye(Reason(102, "session timer expired"))
	s.finish(End{Err: &ringfence.Fault{Op: "dialog.timer", Kind: ringfence.KindTimeout, Text: "the peer did not refresh the session"}})
}

// refresh renews the session by UPDATE, or by a re-INVITE with the same description if the peer has no UPDATE.
func (t *sessionTimer) refresh(s *Session) {
	if s.state != Confirmed {
		return
	}
	if !s.peerUpdate {
		s.Modify(s.localSDP, func(_ []byte, err error) {
			if err != nil {
				t.again(s, ringfence.KindOf(err))
			}
		})
		return
	}
	s.Send(sip.UPDATE, func(w *sip.Writer) {
		w.Header(sip.HeaderSupported, "timer")
		t.offer(s, w)
	}, "", nil, func(a transaction.Answer) {
		switch status := a.Status(); {
		case status < 200 || s.state != Confirmed:
		case status < 300:
			t.settle(s, a.Message, true)
		case status == 408:
			t.again(s, ringfence.KindTimeout)
		case status == 422 && t.raise(a.Message):
			t.refresh(s)
		default:
			t.again(s, ringfence.KindUnavailable)
		}
	})
}

// again tries the refresh once more before the session expires. Silence ends it at once (RFC 4028 section 10); a lost
// connection, glare or a refusal may pass.
func (t *sessionTimer) again(s *Session, why ringfence.Kind) {
	const pause = 10 * time.Second
	if s.state != Confirmed {
		return
	}
	if why == ringfence.KindTimeout || t.until-s.Shard.Clock() < 2*pause {
		t.expire(s)
		return
	}
	s.Shard.After(&t.timer, pause, func() { t.refresh(s) })
}
