package transaction

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The wheel against a plain list: random timers, stops, moves and clock jumps. Nothing fires early, late or twice.
func TestWheelAgainstAList(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		now := time.Duration(0)
		w := newWheel()
		timers := make([]Timer, 200)
		due := map[int]time.Duration{}
		var fired []int
		start := func(i int) {
			d := time.Duration(random.Int64N(int64(90 * time.Second)))
			switch random.IntN(4) {
			case 0:
				d = time.Duration(random.Int64N(int64(50 * time.Millisecond)))
			case 1:
				d = time.Duration(random.Int64N(int64(2 * time.Hour)))
			}
			due[i] = now + d
			w.add(&timers[i], now, d, call(func() {
				fired = append(fired, i)
				if random.IntN(3) == 0 { // a timer that fires stops another one
					j := random.IntN(len(timers))
					timers[j].Stop()
					if j != i && !slices.Contains(fired, j) {
						delete(due, j)
					}
				}
			}))
		}
		for step := range 500 {
			i := random.IntN(len(timers))
			switch random.IntN(5) {
			case 0, 1:
				start(i)
			case 2:
				timers[i].Stop()
				delete(due, i)
			default:
				jump := time.Duration(random.Int64N(int64(3 * time.Second)))
				if random.IntN(20) == 0 {
					jump = time.Hour
				}
				tick, ok := w.next()
				if ok != (len(due) > 0) || w.count != len(due) {
					t.Fatalf("seed %d step %d: next %v with %d timers, count %d", seed, step, ok, len(due), w.count)
				}
				for k, at := range due {
					if w.at(tick) > at+wheelTick {
						t.Fatalf("seed %d step %d: would sleep until %v, timer %d is due at %v", seed, step, w.at(tick), k, at)
					}
				}
				now += jump
				fired = nil
				w.advance(now)
				for _, k := range fired {
					if at, ok := due[k]; !ok || at > now {
						t.Fatalf("seed %d step %d: timer %d fired at %v, due %v (%v)", seed, step, k, now, at, ok)
					}
					delete(due, k)
				}
				for k, at := range due {
					if at+wheelTick <= now {
						t.Fatalf("seed %d step %d: timer %d was due at %v and did not fire at %v", seed, step, k, at, now)
					}
					if !timers[k].Active() {
						t.Fatalf("seed %d step %d: timer %d is lost", seed, step, k)
					}
				}
			}
		}
	}
}

func bare(shards int) *Layer {
	return New(Config{Log: slog.New(slog.DiscardHandler), Shards: shards})
}

// A wheel of timers that are far away, as that of a server whose phones are idle, is not asked at every slot that it passes, but when one is due.
func TestWheelSleepsUntilATimerIsDue(t *testing.T) {
	w := newWheel()
	random := rand.New(rand.NewPCG(1, 2))
	timers := make([]Timer, 1000)
	due, fired := map[int64]bool{}, 0
	for i := range timers {
		d := 20*time.Second + time.Duration(random.Int64N(int64(time.Hour)))
		w.add(&timers[i], 0, d, call(func() { fired++ }))
		due[timers[i].due] = true
	}
	for i := range timers[:100] { // those that are stopped cost one look at most
		timers[i].Stop()
	}
	looks := 0
	for tick, ok := w.next(); ok; tick, ok = w.next() {
		if looks++; tick <= w.now {
			t.Fatalf("the next tick is %d, and it is %d", tick, w.now)
		}
		w.advance(w.at(tick))
	}
	if fired != 900 || looks > len(due) {
		t.Errorf("%d timers fired, %d looks at %d times", fired, looks, len(due))
	}
}

func TestTimersFireInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bare(1)
		s := l.Shards()[0]
		var mu sync.Mutex
		var got []string
		begin := time.Now()
		timers := make([]Timer, 6)
		after := func(i int, d time.Duration) {
			s.After(&timers[i], d, func() {
				mu.Lock()
				got = append(got, fmt.Sprintf("%d at %v", i, time.Since(begin)))
				mu.Unlock()
			})
		}
		s.Do(func() {
			after(0, 32*time.Second)
			after(1, 500*time.Millisecond)
			after(2, 30*time.Minute)
			after(3, 5*time.Second)
			after(4, time.Hour)
			timers[3].Stop()
		})
		time.Sleep(10 * time.Second)
		s.Do(func() { after(5, time.Second); timers[4].Stop() })
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		want := []string{"1 at 500ms", "5 at 11s", "0 at 32s", "2 at 30m0s"}
		mu.Lock()
		if !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		mu.Unlock()
		s.Do(func() { after(0, time.Second) })
		l.Close()
		time.Sleep(time.Minute)
		mu.Lock()
		if len(got) != 4 {
			t.Error("a timer fired after Close")
		}
		mu.Unlock()
	})
}

// Work on each shard posts to the others while many goroutines enter from outside: nothing deadlocks and nothing is lost.
func TestPostsBetweenShards(t *testing.T) {
	const shards, goroutines, rounds = 4, 8, 2000
	l := bare(shards)
	var ran atomic.Int64
	var all sync.WaitGroup
	counts := make([]int, shards) // each only touched on its shard: the race detector watches
	var hop func(at, left int) func()
	hop = func(at, left int) func() {
		return func() {
			counts[at]++
			ran.Add(1)
			if left > 0 {
				l.Shards()[(at+1)%shards].Post(hop((at+1)%shards, left-1))
				l.Shards()[at].Post(func() { counts[at]++; ran.Add(1); all.Done() })
				return
			}
			all.Done()
		}
	}
	var entering sync.WaitGroup
	for g := range goroutines {
		entering.Go(func() {
			for i := range rounds {
				at := (g + i) % shards
				all.Add(4) // three hops on, each of which posts once to its own shard, and the last one
				if i%2 == 0 {
					l.Shards()[at].Do(hop(at, 3))
				} else {
					l.Shards()[at].Post(hop(at, 3))
				}
			}
		})
	}
	entering.Wait()
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%d of %d pieces of work ran", ran.Load(), goroutines*rounds*7)
	}
	total := 0
	for i, s := range l.Shards() {
		s.Do(func() { total += counts[i] })
	}
	if total != goroutines*rounds*7 || int(ran.Load()) != total {
		t.Errorf("%d pieces of work ran, counted %d", ran.Load(), total)
	}
	l.Close()
}

func TestPostsKeepTheirOrder(t *testing.T) {
	l := bare(1)
	s := l.Shards()[0]
	var got []int
	s.Do(func() {
		for i := range 100 {
			s.Post(func() { got = append(got, i) })
		}
		if len(got) != 0 {
			t.Error("a post ran in the middle of other work")
		}
	})
	s.Do(func() {
		if len(got) != 100 || !slices.IsSorted(got) {
			t.Errorf("got %v", got)
		}
	})
	l.Close()
}

func TestCallIDsBelongToTheirShard(t *testing.T) {
	l := bare(5)
	if len(l.Shards()) != 8 {
		t.Errorf("%d shards", len(l.Shards()))
	}
	for _, s := range l.Shards() {
		if id := l.NewCallID(s); l.Shard([]byte(id)) != s {
			t.Errorf("%s is not of shard %d", id, s.Index)
		}
	}
	l.Close()
}
