package transaction

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"ringfence/internal/sip"
	"ringfence/internal/sip/transport"
)

func TestPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{})
		defer l.Close()
		s := l.Shards()[0]
		gone := 0
		p := newPast(32*time.Second, func(n int) { gone += n })
		do := func(f func()) { s.Do(f) }
		branch := func(i int) []byte { return fmt.Appendf(nil, "branch %d", i) }
		known := func(i int) bool {
			e, ok := p.find(uint64(i), branch(i))
			if ok && !bytes.Equal(e.text, bytes.Repeat(branch(i), 30)) {
				t.Errorf("%d is not as it was", i)
			}
			return ok
		}
		for i := range 2000 { // 20 s
			do(func() {
				p.add(s, uint64(i), memory{kind: pastAnswer, branch: branch(i), text: bytes.Repeat(branch(i), 30)})
			})
			time.Sleep(10 * time.Millisecond)
		}
		do(func() {
			for i := range 2000 {
				if !known(i) {
					t.Fatalf("%d is forgotten", i)
				}
			}
			if _, ok := p.find(7, []byte("another")); ok {
				t.Error("another branch is found")
			}
			if len(p.pages) < 10 {
				t.Errorf("%d pages", len(p.pages))
			}
			p.add(s, 3, memory{kind: pastAnswer, branch: branch(3), text: bytes.Repeat(branch(3), 30)}) // again
			p.add(s, 1<<40, memory{text: make([]byte, 3*pageSize)})
		})
		time.Sleep(11900 * time.Millisecond) // the first is 31.9 s old
		do(func() {
			if !known(0) || gone != 0 {
				t.Errorf("forgotten too early: %d gone", gone)
			}
		})
		time.Sleep(7 * time.Second) // and now 38.9 s
		do(func() {
			if known(0) || known(500) || !known(800) || !known(3) {
				t.Error("not what is old is forgotten", known(0), known(500), known(800), known(3))
			}
			if e, ok := p.find(1<<40, nil); !ok || len(e.text) != 3*pageSize {
				t.Error("a long one is lost")
			}
		})
		time.Sleep(time.Minute)
		do(func() {
			if gone != 2002 || len(p.pages) != 0 || p.count != 0 || p.index.slots != 0 || p.timer.Active() {
				t.Errorf("%d gone, %d pages, %d slots", gone, len(p.pages), p.index.slots)
			}
			p.add(s, 5, memory{branch: branch(5), text: bytes.Repeat(branch(5), 30)})
			if !known(5) {
				t.Error("nothing is known after everything was forgotten")
			}
		})
		time.Sleep(time.Minute)
	})
}

func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "UDP", nil)
		var late []string
		r.l.HearLate(func(s *Shard, c *transport.Conn, m *sip.Message) {
			if s != r.l.Shards()[0] || c != r.conn {
				t.Error("somewhere else")
			}
			late = append(late, string(m.ToTag()))
		})
		answers := &tally{}
		tx := r.request(sip.INVITE, answers)
		synctest.Wait()
		invite := r.take()[0]
		r.answer(invite, 200, "x")
		r.l.Shards()[0].Do(func() { tx.Hasten(time.Second) }) // the call is over
		r.answer(invite, 180, "x")
		r.answer(invite, 200, "x")
		r.answer(invite, 486, "z")
		r.after(30 * time.Second)
		r.answer(invite, 200, "y")
		if got := fmt.Sprint(late, answers.get(), r.l.Counters()["stray"]); got != "[x y] [200] 0" {
			t.Error(got)
		}
		r.after(4 * time.Second)
		r.answer(invite, 200, "z")
		if got := fmt.Sprint(late, r.l.Counters()["stray"]); got != "[x y] 1" {
			t.Error(got)
		}
		r.close()
	})
}

// What 10,000 calls a second leave behind on either side, when half a minute of them is known: a look for what is new, and a note of it.
func BenchmarkPast(b *testing.B) {
	l := bare(1)
	defer l.Close()
	s := l.Shards()[0]
	p := newPast(32*time.Second, func(int) {})
	e := memory{branch: make([]byte, 24), text: make([]byte, 100)}
	random := rand.New(rand.NewPCG(1, 2))
	s.Do(func() {
		next := func() {
			s.now += 50 * time.Microsecond
			key := random.Uint64()
			if _, ok := p.find(key, nil); ok {
				b.Error("found what was never there")
			}
			p.add(s, key, e)
			if len(p.pages) > 0 && s.now-p.pages[0].since > 34*time.Second {
				p.forget(s)
			}
		}
		for range 1_000_000 {
			next()
		}
		for b.Loop() {
			next()
		}
		p.timer.Stop()
	})
}
