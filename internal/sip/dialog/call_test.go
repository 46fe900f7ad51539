package dialog

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
)

func TestBasicCall(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.bob.invited = func(s *Session) { s.Ring() }
		s := c.invite("-A", func(w *sip.Writer) { w.Header(sip.HeaderSubject, "hello") })
		c.expect("ringing", "180", "invited")
		if string(c.bob.s.Invite().Get(sip.HeaderSubject)) != "hello" || s.State() != Early || c.bob.s.State() != Early {
			t.Error("the INVITE was not as asked for")
		}
		c.bob.do(func() { c.bob.s.Answer([]byte("-B"), nil) })
		c.expect("answer", "answered-B", "confirmed")
		if a, b := c.alice.sent(), c.bob.sent(); a != "INVITE ACK" || b != "180 200" {
			t.Errorf("alice sent %q, bob %q", a, b)
		}
		if s.Target != "sip:bob@192.0.2.2:5060;transport=tcp" || s.RemoteTag != c.bob.s.LocalTag || string(s.LocalSDP()) != "-A" || string(c.bob.s.LocalSDP()) != "-B" {
			t.Errorf("%+v", s)
		}
		c.bob.do(func() {
			c.bob.s.Send(sip.INFO, nil, "text/plain", []byte("x"), func(a transaction.Answer) { c.bob.note("info%d", a.Status()) })
		})
		c.expect("INFO", "INFO", "info200")
		c.bob.do(func() { c.bob.s.Bye(Reason(16, "normal")) })
		c.expect("BYE", "hung-up", "ended")
		if c.alice.end.Reason != `Q.850;cause=16;text="normal"` {
			t.Errorf("reason %q", c.alice.end.Reason)
		}
		// The dialog is gone: what else is said in it gets 481.
		c.alice.sent()
		c.bob.do(func() { c.bob.s.Send(sip.INFO, nil, "", nil, nil) })
		if got := c.alice.sent(); got != "481" {
			t.Errorf("after the end: %q", got)
		}
	})
}

func TestEarlyMediaWaitsForPRACK(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		lose := true
		c.alice.drop = func(line string) bool {
			if line == "183" && lose {
				lose = false
				return true
			}
			return false
		}
		c.bob.invited = func(s *Session) {
			s.Progress(183, []byte("-B"))
			s.Answer(nil, nil) // at once: it has to wait for the PRACK
		}
		c.invite("-A", nil)
		c.expect("the first 183 is lost", "", "invited")
		c.bob.do(func() {
			if c.bob.s.State() != Early {
				t.Error("answered before the PRACK")
			}
		})
		time.Sleep(600 * time.Millisecond)
		c.expect("the second one arrives", "183-B answered", "confirmed")
		if a, b := c.alice.sent(), c.bob.sent(); a != "INVITE PRACK ACK" || b != "183 183 200 200" {
			t.Errorf("alice sent %q, bob %q", a, b)
		}
		if string(c.bob.s.LocalSDP()) != "-B" {
			t.Errorf("bob's description is %q", c.bob.s.LocalSDP())
		}
		c.hangUp()
	})
}

func TestNoPRACK(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.bob.drop = func(line string) bool { return line == "PRACK" }
		c.bob.invited = func(s *Session) { s.Progress(183, []byte("-B")) }
		c.invite("-A", nil)
		time.Sleep(33 * time.Second)
		c.expect("no PRACK came", "183-B hung-up504", "invited ended504")
	})
}

func TestCancelAndReject(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.bob.invited = func(s *Session) { s.Ring() }
		c.invite("-A", nil)
		c.alice.do(func() { c.alice.s.Bye(`SIP;cause=200;text="elsewhere"`) })
		c.expect("CANCEL", "180 hung-up487", "invited hung-up487")
		if c.bob.end.Reason != `SIP;cause=200;text="elsewhere"` {
			t.Errorf("reason %q", c.bob.end.Reason)
		}

		c.bob.invited = func(s *Session) {
			s.RejectWith(302, "", "", func(w *sip.Writer) { w.Header(sip.HeaderContact, "<sip:c@example.com>, <sip:d@example.com>") })
		}
		c.invite("-A", nil)
		c.expect("redirect", "hung-up302", "invited ended302")
		if got := strings.Join(c.alice.end.Contacts, " "); got != "<sip:c@example.com> <sip:d@example.com>" {
			t.Errorf("contacts %q", got)
		}

		// The answer crosses the CANCEL: the call is ended by BYE.
		c.bob.invited = nil
		c.invite("-A", nil)
		c.alice.do(func() { c.alice.s.Cancel("") })
		c.bob.do(func() { c.bob.s.Answer([]byte("-B"), nil) })
		c.expect("crossing", "ended487", "invited confirmed hung-up")
	})
}

