package codec

import "math"

// halfTaps is how many samples on each side the resampling filters look at.
const halfTaps = 16

// halfBand returns the odd taps of a half-band low-pass (all even ones but the middle are zero): a sinc at a quarter of the
// higher rate under a Blackman window, scaled so that they sum to one half of the gain.
func halfBand() (taps [halfTaps]float64) {
	sum := 0.0
	for i := range taps {
		x := float64(2*i + 1) // distance from the middle, in samples of the higher rate
		w := 0.42 + 0.5*math.Cos(math.Pi*x/(2*halfTaps+1)) + 0.08*math.Cos(2*math.Pi*x/(2*halfTaps+1))
		taps[i] = math.Sin(math.Pi*x/2) / (math.Pi * x / 2) * w
		sum += 2 * taps[i]
	}
	for i := range taps {
		taps[i] /= sum
	}
	return taps
}

func round16(v float64) int16 { return int16(max(-32768, min(math.Round(v), 32767))) }

// Upsampler doubles the rate of one stream. Its output is 16 input samples late.
type Upsampler struct {
	taps [halfTaps]float64
	line [2 * halfTaps]float64
}

// NewUpsampler returns an upsampler that has heard silence.
func NewUpsampler() *Upsampler { return &Upsampler{taps: halfBand()} }

// Process appends two samples for each of in to dst.
func (u *Upsampler) Process(dst, in []int16) []int16 {
	for _, s := range in {
		copy(u.line[:], u.line[1:])
		u.line[2*halfTaps-1] = float64(s)
		sum := 0.0
		for i, t := range u.taps {
			sum += t * (u.line[halfTaps-1-i] + u.line[halfTaps+i])
		}
		dst = append(dst, round16(u.line[halfTaps-1]), round16(sum))
	}
	return dst
}

// Downsampler halves the rate of one stream, after removing what the lower rate cannot carry.
type Downsampler struct {
	taps [halfTaps]float64
	line [4 * halfTaps]float64
}

// NewDownsampler returns a downsampler that has heard silence.
func NewDownsampler() *Downsampler { return &Downsampler{taps: halfBand()} }

// Process appends one sample for each two of in to dst; an odd last sample is dropped.
func (d *Downsampler) Process(dst, in []int16) []int16 {
	const middle = 2*halfTaps - 1
	for ; len(in) >= 2; in = in[2:] {
		copy(d.line[:], d.line[2:])
		d.line[4*halfTaps-2], d.line[4*halfTaps-1] = float64(in[0]), float64(in[1])
		sum := d.line[middle]
		for i, t := range d.taps {
			sum += t * (d.line[middle-2*i-1] + d.line[middle+2*i+1])
		}
		dst = append(dst, round16(sum/2))
	}
	return dst
}
