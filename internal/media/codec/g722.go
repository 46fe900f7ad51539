package codec

// G.722 at 64 kbit/s (ITU-T G.722 mode 1): a quadrature mirror filter splits 16 kHz samples into two bands of 8 kHz; each
// is coded by adaptive differential PCM, six bits for the lower band and two for the higher. Names of variables follow the
// recommendation's block names (section 3.6 and 6.2) where that helps to compare.

// band is the adaptive quantiser and predictor of one sub-band.
type band struct {
	s   int    // prediction of the next sample
	sz  int    // the part of it that comes from the zeros
	det int    // quantiser scale factor
	nb  int    // its logarithm
	r   [2]int // reconstructed signal, newest first
	p   [2]int // partly reconstructed signal, newest first
	a   [2]int // pole coefficients, Q14
	d   [6]int // quantised differences, newest first
	b   [6]int // zero coefficients, Q14
}

type g722 struct {
	echo
	enc, dec struct {
		low, high band
		line      [24]int // delay line of the mirror filter
	}
}

func newG722() *g722 {
	g := &g722{}
	g.enc.low.det, g.enc.high.det = 32, 8
	g.dec.low.det, g.dec.high.det = 32, 8
	return g
}

// Tables of the recommendation. They are arrays, so nothing can change them behind a caller's back.
var (
	mirror = [12]int{3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11} // table 11/G.722
	// decision levels of the 6-bit quantiser, table 12/G.722
	levels6 = [30]int{0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219,
		1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919}
	// outputs of the inverse 6-bit quantiser by magnitude, table 14/G.722, smallest interval first
	outputs6 = [30]int{136, 432, 728, 1040, 1360, 1688, 2032, 2400, 2776, 3168, 3576, 4008, 4464, 4944, 5456, 6000, 6576, 7192, 7856,
		8576, 9360, 10232, 11192, 12280, 13512, 14984, 16704, 19008, 21904, 24808}
	outputs4 = [8]int{0, 1200, 2584, 4240, 6288, 8968, 12896, 20456} // the 4-bit one, table 15/G.722
	logLow   = [8]int{-60, -30, 58, 172, 334, 538, 1198, 3042}       // multipliers W of the lower band
	antilog  = [32]int{2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025,
		3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008} // 2048 * 2^(i/32)
)

func clip16(v int) int { return max(-32768, min(v, 32767)) }

// low4 returns the magnitude (1 to 7, 0 for the innermost) and sign of the 4-bit code that a 6-bit code begins with. The
// adaptation of the lower band uses these four bits only, so that the two lowest can be stolen without harm.
func low4(code int) (magnitude int, negative bool) {
	c := code >> 2 // codes 0 (not sent) to 15
	if c >= 8 {
		return 15 - c, false // 15..8: positive, small to large
	}
	if c == 0 {
		return 0, true
	}
	return 8 - c, true // 1..7: negative, large to small
}

// scale moves the quantiser's scale factor: the logarithm leaks, steps by w, and is turned back by the antilog table. top
// is its ceiling and shift the band's place on the table (block LOGSCL and SCALEL, or H).
func (x *band) scale(w, top, shift int) {
	x.nb = max(0, min(x.nb*127>>7+w, top))
	m := antilog[x.nb>>6&31]
	if down := shift - x.nb>>11; down < 0 {
		x.det = m << -down << 2
	} else {
		x.det = m >> down << 2
	}
}

// adapt moves the predictor on by the quantised difference d (blocks RECONS to PREDIC).
func (x *band) adapt(d int) {
	r, p := clip16(x.s+d), clip16(x.sz+d)
	same := func(u, v int) bool { return u < 0 == (v < 0) }
	signed := func(v int, plus bool) int {
		if plus {
			return v
		}
		return -v
	}
	// second pole, then the first, which must leave the filter stable (blocks UPPOL2, UPPOL1)
	lead := min(signed(clip16(x.a[0]<<2), !same(p, x.p[0])), 32767)
	a2 := signed(128, same(p, x.p[1])) + lead>>7 + x.a[1]*32512>>15
	a2 = max(-12288, min(a2, 12288))
	limit := clip16(15360 - a2)
	a1 := clip16(signed(192, same(p, x.p[0])) + x.a[0]*32640>>15)
	x.a = [2]int{max(-limit, min(a1, limit)), a2}
	// zeros (block UPZERO)
	step := 128
	if d == 0 {
		step = 0
	}
	for i := range x.b {
		x.b[i] = clip16(signed(step, same(d, x.d[i])) + x.b[i]*32640>>15)
	}
	// delay lines
	copy(x.d[1:], x.d[:5])
	x.d[0] = d
	x.r[1], x.r[0] = x.r[0], r
	x.p[1], x.p[0] = x.p[0], p
	// prediction (blocks FILTEP, FILTEZ, PREDIC)
	sp := clip16(x.a[0]*clip16(2*x.r[0])>>15 + x.a[1]*clip16(2*x.r[1])>>15)
	x.sz = 0
	for i := range x.b {
		x.sz += x.b[i] * clip16(2*x.d[i]) >> 15
	}
	x.sz = clip16(x.sz)
	x.s = clip16(sp + x.sz)
}

