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

// Quality returns the rating R and the opinion score MOS of the E-model (ITU-T G.107), with its defaults for all that is not measured.
func (s Stream) Quality() (r, mos float64) {
	d := float64(s.Delay) / float64(time.Millisecond)
	id := 0.024 * d
	if d > 177.3 {
		id += 0.11 * (d - 177.3)
	}
	ppl := 100 * s.Loss
	ie := s.Ie
	if ppl > 0 {
		ie += (95 - s.Ie) * ppl / (ppl/math.Max(s.BurstRatio, 1) + s.Bpl)
	}
	r = math.Min(100, math.Max(0, 93.2-id-ie))
	return r, math.Max(1, 1+0.035*r+7e-6*r*(r-60)*(100-r))
}

// String states the parameters, without which a score cannot be compared.
func (s Stream) String() string {
	return fmt.Sprintf("G.107 with delay %d ms, loss %.2f %%, BurstR %.2f, Ie %g, Bpl %g", s.Delay.Milliseconds(), 100*s.Loss, math.Max(s.BurstRatio, 1), s.Ie, s.Bpl)
}
