package transaction

import (
	"math/bits"
	"time"
)

const (
	wheelTick  = 10 * time.Millisecond
	wheelSlots = 512 // one turn is 5.12 s; longer timers go round more than once
)

// Timer is one deadline on a shard's wheel. The zero value is a stopped timer. It may be embedded, and used again.
type Timer struct {
	alarm      Alarm
	due        int64 // tick
	prev, next *Timer
	wheel      *wheel
}

// Alarm is whom a timer wakes. One that has several timers is told which it was, so that it needs no function for each.
type Alarm interface{ Due(t *Timer) }

// call is an Alarm that is a function.
type call func()

// Due implements Alarm.
func (f call) Due(*Timer) { f() }

// Stop takes the timer off the wheel. It must be called on the timer's shard.
func (t *Timer) Stop() {
	if t.wheel != nil {
		t.wheel.remove(t)
	}
}

// Active reports whether the timer is running.
func (t *Timer) Active() bool { return t.wheel != nil }

// wheel is a hashed timer wheel (one level with rounds). It has no goroutine: its shard asks it when to wake. Its time counts from when it
// was made.
type wheel struct {
	now   int64 // last tick that was run
	count int
	used  [wheelSlots / 64]uint64
	slots [wheelSlots]Timer // list heads
	first [wheelSlots]int64 // of each used slot: no timer in it is due before this tick
	due   Timer             // list head: the timers of one slot that are about to fire
}

func newWheel() *wheel {
	w := &wheel{}
	for i := range w.slots {
		w.slots[i].prev, w.slots[i].next = &w.slots[i], &w.slots[i]
	}
	w.due.prev, w.due.next = &w.due, &w.due
	return w
}

// add starts t to wake a at now+d, rounded up to the next tick.
func (w *wheel) add(t *Timer, now, d time.Duration, a Alarm) {
	if t.wheel != nil {
		w.remove(t)
	}
	if w.count == 0 {
		w.now = max(w.now, int64(now/wheelTick)) // nothing was due meanwhile
	}
	t.alarm = a
	t.due = max(int64((now+d+wheelTick-1)/wheelTick), w.now+1)
	t.wheel = w
	slot := int(t.due % wheelSlots)
	w.slots[slot].append(t)
	if bit := uint64(1) << (slot % 64); w.used[slot/64]&bit == 0 {
		w.used[slot/64] |= bit
		w.first[slot] = t.due
	} else {
		w.first[slot] = min(w.first[slot], t.due)
	}
	w.count++
}

// append puts t at the end of the list that head begins.
func (head *Timer) append(t *Timer) {
	t.prev, t.next = head.prev, head
	head.prev.next, head.prev = t, t
}

func (w *wheel) remove(t *Timer) {
	t.prev.next, t.next.prev = t.next, t.prev
	slot := int(t.due % wheelSlots)
	if head := &w.slots[slot]; head.next == head {
		w.used[slot/64] &^= 1 << (slot % 64)
	}
	t.prev, t.next, t.wheel, t.alarm = nil, nil, nil, nil
	w.count--
}

// advance runs every timer that is due at now.
func (w *wheel) advance(now time.Duration) {
	target := int64(now / wheelTick)
	if target-w.now > wheelSlots {
		// The clock jumped further than a turn: one turn visits every slot, and due timers fire by their deadline.
		w.now = target - wheelSlots
	}
	for w.now < target {
		w.now++
		slot := int(w.now % wheelSlots)
		if w.used[slot/64]&(1<<(slot%64)) == 0 || w.first[slot] > w.now {
			continue
		}
		head := &w.slots[slot]
		w.first[slot] = never
		for t := head.next; t != head; {
			next := t.next
			if t.due <= w.now { // moved first, because a timer that fires may stop or start others
				t.prev.next, t.next.prev = t.next, t.prev
				w.due.append(t)
			} else {
				w.first[slot] = min(w.first[slot], t.due)
			}
			t = next
		}
		for w.due.next != &w.due {
			t := w.due.next
			a := t.alarm
			w.remove(t)
			a.Due(t)
		}
	}
}

// at returns the time of a tick.
func (w *wheel) at(tick int64) time.Duration { return time.Duration(tick) * wheelTick }

// next returns the tick before which no timer is due; ok is false if the wheel is empty.
func (w *wheel) next() (tick int64, ok bool) {
	if w.count == 0 {
		return 0, false
	}
	soonest := int64(never)
	start := int((w.now + 1) % wheelSlots)
	for i := 0; i <= len(w.used); i++ {
		word := (start/64 + i) % len(w.used)
		used := w.used[word]
		switch i {
		case 0:
			used &= ^uint64(0) << (start % 64)
		case len(w.used): // the rest of the first word
			used &^= ^uint64(0) << (start % 64)
		}
		for ; used != 0; used &= used - 1 {
			slot := word*64 + bits.TrailingZeros64(used)
			pass := w.now + 1 + int64((slot-start+wheelSlots)%wheelSlots)
			if w.first[slot] <= pass { // slots that come round later are due later
				return pass, true
			}
			soonest = min(soonest, w.first[slot])
		}
	}
	return soonest, true
}