// adaptLow moves the lower band on by the four leading bits of a code.
func (x *band) adaptLow(code int) {
	magnitude, negative := low4(code)
	d := outputs4[magnitude]
	if negative {
		d = -d
	}
	d = x.det * d >> 15
	x.scale(logLow[magnitude], 18432, 8)
	x.adapt(d)
}

// adaptHigh moves the higher band on by a 2-bit code and returns the quantised difference.
func (x *band) adaptHigh(code int) int {
	d, w := 1616, -214
	if code&1 == 0 {
		d, w = 7408, 798
	}
	if code < 2 {
		d = -d
	}
	d = x.det * d >> 15
	x.scale(w, 22528, 10)
	x.adapt(d)
	return d
}

// Rate returns 16000.
func (g *g722) Rate() int { return 16000 }

// Encode makes one octet of two samples.
func (g *g722) Encode(dst []byte, samples []int16) []byte {
	e := &g.enc
	for ; len(samples) >= 2; samples = samples[2:] {
		copy(e.line[:], e.line[2:])
		e.line[22], e.line[23] = int(samples[0]), int(samples[1])
		odd, even := 0, 0
		for i, c := range mirror {
			odd += e.line[2*i] * c
			even += e.line[2*i+1] * mirror[11-i]
		}
		low := e.low.quantise6(clip16((even + odd) >> 14))
		high := e.high.quantise2(clip16((even - odd) >> 14))
		e.low.adaptLow(low)
		e.high.adaptHigh(high)
		dst = append(dst, byte(high<<6|low))
	}
	return dst
}

// quantise6 returns the 6-bit code of a sample of the lower band (block QUANTL). Code words 0 to 3 are never made.
func (x *band) quantise6(v int) int {
	diff := clip16(v - x.s)
	m := diff
	if diff < 0 {
		m = -(diff + 1)
	}
	i := 1
	for i < len(levels6) && m >= levels6[i]*x.det>>12 {
		i++
	}
	switch {
	case diff >= 0:
		return 62 - i
	case i < 3:
		return 64 - i
	}
	return 34 - i
}

// quantise2 returns the 2-bit code of a sample of the higher band (block QUANTH).
func (x *band) quantise2(v int) int {
	diff := clip16(v - x.s)
	m := diff
	if diff < 0 {
		m = -(diff + 1)
	}
	code := 1
	if m >= 564*x.det>>12 {
		code = 0
	}
	if diff >= 0 {
		code += 2
	}
	return code
}

// Decode makes two samples of each octet.
func (g *g722) Decode(dst []int16, payload []byte) []int16 {
	d, at := &g.dec, len(dst)
	for _, b := range payload {
		code := int(b & 0x3f)
		low := max(-16384, min(d.low.s+d.low.det*inverse6(code)>>15, 16383))
		d.low.adaptLow(code)
		s := d.high.s
		high := max(-16384, min(s+d.high.adaptHigh(int(b>>6)), 16383))
		copy(d.line[:], d.line[2:])
		d.line[22], d.line[23] = low+high, low-high
		first, second := 0, 0
		for i, c := range mirror {
			second += d.line[2*i] * c
			first += d.line[2*i+1] * mirror[11-i]
		}
		dst = append(dst, int16(clip16(first>>11)), int16(clip16(second>>11)))
	}
	g.keep(dst[at:])
	return dst
}

// inverse6 returns the normalised difference that a 6-bit code stands for (block INVQBL).
func inverse6(code int) int {
	switch {
	case code < 4:
		return -outputs6[0]
	case code < 32:
		return -outputs6[33-code]
	case code < 62:
		return outputs6[61-code]
	}
	return -outputs6[63-code]
}
