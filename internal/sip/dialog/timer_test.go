package dialog

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ringfence"
	"ringfence/internal/sip"
	"ringfence/internal/sip/transaction"
	"ringfence/internal/sip/transport"
)

func interval(d time.Duration) func(*Config) {
	return func(cfg *Config) { cfg.SessionExpires = d }
}

func TestSessionIsRefreshed(t *testing.T) {
	inBubble(t, interval(200*time.Second), func(t *testing.T, c *call) {
		c.up()
		time.Sleep(99 * time.Second)
		if a := c.alice.sent(); a != "" {
			t.Errorf("alice sent %q", a)
		}
		time.Sleep(time.Hour)
		a, b := c.alice.sent(), c.bob.sent()
		if n := strings.Count(a, "UPDATE"); n < 35 || n > 37 || strings.Count(b, "200") != n || strings.Contains(b, "UPDATE") {
			t.Errorf("alice sent %q, bob %q", a, b)
		}
		c.expect("an hour later", "", "")
		c.hangUp()
	})
}

func TestSessionIsRefreshedByReinvite(t *testing.T) {
	inBubble(t, interval(200*time.Second), func(t *testing.T, c *call) {
		c.up()
		c.bob.offered = func(o *Offer) { o.Answer([]byte("-B")) }
		c.alice.do(func() { c.alice.s.peerUpdate = false })
		time.Sleep(101 * time.Second)
		if a := c.alice.sent(); a != "INVITE ACK" {
			t.Errorf("alice sent %q", a)
		}
		c.expect("same description", "", "offered-A")
		c.hangUp()
	})
}

func TestPeerVanishes(t *testing.T) {
	inBubble(t, interval(200*time.Second), func(t *testing.T, c *call) {
		c.up()
		c.net.Blackhole(aliceAddr, bobAddr)
		start := time.Now()
		var aliceEnd, bobEnd time.Duration
		for time.Since(start) < 210*time.Second {
			time.Sleep(time.Second)
			if aliceEnd == 0 && c.alice.heard() != "" {
				aliceEnd = time.Since(start)
			}
			if bobEnd == 0 && c.bob.heard() != "" {
				bobEnd = time.Since(start)
			}
		}
		// Alice's refresh at 100 s has no answer for 32 s; bob gives up 32 s before the end of the interval.
		if aliceEnd != 132*time.Second && aliceEnd != 133*time.Second || bobEnd != 168*time.Second && bobEnd != 169*time.Second {
			t.Errorf("alice gave up after %v, bob after %v", aliceEnd, bobEnd)
		}
		if a, b := c.alice.sent(), c.bob.sent(); a != "UPDATE BYE" || b != "BYE" {
			t.Errorf("alice sent %q, bob %q", a, b)
		}
		if ringfence.KindOf(c.alice.end.Err) != ringfence.KindTimeout || ringfence.KindOf(c.bob.end.Err) != ringfence.KindTimeout {
			t.Errorf("%+v %+v", c.alice.end, c.bob.end)
		}
		c.net.Heal(aliceAddr, bobAddr)
	})
}

func TestIntervalTooSmall(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		first := true
		c.bob.invited = func(s *Session) {
			if first {
				first = false
				s.RejectWith(422, "", "", func(w *sip.Writer) { w.Uint(sip.HeaderMinSE, 3600) })
				return
			}
			s.Answer([]byte("-B"), nil)
		}
		c.invite("-A", nil)
		c.expect("second try", "answered-B", "invited ended422 invited confirmed")
		var last string
		for _, m := range c.alice.all() {
			if strings.HasPrefix(m, "INVITE") {
				last = m
			}
		}
		if !strings.Contains(last, "\r\nSession-Expires: 3600\r\n") || !strings.Contains(last, "\r\nMin-SE: 3600\r\n") || !strings.Contains(last, "CSeq: 2 INVITE") {
			t.Errorf("the second INVITE is %s", last)
		}
		c.hangUp()

		// Refused again with nothing new: given up. And a call that was cancelled is not tried again.
		c.bob.invited = func(s *Session) {
			s.RejectWith(422, "", "", func(w *sip.Writer) { w.Uint(sip.HeaderMinSE, 90) })
		}
		c.invite("-A", nil)
		c.expect("twice", "hung-up422", "invited ended422 invited ended422")
		c.bob.invited = func(s *Session) { s.Ring() }
		c.invite("-A", nil)
		c.alice.do(func() { c.alice.s.endSent = true })
		c.bob.do(func() {
			c.bob.s.RejectWith(422, "", "", func(w *sip.Writer) { w.Uint(sip.HeaderMinSE, 3600) })
		})
		c.expect("cancelled", "180 hung-up422", "invited ended422")
	})
}

