package relay

import (
	"fmt"
	"math/rand/v2"
	"time"

	"ringfence"
)

// ports hands out even ports of a range in turn, and lets a returned one rest before it is used again.
type ports struct {
	queue []resting // oldest first
	rest  time.Duration
}

type resting struct {
	port  uint16 // the even one of a pair
	until time.Time
}

func newPorts(r ringfence.PortRange, rest time.Duration) *ports {
	p := &ports{rest: rest}
	for port := uint32(r.First) + uint32(r.First)&1; port+1 <= uint32(r.Last); port += 2 {
		p.queue = append(p.queue, resting{port: uint16(port)})
	}
	// In no order: the next port cannot be guessed, and where another program holds a row of ports, the next try is elsewhere.
	rand.Shuffle(len(p.queue), func(i, j int) { p.queue[i], p.queue[j] = p.queue[j], p.queue[i] })
	return p
}

// take returns the port that has rested longest, or false if all are in use or still resting.
func (p *ports) take(now time.Time) (uint16, bool) {
	if len(p.queue) == 0 || p.queue[0].until.After(now) {
		return 0, false
	}
	port := p.queue[0].port
	p.queue = p.queue[1:]
	return port, true
}

// give returns a port, which rests from now on. All rest equally long, so the queue stays in order.
func (p *ports) give(port uint16, now time.Time) {
	p.queue = append(p.queue, resting{port, now.Add(p.rest)})
}

func noPorts(r ringfence.PortRange) error {
	return &ringfence.Fault{Op: "relay.open", Kind: ringfence.KindOverload,
		Text: fmt.Sprintf("every media port of %s is in use or resting", r),
		Hint: "widen the media port range, and the firewall rules derived from it"}
}
