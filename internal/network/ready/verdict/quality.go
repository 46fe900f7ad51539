package verdict

import (
	"fmt"
	"math"
	"time"
)

// Stream is what was measured of packets in one direction, and the codec for which it is judged.
type Stream struct {
	Delay      time.Duration // from mouth to ear
	Loss       float64       // 0 to 1
	BurstRatio float64       // 1: losses are independent (ITU-T G.107 section 3.5)
	Ie         float64       // impairment of the codec (ITU-T G.113)
	Bpl        float64       // its robustness against loss
}

// What G.107 takes by default, and what comes of it.
const (
	ratio        = 94.77 // Ro, the basic ratio of signal to noise
	simultaneous = 1.41  // Is, what is simultaneous with speech
	talker       = 65.   // TELR, how far the talker's echo is down, in dB
	loop         = 110.  // WEPL, the same of the loop for the listener
)

// Quality returns the rating R and the opinion score MOS of the E-model (ITU-T G.107), with its defaults for all that is not measured.
func (s Stream) Quality() (r, mos float64) {
	ppl := 100 * s.Loss
	ie := s.Ie
	if ppl > 0 {
		ie += (95 - s.Ie) * ppl / (ppl/math.Max(s.BurstRatio, 1) + s.Bpl)
	}
	r = math.Min(100, math.Max(0, ratio-simultaneous-delayed(float64(s.Delay)/float64(time.Millisecond))-ie))
	return r, opinion(r)
}

// delayed is the impairment Id of a delay from mouth to ear in milliseconds (section 3.4): echo to the talker, echo to the listener, and conversation that comes too late.
func delayed(t float64) float64 {
	t = math.Max(0, t)
	echo := talker - 40*math.Log10((1+t/10)/(1+t/150)) + 6*math.Exp(-.3*t*t)
	re := 80 + 2.5*(echo-14)
	idte := ((ratio-re)/2 + math.Sqrt((ratio-re)*(ratio-re)/4+100) - 1) * (1 - math.Exp(-t))
	rle := 10.5 * (loop + 7) * math.Pow(2*t+1, -.25)
	idle := (ratio-rle)/2 + math.Sqrt((ratio-rle)*(ratio-rle)/4+169)
	idd := 0.
	if t > 100 {
		x := math.Log2(t / 100)
		idd = 25 * (math.Pow(1+math.Pow(x, 6), 1./6) - 3*math.Pow(1+math.Pow(x/3, 6), 1./6) + 2)
	}
	return math.Max(0, idte) + idle + idd
}

// opinion is the MOS of a rating (annex B).
func opinion(r float64) float64 {
	return math.Max(1, 1+0.035*r+7e-6*r*(r-60)*(100-r))
}

// String states the parameters, without which a score cannot be compared.
func (s Stream) String() string {
	return fmt.Sprintf("G.107 with delay %d ms, loss %.2f %%, BurstR %.2f, Ie %g, Bpl %g", s.Delay.Milliseconds(), 100*s.Loss, math.Max(s.BurstRatio, 1), s.Ie, s.Bpl)
}