// raw opens a bare connection to bob and returns a function that says something and gives the answer's start line.
func (c *call) raw(t *testing.T, from netip.Addr) (say func(text string) string, hang func()) {
	t.Helper()
	nc, err := c.net.Host(from).Dial(t.Context(), "x", c.bob.addr)
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) string {
		_, _ = nc.Write([]byte(text))
		_ = nc.SetReadDeadline(time.Now().Add(time.Second))
		b := make([]byte, 4096)
		n, err := nc.Read(b)
		if err != nil {
			return ""
		}
		return startLine(b[:n])
	}, func() { _ = nc.Close() }
}

// inDialog writes a request of alice's dialog.
func (c *call) inDialog(method sip.Method, seq uint32) string {
	var w sip.Writer
	c.alice.do(func() {
		c.alice.s.head(&w, "SIP/2.0/TCP 192.0.2.1:5060;branch="+sip.MagicCookie+newTag(), method, seq)
		w.Body("", nil)
	})
	return string(w.Bytes())
}

func TestStrangersAndOrder(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.up()
		stranger, hang := c.raw(t, netip.MustParseAddr("192.0.2.66"))
		if got := stranger(c.inDialog(sip.BYE, 10)); got != "481" {
			t.Errorf("a third party's BYE: %q", got)
		}
		if got := stranger(c.inDialog(sip.INVITE, 11)); got != "481" {
			t.Errorf("a third party's re-INVITE: %q", got)
		}
		hang()
		c.expect("strangers", "", "")
		same, hang := c.raw(t, aliceAddr) // the same peer over another connection
		defer hang()
		if got := same(c.inDialog(sip.INFO, 12)); got != "200" {
			t.Errorf("INFO: %q", got)
		}
		if got := same(c.inDialog(sip.INFO, 12)); got != "500" {
			t.Errorf("a repeated CSeq: %q", got)
		}
		if got := same(c.inDialog(sip.BYE, 3)); got != "500" {
			t.Errorf("an old CSeq: %q", got)
		}
		c.expect("one INFO", "", "INFO")
		if got := same(c.inDialog(sip.BYE, 13)); got != "200" {
			t.Errorf("BYE: %q", got)
		}
		if got := same(c.inDialog(sip.INFO, 14)); got != "481" {
			t.Errorf("after the end: %q", got)
		}
		c.expect("the end", "", "hung-up")
		c.alice.do(func() { c.alice.s.Bye("") }) // gets 481; the session ends all the same
		c.expect("the other end", "ended", "")
	})
}

func TestConnectionReplaced(t *testing.T) {
	inBubble(t, interval(200*time.Second), func(t *testing.T, c *call) {
		c.up()
		c.alice.s.Conn.Close(nil)
		synctest.Wait()
		c.expect("the call outlives its connection", "", "")
		var fresh *transport.Conn
		c.alice.flow = func(s *Session) *transport.Conn {
			if fresh == nil {
				fresh = c.alice.trans.Dial(t.Context(), "out", c.bob.addr, nil)
			}
			return fresh
		}
		c.alice.do(func() {
			c.alice.s.Send(sip.INFO, nil, "", nil, func(a transaction.Answer) { c.alice.note("%d", a.Status()) })
		})
		c.expect("over a new one", "200", "INFO")
		c.bob.do(func() {
			c.bob.s.Send(sip.INFO, nil, "", nil, func(a transaction.Answer) { c.bob.note("%d", a.Status()) })
		})
		c.expect("and back", "INFO", "200")
		c.hangUp()
	})
}

func TestLostConnectionIsRetriedUntilTheSessionExpires(t *testing.T) {
	inBubble(t, interval(200*time.Second), func(t *testing.T, c *call) {
		c.up()
		c.alice.s.Conn.Close(nil)
		time.Sleep(150 * time.Second) // the refresh at 100 s finds no connection, and tries again
		c.expect("not given up yet", "", "")
		time.Sleep(50 * time.Second)
		c.expect("given up", "ended", "ended")
	})
}

func TestFindsOnlyItsDialog(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, c *call) {
		c.up()
		b := c.bob.s
		c.bob.do(func() {
			find := func(id, local, remote string) bool {
				return c.bob.dl.Find(c.bob.shard, []byte(id), []byte(local), []byte(remote)) == b
			}
			if !find(b.CallID, b.LocalTag, b.RemoteTag) || find("x", b.LocalTag, b.RemoteTag) || find(b.CallID, "x", b.RemoteTag) || find(b.CallID, b.LocalTag, "x") {
				t.Error("Find is wrong")
			}
		})
		c.hangUp()
	})
}
