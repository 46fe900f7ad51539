package relay

import (
	"fmt"
	"math/rand/v2"
	"time"

	"ringfence"
)

// ports hands out even ports of a range in turn, and lets a returned one rest before it is used again.
type ports struct {
	queue queue[resting] // oldest first
	rest  time.Duration
}

type resting struct {
	port  uint16 // the even one of a pair
	until time.Time
}

func newPorts(r ringfence.PortRange, rest time.Duration) *ports {
	p := &ports{rest: rest}
	for port := uint32(r.First) + uint32(r.First)&1; port+1 <= uint32(r.Last); port += 2 {
		p.queue.push(resting{port: uint16(port)})
	}
	// In no order: the next port cannot be guessed, and where another program holds a row of ports, the next try is elsewhere.
	all := p.queue.items
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return p
}

// take returns the port that has rested longest, or false if all are in use or still resting.
func (p *ports) take(now time.Time) (uint16, bool) {
	if p.queue.len() == 0 || p.queue.first().until.After(now) {
		return 0, false
	}
	return p.queue.pop().port, true
}

// give returns a port, which rests from now on. All rest equally long, so the queue stays in order.
func (p *ports) give(port uint16, now time.Time) {
	p.queue.push(resting{port, now.Add(p.rest)})
}

// queue is a first-in, first-out list that uses its memory again.
type queue[T any] struct {
	items []T
	head  int // of the first that is not gone
}

func (q *queue[T]) len() int  { return len(q.items) - q.head }
func (q *queue[T]) first() *T { return &q.items[q.head] }

func (q *queue[T]) push(v T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, v)
}

func (q *queue[T]) pop() T {
	v := q.items[q.head]
	clear(q.items[q.head : q.head+1])
	q.head++
	return v
}

func noPorts(r ringfence.PortRange) error {
	return &ringfence.Fault{Op: "relay.open", Kind: ringfence.KindOverload,
		Text: fmt.Sprintf("every media port of %s is in use or resting", r),
		Hint: "widen the media port range, and the firewall rules derived from it"}
}
