package faults_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/node"
	"ringfence/internal/service/phone"
	"ringfence/internal/sip"
	"ringfence/internal/testkit/onehost"
)

// A node is killed in the middle of many calls and started again: who was registered still is, phones come back by themselves and
// call, no call haunts the new node, and the records of what had ended are whole.
func TestKilledDuringCalls(t *testing.T) {
	const perUser, ended = 4, 40
	calls := size(200, 100, 1000)
	n := calls / perUser
	p := plan{Data: t.TempDir(), SIP: onehost.Config().SIP.TLS, HTTPS: onehost.Config().API.HTTPS,
		Users: map[string]int{"a": n, "b": n, "p": 2}, First: map[string]int{"a": 4000, "b": 5000, "p": 100}}
	first := start(t, p)
	s := first.site()
	alice, bob := s.phone("p0"), s.phone("p1")
	call := s.talk(alice, bob, "101")
	from, to := s.pairs(n)
	s.each(ended, func(i int) error {
		if i >= n {
			return nil
		}
		c, err := from[i].call(to[i], strconv.Itoa(5000+i))
		if err != nil {
			return err
		}
		return c.bye()
	})
	s.Until("the records are kept", func() bool { return len(first.ask("state").CDRs) >= min(ended, n) })
	s.each(n, func(i int) error {
		for range perUser {
			if _, err := from[i].call(to[i], strconv.Itoa(5000+i)); err != nil {
				return err
			}
		}
		return nil
	})
	s.Until("the calls are noted", func() bool { return first.ask("state").Open == calls+1 })
	if l := first.now; l.Load.Calls != calls+1 || l.Live != 2*n+2 || l.Bindings != l.Live {
		t.Fatalf("before: %+v, %d bindings, %d live", l.Load, l.Bindings, l.Live)
	}
	records := len(first.now.CDRs)
	first.kill()
	s.Until("the phones notice", func() bool { return !alice.Registered() && !bob.Registered() })

	p.SIP, p.HTTPS = first.now.SIP, first.now.HTTPS
	began := time.Now()
	second := start(t, p)
	s.Until("the phones are back by themselves", func() bool { return alice.Registered() && bob.Registered() })
	l := second.ask("state")
	t.Logf("killed with %d calls; after %v %d bindings are back, %d phones have returned, %d records beside %d are there", calls+1, time.Since(began).Round(time.Millisecond), l.Bindings, l.Live, len(l.CDRs), records)
	if l.Bindings != 2*n+2 || l.Live != 2 {
		t.Errorf("%d bindings, %d live", l.Bindings, l.Live)
	}
	if l.Load.Calls != 0 || l.Load.Dialogs != 0 || l.Load.Legs != 0 {
		t.Errorf("ghosts: %+v", l.Load)
	}
	if len(l.CDRs) != records+calls+1 || l.Open != 0 {
		t.Errorf("%d records, %d of calls that had ended and %d of those that had not; %d are still open", len(l.CDRs), records, calls+1, l.Open)
	}
	unexpected := 0
	for _, c := range l.CDRs {
		if c.Cause == "the node stopped unexpectedly" {
			unexpected++
		}
		if c.End.Before(c.Start) || c.Cause == "" || c.Verdict != ringfence.Sealed || len(c.Legs) == 0 {
			t.Errorf("a record is not whole: %+v", c)
		}
	}
	if unexpected != calls+1 {
		t.Errorf("%d records say that the node stopped", unexpected)
	}
	// The old call ends for its phones; the new node knows nothing of it, and new calls work.
	for _, c := range []*phone.Call{call.out, call.in} {
		c.Hangup()
		_ = c.WaitEnded(s.Ctx)
	}
	back, err := s.peer("a0")
	s.OK(err)
	s.OK(back.request("BYE", "sip:5000@"+s.Domain, "<sip:5000@"+s.Domain+">;tag=8000000000000000", from[0].id+"-3", nil))
	if _, err := back.expect(0, 481); err != nil {
		t.Errorf("a BYE for a call of the old node: %v", err)
	}
	again := s.talk(alice, bob, "101")
	again.goesOn()
	again.hangup()
	s.Until("the new call has its record", func() bool { return len(second.ask("state").CDRs) > len(l.CDRs) })
	s.Until("no call is left", func() bool { l := second.ask("state").Load; return l == node.Load{Conns: l.Conns, Asked: l.Asked} })
}

// The disk fills while phones talk: registrations that cannot be kept are refused with a time to come again and the log says
// why, calls go on, and everything works again once there is room, without a restart.
func TestDiskFull(t *testing.T) {
	const users = 40
	p := plan{Data: t.TempDir(), SIP: onehost.Config().SIP.TLS, HTTPS: onehost.Config().API.HTTPS, Disk: "8m",
		Users: map[string]int{"a": users, "p": 2}, First: map[string]int{"a": 4000, "p": 100}}
	c := start(t, p)
	s := c.site()
	call := s.talk(s.phone("p0"), s.phone("p1"), "101")
	var peers []*peer
	for i := range users / 2 {
		a, err := s.peer("a" + strconv.Itoa(i))
		s.OK(err)
		peers = append(peers, a)
	}
	c.ask("fill")
	// What is left of the last block of the journal may take a few more.
	var refused *statusError
	for i := 0; refused == nil; i++ {
		if i == 500 {
			t.Fatal("500 registrations were accepted on a full disk")
		}
		if err := peers[i%len(peers)].register(); err != nil {
			var ok bool
			if refused, ok = err.(*statusError); !ok {
				t.Fatal(err)
			}
		}
	}
	if wait, ok := refused.Uint(sip.HeaderRetryAfter, 3600); refused.Status() != 503 || !ok || wait == 0 {
		t.Errorf("%q with Retry-After %q", firstLine(refused.Message), refused.Get(sip.HeaderRetryAfter))
	}
	s.Until("the log says why", func() bool {
		said := c.logs.String()
		return strings.Contains(said, "a registration could not be kept") && strings.Contains(said, "see whether the disk is full")
	})
	call.goesOn()
	if l := c.ask("state"); l.Bindings != users/2+2 || l.Load.Calls != 1 {
		t.Errorf("on the full disk: %d bindings, %+v", l.Bindings, l.Load)
	}
	// A call that begins and ends on the full disk is served as well, and its record waits for room.
	extra := call.site.talk(call.b, call.a, "100")
	extra.hangup()
	call.goesOn()
	s.Until("only the first call is left", func() bool { return c.ask("state").Load.Calls == 1 })

	c.ask("free")
	for i := range users {
		a, err := s.peer("a" + strconv.Itoa(i))
		if err != nil {
			t.Fatal(fmt.Errorf("with room again: %w", err))
		}
		_ = a
	}
	call.goesOn()
	call.hangup()
	s.Until("both calls have a record", func() bool { return len(c.ask("state").CDRs) == 2 })
	if l := c.now; l.Load.Calls != 0 || l.Live < users+2 {
		t.Errorf("in the end: %d live bindings, %+v", l.Live, l.Load)
	}
}
