package feature

import (
	"sync"

	"ringfence/internal/media/codec"
	"ringfence/internal/service/phone"
)

// Inside a mixer sound has this rate, and frames of 20 ms.
const (
	mixRate  = 16000
	mixFrame = mixRate / 50
	maxQueue = 4 // frames that one side may be ahead of another
)

// mixer joins the sound of several calls and of this phone: each hears the sum of all others. The clocks of the calls are their own, so a short queue stands between any two.
type mixer struct {
	mu     sync.Mutex
	source phone.Source // what this phone says
	sink   phone.Sink   // where everybody is heard
	ports  []*port
	mixed  []int16
	said   []int16
}

// port is one call in a mixer. It is what the call says, and what the call is heard by.
type port struct {
	m    *mixer
	up   *codec.Upsampler
	down *codec.Downsampler
	from map[*port]*queue // what the others said
	own  queue            // what this phone said
	here queue            // what the call said, for this phone
	wide []int16
	sum  []int32
	out  []int16
	half []int16
}

// queue holds frames of one side for another.
type queue struct {
	frames [maxQueue][mixFrame]int16
	first  int
	n      int
}

// push adds a frame; of a queue that is full the oldest goes.
func (q *queue) push(frame []int16) {
	if q.n == maxQueue {
		q.first, q.n = (q.first+1)%maxQueue, q.n-1
	}
	copy(q.frames[(q.first+q.n)%maxQueue][:], frame)
	q.n++
}

// pop returns the next frame, or nil.
func (q *queue) pop() []int16 {
	if q.n == 0 {
		return nil
	}
	f := q.frames[q.first][:]
	q.first, q.n = (q.first+1)%maxQueue, q.n-1
	return f
}

func newMixer(n int, source phone.Source, sink phone.Sink) *mixer {
	m := &mixer{source: source, sink: sink, said: make([]int16, mixFrame)}
	for range n {
		m.ports = append(m.ports, &port{m: m, up: codec.NewUpsampler(), down: codec.NewDownsampler(), from: map[*port]*queue{}, sum: make([]int32, mixFrame)})
	}
	for _, a := range m.ports {
		for _, b := range m.ports {
			if a != b {
				a.from[b] = &queue{}
			}
		}
	}
	return m
}

// Write implements phone.Sink: the call heard something.
func (p *port) Write(frame []int16, rate int) {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.wide = p.wide[:0]; rate == mixRate {
		p.wide = append(p.wide, frame...)
	} else {
		p.wide = p.up.Process(p.wide, frame)
	}
	if len(p.wide) != mixFrame {
		return
	}
	for _, other := range m.ports {
		if other != p {
			other.from[p].push(p.wide)
		}
	}
	if m.sink == nil {
		return
	}
	p.here.push(p.wide)
	if p != m.ports[0] { // this phone hears everybody at the pace of the first
		return
	}
	clear(p.sum)
	for _, side := range m.ports {
		add(p.sum, side.here.pop())
	}
	m.mixed = saturate(m.mixed[:0], p.sum)
	m.sink.Write(m.mixed, mixRate)
}

// Read implements phone.Source: the call says what all others say.
func (p *port) Read(frame []int16, rate int) {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(p.sum)
	if p.own.n == 0 && m.source != nil {
		m.source.Read(m.said, mixRate)
		for _, q := range m.ports {
			q.own.push(m.said)
		}
	}
	add(p.sum, p.own.pop())
	for _, q := range p.from {
		add(p.sum, q.pop())
	}
	p.out = saturate(p.out[:0], p.sum)
	if rate == mixRate {
		copy(frame, p.out)
		return
	}
	p.half = p.down.Process(p.half[:0], p.out)
	copy(frame, p.half)
}

func add(sum []int32, frame []int16) {
	for i, v := range frame {
		sum[i] += int32(v)
	}
}

func saturate(dst []int16, sum []int32) []int16 {
	for _, v := range sum {
		dst = append(dst, int16(max(-32768, min(32767, v))))
	}
	return dst
}