func TestByeInEarlyDialogAnswersTheInvite(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.bob.invited = func(s *Session) { s.Ring() }
		c.invite("-A", nil)
		c.alice.do(func() { c.alice.s.Send(sip.BYE, nil, "", nil, nil) })
		c.expect("BYE", "180 hung-up487", "invited hung-up")
	})
}

func TestForkedAnswerIsEnded(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.up()
		// A second device answers the same INVITE.
		var invite string
		for _, m := range c.alice.all() {
			if strings.HasPrefix(m, "INVITE") {
				invite = m
			}
		}
		var m sip.Message
		if err := m.Parse([]byte(invite), sip.Limits{}); err != nil {
			t.Fatal(err)
		}
		var w sip.Writer
		w.Response(&m, 200, "", "other")
		w.Header(sip.HeaderContact, "<sip:other@192.0.2.2:5060;transport=tcp>")
		w.Body("", nil)
		conn := c.bob.trans.Conns()[0]
		_, _ = conn.Queue(w.Bytes())
		conn.Flush()
		if got := c.alice.sent(); got != "ACK BYE" {
			t.Errorf("alice sent %q", got)
		}
		if last := c.alice.last(); !strings.HasPrefix(last, "BYE sip:other@192.0.2.2:5060;transport=tcp SIP/2.0\r\n") || !strings.Contains(last, ";tag=other\r\n") {
			t.Errorf("the BYE is %s", last)
		}
		c.expect("the first answer stays", "", "")
		c.hangUp()
	})
}

func TestLostACK(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.bob.drop = func(line string) bool { return line == "ACK" }
		c.bob.invited = func(s *Session) { s.Answer([]byte("-B"), nil) }
		c.invite("-A", nil)
		time.Sleep(5 * time.Second)
		if got := c.bob.sent(); got != "200 200 200 200" { // at 0, 0.5, 1.5, 3.5 s
			t.Errorf("bob sent %q", got)
		}
		if got := c.alice.sent(); got != "INVITE ACK ACK ACK ACK" {
			t.Errorf("alice sent %q", got)
		}
		time.Sleep(30 * time.Second)
		c.expect("given up", "answered-B hung-up", "invited ended")
		if ringfence.KindOf(c.bob.end.Err) != ringfence.KindTimeout {
			t.Errorf("bob's end: %+v", c.bob.end)
		}
	})
}

func TestModifyBothWays(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.up()
		change := func(from, to *node, sdp string) {
			to.offered = func(o *Offer) { o.Answer([]byte("-yes")) }
			from.do(func() {
				from.s.Modify([]byte(sdp), func(answer []byte, err error) { from.note("changed%s %v", answer, err) })
				from.s.Modify(nil, func(_ []byte, err error) { from.note("%v", ringfence.KindOf(err)) })
			})
		}
		change(c.alice, c.bob, "-hold")
		c.expect("alice changes", "conflict changed-yes <nil>", "offered-hold")
		change(c.bob, c.alice, "-resume")
		c.expect("bob changes", "offered-resume", "conflict changed-yes <nil>")
		if string(c.bob.s.LocalSDP()) != "-resume" || string(c.alice.s.LocalSDP()) != "-yes" {
			t.Error("the descriptions were not kept")
		}
		c.bob.offered = func(o *Offer) { o.Reject(488, "", nil) }
		c.alice.do(func() {
			c.alice.s.Modify([]byte("-video"), func(_ []byte, err error) { c.alice.note("%v", ringfence.KindOf(err)) })
		})
		c.expect("refused", "unsupported", "offered-video")
		if string(c.alice.s.LocalSDP()) != "-yes" {
			t.Error("a refused change was kept")
		}
		c.hangUp()
	})
}

