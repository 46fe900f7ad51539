package faults_test

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"ringfence/internal/node"
	"ringfence/internal/node/config"
	"ringfence/internal/sip"
)

// pairs registers n pairs of hand-made peers, a0 and b0 to an and bn; b's numbers start at 5000.
func (s *site) pairs(n int) (from, to []*peer) {
	s.Helper()
	if s.Node != nil {
		s.users("a", 4000, n)
		s.users("b", 5000, n)
	}
	for i := range n {
		for _, side := range []struct {
			name string
			list *[]*peer
		}{{"a", &from}, {"b", &to}} {
			p, err := s.peer(side.name + strconv.Itoa(i))
			s.OK(err)
			*side.list = append(*side.list, p)
		}
	}
	return from, to
}

// each runs f for 0 to n-1 at once and fails on the first error.
func (s *site) each(n int, f func(i int) error) {
	s.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if errs[i] = f(i); errs[i] != nil {
				errs[i] = fmt.Errorf("%d: %w", i, errs[i])
			}
		})
	}
	wg.Wait()
	s.OK(errors.Join(errs...))
}

// idle waits until the node has no call, and nothing of one but client transactions, which RFC 6026 keeps for 32 s.
func (s *site) idle() node.Load {
	s.Helper()
	var l node.Load
	s.Until("the node is idle", func() bool {
		l = s.Node.Load()
		return l == node.Load{Conns: l.Conns, Asked: l.Asked}
	})
	return l
}

// Many calls come and go, and leave nothing behind: no heap, no goroutine, no call, dialog, transaction or port.
func TestManyCallsLeaveNothing(t *testing.T) {
	const workers = 16
	calls := size(4000, 1000, 10_000)
	s := newSite(t, nil)
	from, to := s.pairs(workers)
	round := func(each int) {
		t.Helper()
		s.each(workers, func(i int) error {
			for range each {
				c, err := from[i].call(to[i], strconv.Itoa(5000+i))
				if err != nil {
					return err
				}
				if err := c.bye(); err != nil {
					return err
				}
			}
			return nil
		})
		s.idle()
	}
	round(max(calls/workers/8, 8)) // pools, parked sockets and the database find their size
	running := runtime.NumGoroutine()
	// What a call may leave for good is far below this bound; parked sockets and caches are in it, which on a busy machine find their size later. What calls leave, they leave in each round.
	for rounds := 1; ; rounds++ {
		before := heap()
		round(calls / workers)
		s.Until("every transaction is over", func() bool { return s.idle().Asked == 0 })
		if s.settles(fmt.Sprintf("%d calls", calls), before, uint64(calls)*8<<10/8) {
			break
		}
		if rounds == 3 {
			t.Fatal("the heap grows with each round")
		}
	}
	s.goroutines(running)
	if r := s.Node.Calls.Refused(); r != 0 {
		t.Errorf("%d calls were refused", r)
	}
}

// At twice what the node takes, who comes too late is told when to come again, and nobody who talks hears anything of it.
func TestOverloadRefusesNewCalls(t *testing.T) {
	const room, workers = 16, 32
	s := newSite(t, func(c *config.Config) { c.Calls.Max = room + 1 })
	s.users("p", 100, 2)
	call := s.talk(s.phone("p0"), s.phone("p1"), "101")
	from, to := s.pairs(workers)
	up := make([]*handCall, workers)
	s.each(room, func(i int) (err error) {
		up[i], err = from[i].call(to[i], strconv.Itoa(5000+i))
		return err
	})
	refused := 0
	for range size(50, 20, 200) {
		s.each(workers-room, func(i int) error {
			m, err := from[room+i].refused(strconv.Itoa(5000 + room + i))
			if err != nil {
				return err
			}
			if wait, ok := m.Uint(sip.HeaderRetryAfter, 3600); m.Status() != 503 || !ok || wait == 0 {
				return fmt.Errorf("%q with Retry-After %q", firstLine(m), m.Get(sip.HeaderRetryAfter))
			}
			return nil
		})
		refused += workers - room
	}
	t.Logf("%d calls were up, %d refused", room+1, refused)
	call.goesOn()
	if n := s.Node.Calls.Count(); n != room+1 {
		t.Errorf("%d calls are up, want %d", n, room+1)
	}
	// Who waited finds room once others have gone.
	s.each(room, func(i int) error { return up[i].bye() })
	s.Until("there is room", func() bool { return s.Node.Calls.Count() == 1 })
	s.each(workers-room, func(i int) error {
		c, err := from[room+i].call(to[room+i], strconv.Itoa(5000+room+i))
		if err != nil {
			return err
		}
		return c.bye()
	})
	call.goesOn()
	call.hangup()
	s.idle()
}
