package rtp

import (
	"math"
	"testing"
	"time"
)

func feed(r *Receiver, ssrc uint32, seq int, at time.Duration) {
	r.Packet(&Header{SSRC: ssrc, Sequence: uint16(seq), Timestamp: uint32(seq) * 160}, at)
}

func TestReceiverCountsLossOverWraps(t *testing.T) {
	r := NewReceiver(8000)
	lost := 0
	for i := range 200_000 {
		if i > 0 && i%100 == 0 {
			lost++
			continue
		}
		feed(r, 1, 65_000+i, time.Duration(i)*20*time.Millisecond)
	}
	m := r.Snapshot()
	if m.Lost != uint64(lost) || m.PacketsIn != uint64(200_000-lost) {
		t.Fatalf("%+v, lost %d", m, lost)
	}
	if m.JitterMS != 0 {
		t.Fatalf("jitter %v in a perfect clock", m.JitterMS)
	}
	b, ok := r.Report(0)
	if !ok || b.Highest != 65_000+199_999 || b.Lost != int32(lost) || b.Fraction != 2 { // 1% of 256
		t.Fatalf("%+v", b)
	}
	if b, _ = r.Report(0); b.Fraction != 0 {
		t.Fatalf("the next interval had no loss: %+v", b)
	}
}

func TestReceiverRestartsAndReordering(t *testing.T) {
	r := NewReceiver(8000)
	for i, seq := range []int{10, 11, 13, 12, 14} { // reordering is no loss
		feed(r, 1, seq, time.Duration(i)*20*time.Millisecond)
	}
	if r.Lost() != 0 {
		t.Fatal("reordering counted as loss")
	}
	feed(r, 1, 16, 0) // 15 is lost
	for i := range 10 {
		feed(r, 1, 40_000+i, 0) // a restart under the same SSRC
	}
	feed(r, 2, 7, 0) // a new source
	feed(r, 2, 9, 0)
	if m := r.Snapshot(); m.Lost != 2 || m.PacketsIn != 18 {
		t.Fatalf("%+v", m)
	}
}

// The filter of RFC 3550 A.8 settles at the mean deviation: packets alternately 0 and 10 ms late differ by 10 ms each time.
func TestJitterSettles(t *testing.T) {
	r := NewReceiver(8000)
	for i := range 2000 {
		feed(r, 1, i, time.Duration(i)*20*time.Millisecond+time.Duration(i%2)*10*time.Millisecond)
	}
	if ms := r.Snapshot().JitterMS; math.Abs(ms-10) > 0.7 {
		t.Fatalf("jitter %v ms", ms)
	}
	r = NewReceiver(8000)
	for i := range 50 { // a key press: one timestamp, many packets
		r.Packet(&Header{Sequence: uint16(i), Timestamp: 160}, time.Duration(i)*20*time.Millisecond)
	}
	if r.Jitter() != 0 {
		t.Fatal("a telephone event counted as jitter")
	}
}

func TestClockChange(t *testing.T) {
	r := NewReceiver(8000)
	for i := range 100 {
		r.Packet(&Header{Sequence: uint16(i), Timestamp: uint32(i) * 160}, time.Duration(i)*20*time.Millisecond)
	}
	r.SetClock(48000)
	for i := 100; i < 200; i++ {
		r.Packet(&Header{Sequence: uint16(i), Timestamp: uint32(i) * 960}, time.Duration(i)*20*time.Millisecond)
	}
	if m := r.Snapshot(); m.JitterMS != 0 || m.PacketsIn != 200 || m.Lost != 0 {
		t.Fatalf("%+v", m)
	}
}

func TestSenderReportIsAnswered(t *testing.T) {
	r := NewReceiver(8000)
	if _, ok := r.Report(0); ok {
		t.Fatal("a report on nobody")
	}
	feed(r, 1, 1, 0)
	r.SenderReport(Sender{NTP: 0x1111222233334444}, time.Second)
	if b, _ := r.Report(3 * time.Second); b.LastSR != 0x22223333 || b.Delay != 2*65536 {
		t.Fatalf("%+v", b)
	}
}

// Points of the E-model: without impairment R = 93.2 gives 4.41 (G.107 table of defaults); more of anything is worse.
func TestMOS(t *testing.T) {
	if s := score(93.2); math.Abs(s-4.41) > 0.005 {
		t.Fatal(s)
	}
	if score(-1) != 1 || score(101) != 4.5 {
		t.Fatal("the ends of the scale")
	}
	c := G711()
	last := 5.0
	for _, loss := range []float64{0, 0.005, 0.01, 0.03, 0.1, 0.3, 1} {
		if m := c.MOS(loss, 0, 0); m >= last || m < 1 {
			t.Fatalf("loss %v gives %v after %v", loss, m, last)
		} else {
			last = m
		}
	}
	if c.MOS(0, 0, 0) < 4.3 || c.MOS(0, 0, 800*time.Millisecond) > 3.6 || c.MOS(0, 150*time.Millisecond, 0) > 4 {
		t.Fatal("delay costs too little or too much")
	}
}
