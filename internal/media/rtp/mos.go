package rtp

import "time"

// Impairment says how a codec sounds on the E-model's scale (ITU-T G.113 appendix I): Ie without loss, and Bpl, how well it
// bears loss.
type Impairment struct{ Ie, Bpl float64 }

// G711 returns the impairment of G.711 with packet loss concealment (G.113 table I.4). G.722 and Opus are given the same,
// as the narrowband scale ends there.
func G711() Impairment { return Impairment{Ie: 0, Bpl: 25.1} }

// MOS estimates the mean opinion score, 1.0 to 4.5, by the E-model (ITU-T G.107) with that recommendation's default
// parameters, for which R0 - Is = 93.2 and A = 0. loss is the share of packets lost (0 to 1), taken as random (BurstR = 1);
// trip is the round-trip time, 0 if unknown. The mouth-to-ear delay is half of it, plus 20 ms of packetising, plus a jitter
// buffer of twice the jitter. Delay costs Id = 0.024 d + 0.11 (d - 177.3) H(d - 177.3), d in ms, the usual approximation
// of G.107 equation 7-27.
func (c Impairment) MOS(loss float64, jitter, trip time.Duration) float64 {
	return score(c.R(loss, jitter, trip))
}

// R is the rating behind [Impairment.MOS], 0 to 93.2.
func (c Impairment) R(loss float64, jitter, trip time.Duration) float64 {
	d := float64(trip/2+20*time.Millisecond+2*jitter) / float64(time.Millisecond)
	id := 0.024 * d
	if d > 177.3 {
		id += 0.11 * (d - 177.3)
	}
	loss = max(0, min(loss, 1)) * 100
	ie := c.Ie + (95-c.Ie)*loss/(loss+c.Bpl) // equation 7-29
	return max(0, 93.2-id-ie)
}

// score is G.107 annex B: from the rating R to the mean opinion score.
func score(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}