func TestDelayedOffer(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.up()
		c.bob.offered = func(o *Offer) {
			o.Propose([]byte("-ours"), func(answer []byte) { c.bob.note("agreed%s", answer) })
		}
		c.alice.do(func() { // alice's session has no API for it, so it is written by hand
			s := c.alice.s
			s.localSeq++
			seq := s.localSeq
			s.Shard.Request(s.Conn, sip.INVITE, func(w *sip.Writer, via string) {
				s.head(w, via, sip.INVITE, seq)
				w.Header(sip.HeaderContact, s.Contact)
				w.Body("", nil)
			}, func(a transaction.Answer) {
				if a.Status() == 200 {
					c.alice.note("200%s", a.Body())
					s.sendAck(seq, []byte("-theirs"))
				}
			})
		})
		c.expect("delayed offer", "200-ours", "offered agreed-theirs")
		c.hangUp()
	})
}

func TestGlare(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.up()
		c.net.SetShape(testkitShape(20 * time.Millisecond))
		c.alice.offered = func(o *Offer) { o.Answer([]byte("-a")) }
		c.bob.offered = func(o *Offer) { o.Answer([]byte("-b")) }
		modify := func(n *node, sdp string) {
			n.shard.Do(func() {
				n.s.Modify([]byte(sdp), func(answer []byte, err error) { n.note("changed%s %v", answer, err) })
			})
		}
		// Both connections were opened without delay, so hold back what arrives until both have sent.
		hold := make(chan struct{})
		c.alice.drop = func(string) bool { <-hold; return false }
		c.bob.drop = func(string) bool { <-hold; return false }
		modify(c.alice, "-x")
		modify(c.bob, "-y")
		synctest.Wait()
		close(hold)
		synctest.Wait()
		c.alice.mu.Lock()
		both := strings.Join(c.alice.wire, " ")
		c.alice.mu.Unlock()
		if !strings.Contains(both, "INVITE 491") {
			t.Errorf("alice sent %q", both)
		}
		time.Sleep(10 * time.Second)
		c.expect("both changes get through", "offered-y changed-b <nil>", "changed-a <nil> offered-x")
		c.hangUp()
	})
}

func TestUpdate(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.up()
		update := func(sdp string, headers ...string) string {
			var status int
			c.alice.do(func() {
				c.alice.s.Send(sip.UPDATE, func(w *sip.Writer) {
					for i := 0; i < len(headers); i += 2 {
						w.Named(headers[i], headers[i+1])
					}
				}, "application/sdp", []byte(sdp), func(a transaction.Answer) {
					status = a.Status()
					c.alice.note("%d%s", status, a.Body())
				})
			})
			return c.alice.heard()
		}
		c.bob.offered = func(o *Offer) { o.Answer([]byte("-b")) }
		if got := update("-x"); got != "200-b" {
			t.Errorf("UPDATE: %q", got)
		}
		if got := update(""); got != "200" {
			t.Errorf("UPDATE without a body: %q", got)
		}
		if got := update("-y", "Session-Expires", "30", "Supported", "timer"); got != "422" {
			t.Errorf("UPDATE with a short interval: %q", got)
		}
		c.bob.offered = nil
		if got := update("-z"); got != "" {
			t.Errorf("UPDATE that is not answered yet: %q", got)
		}
		if got := update("-zz"); got != "500" {
			t.Errorf("a second offer: %q", got)
		}
		c.bob.do(func() { c.bob.offer.Answer([]byte("-late")) })
		c.expect("the late answer", "200-late", "offered-x offered-z")
		c.hangUp()
	})
}

func TestTargetRefresh(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.up()
		c.alice.do(func() {
			c.alice.s.Contact = "<sip:alice@192.0.2.77:5060;transport=tcp>"
			c.alice.s.Modify([]byte("-x"), func([]byte, error) {})
		})
		if c.bob.s.Target != "sip:alice@192.0.2.1:5060;transport=tcp" {
			t.Error("the target changed before the change was accepted")
		}
		c.bob.do(func() { c.bob.offer.Answer([]byte("-b")) })
		if c.bob.s.Target != "sip:alice@192.0.2.77:5060;transport=tcp" {
			t.Errorf("bob's target is %s", c.bob.s.Target)
		}
		c.alice.heard()
		c.bob.heard()
		c.hangUp()
	})
}
