package rtp

import (
	"math/rand/v2"
	"testing"
)

func push(j *JitterBuffer, seq int) bool {
	return j.Push(&Header{Sequence: uint16(seq), Timestamp: uint32(seq)}, []byte{byte(seq), byte(seq >> 8)})
}

func TestJitterBufferOrdersAndConceals(t *testing.T) {
	j := NewJitterBuffer()
	if _, _, w := j.Pop(); w != Waiting {
		t.Fatal(w)
	}
	for _, seq := range []int{65535, 65534, 1, 3} { // 65534 came second; 0 and 2 are lost
		if !push(j, seq) {
			t.Fatal(seq)
		}
	}
	for i, want := range []struct {
		what  Played
		stamp uint32
	}{{Frame, 65534}, {Frame, 65535}, {Missing, 0}, {Frame, 1}, {Missing, 0}, {Frame, 3}, {Waiting, 0}} {
		p, stamp, what := j.Pop()
		if what != want.what || stamp != want.stamp || what == Frame && p[0] != byte(stamp) {
			t.Fatalf("tick %d: %v %d", i, what, stamp)
		}
		if next := j.Peek(); what == Missing && (len(next) != 2 || next[0] == 0) || what == Waiting && next != nil {
			t.Fatalf("tick %d: then comes %v", i, next)
		}
	}
	if push(j, 2) {
		t.Fatal("a late packet was taken")
	}
	if late, missing := j.Trouble(); late != 1 || missing != 2 {
		t.Fatal(late, missing)
	}
}

func TestJitterBufferAdapts(t *testing.T) {
	j := NewJitterBuffer()
	rng := rand.New(rand.NewPCG(7, 7))
	arrivals := map[int][]int{} // tick -> sequence numbers
	const n = 6000
	for seq := range n {
		delay := 0
		if seq < 1500 {
			delay = rng.IntN(5) // up to 80 ms of jitter at first
		}
		arrivals[seq+delay] = append(arrivals[seq+delay], seq)
	}
	frames, deepest := 0, 0
	lastMissing := uint64(0)
	for tick := range n + 50 {
		for _, seq := range arrivals[tick] {
			push(j, seq)
		}
		if _, _, w := j.Pop(); w == Frame {
			frames++
		}
		_, target := j.Depth()
		deepest = max(deepest, target)
		if tick == 1000 {
			late, missing := j.Trouble()
			lastMissing = late + missing
		}
	}
	late, missing := j.Trouble()
	if deepest < 4 {
		t.Fatalf("never became deeper than %d", deepest)
	}
	if grown := late + missing - lastMissing; grown > 20 {
		t.Fatalf("%d frames lost after it had adapted", grown)
	}
	if _, target := j.Depth(); target > 3 {
		t.Fatalf("still %d deep after a long calm", target)
	}
	if frames < n-60 {
		t.Fatalf("played %d of %d", frames, n)
	}
}

func TestJitterBufferNewStream(t *testing.T) {
	j := NewJitterBuffer()
	push(j, 10)
	push(j, 11)
	j.Pop()
	push(j, 30_000)
	push(j, 30_001)
	if _, stamp, w := j.Pop(); w != Frame || stamp != 30_000 {
		t.Fatal(w, stamp)
	}
	if push(j, 30_001) {
		t.Fatal("a repeated packet was taken")
	}
	if j.Push(&Header{Sequence: 30_002}, make([]byte, MaxPacket+1)) {
		t.Fatal("an oversized payload was taken")
	}
}
