package sound

// The rate inside this room, and how much of it is a frame of 20 ms.
const (
	rate  = 16000
	frame = rate / 50
)

// Bounds of an elastic buffer, in samples.
const (
	space  = 12 * frame    // 240 ms
	target = 5 * frame / 2 // 50 ms: programs hand sound on in pieces of up to 20 ms
	slack  = frame / 2     // how far the mean may be from the target before anything is done about it
	bend   = 0.005         // how much faster or slower it then plays: less than a twelfth of a semitone, and far more than clocks differ
	calm   = 1.0 / 64      // weight of the present in the mean
)

// elastic is a buffer between two clocks: whoever fills it and whoever empties it do so at the same rate by their own reckoning, which is not quite the same. It belongs to who holds its lock.
type elastic struct {
	ring   [space]int16
	first  int
	n      int
	at     float64 // between the second and the third sample of the ring
	mean   float64 // of n
	flows  bool
	gaps   int // times that it ran dry
	shed   int // samples that did not fit, since somebody pulled
	curved bool
}

// push adds samples. Those for which there is no room take that of the oldest, and as long as nobody pulls there is room for the target alone: a device
// that begins late would be late for ever.
func (e *elastic) push(samples []int16) {
	room := space
	if !e.flows {
		room = target
	}
	had := e.n + len(samples)
	samples = samples[max(0, len(samples)-room):]
	if over := e.n + len(samples) - room; over > 0 { // back to the target: one gap, not many
		over = min(max(over, e.n+len(samples)-target), e.n)
		e.first, e.n, e.mean = (e.first+over)%space, e.n-over, target
	}
	if e.flows {
		e.shed += had - e.n - len(samples)
	}
	for _, v := range samples {
		e.ring[(e.first+e.n)%space] = v
		e.n++
	}
}

// pull fills out. It is silent until there is enough to begin with, and again after it ran dry.
func (e *elastic) pull(out []int16) {
	if !e.flows {
		if e.n < target {
			clear(out)
			return
		}
		e.flows, e.mean, e.at, e.curved = true, float64(e.n), 0, false
	}
	e.mean += (float64(e.n) - e.mean) * calm
	step := 1.0
	switch off := e.mean - target; {
	case off > slack:
		step += bend
	case off < -slack:
		step -= bend
	}
	if e.curved = e.curved || step != 1; !e.curved && e.n >= len(out)+4 { // as long as the clocks agree, samples stay what they are
		for i := range out {
			out[i] = e.ring[(e.first+1+i)%space]
		}
		e.drop(len(out))
		return
	}
	for i := range out {
		if e.n < 4 {
			clear(out[i:])
			e.flows = false
			e.gaps++
			return
		}
		out[i] = e.between()
		e.at += step
		whole := int(e.at)
		e.at -= float64(whole)
		e.drop(whole)
	}
}

func (e *elastic) drop(n int) {
	e.first, e.n = (e.first+n)%space, e.n-n
}

// between is the curve through the first four samples of the ring (Catmull and Rom), where the buffer stands between the middle two.
func (e *elastic) between() int16 {
	a, b, c, d := float64(e.ring[e.first]), float64(e.ring[(e.first+1)%space]), float64(e.ring[(e.first+2)%space]), float64(e.ring[(e.first+3)%space])
	t := e.at
	v := b + 0.5*t*(c-a+t*(2*a-5*b+4*c-d+t*(3*(b-c)+d-a)))
	return int16(max(-32768, min(32767, v)))
}
