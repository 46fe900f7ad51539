package swarm

import (
	"math"
	"slices"
	"time"
)

// Report is what came of a [Plan].
type Report struct {
	OK         bool      `json:"ok"`
	Phones     int       `json:"phones"`
	Registered int       `json:"registered"`
	Stayed     int       `json:"registered_at_the_end"`
	Seconds    float64   `json:"seconds"` // until the last had registered or failed
	Register   *Spread   `json:"register_ms,omitempty"`
	Calls      Calls     `json:"calls"`
	Failures   []Failure `json:"failures"` // the most frequent first
}

// Calls is what came of the calls. Heard and Sealed count those of which both ends say so.
type Calls struct {
	Asked   int     `json:"asked"`
	Up      int     `json:"up"`
	Heard   int     `json:"heard"`
	Sealed  int     `json:"sealed"`
	Setup   *Spread `json:"setup_ms,omitempty"` // from dialling until it is answered
	Packets uint64  `json:"packets"`            // that both ends received
	Lost    uint64  `json:"lost"`
	MOS     *Scores `json:"mos,omitempty"`
}

// Spread says how long something took, in milliseconds.
type Spread struct {
	Median float64 `json:"median"`
	Most   float64 `json:"p99"` // 99 of 100 took no longer
	Max    float64 `json:"max"`
}

// Scores are mean opinion scores, 1 to 4.5.
type Scores struct {
	Lowest float64 `json:"lowest"`
	Median float64 `json:"median"`
}

// Failure is something that did not come about, and how often.
type Failure struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

func spreadOf(all []time.Duration) *Spread {
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	ms := func(i int) float64 { return math.Round(float64(all[i])/1e5) / 10 }
	return &Spread{ms(len(all) / 2), ms((len(all)*99 - 1) / 100), ms(len(all) - 1)}
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*100) / 100 }
