package swarm

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
)

// Cause is why something failed, and how often.
type Cause struct {
	Text  string `json:"cause"`
	Hint  string `json:"hint,omitempty"`
	Count int    `json:"count"`
}

// Times are how long something took.
type Times struct {
	Median float64 `json:"median_ms"`
	P95    float64 `json:"p95_ms"`
	Most   float64 `json:"most_ms"`
}

// Calls are what became of the calls.
type Calls struct {
	Wanted   int     `json:"wanted"`
	Up       int     `json:"up"`
	Sealed   int     `json:"sealed"` // both legs
	Heard    int     `json:"heard"`  // each side heard the other's tone
	Setup    Times   `json:"setup"`
	LeastMOS float64 `json:"least_mos"`
	Lost     uint64  `json:"packets_lost"`
	Failed   []Cause `json:"failed"`

	took []time.Duration
}

// Used is what the swarm cost in this process.
type Used struct {
	CPUSeconds                   float64 `json:"cpu_seconds"`
	CPUMillisecondsPerPhone      float64 `json:"cpu_ms_per_registration"`
	CPUMicrosecondsPerIdleSecond float64 `json:"cpu_us_per_phone_and_second,omitempty"` // while it stayed
	CPUMillisecondsPerCallSecond float64 `json:"cpu_ms_per_call_and_second,omitempty"`  // of both of its phones, while it was up
	BytesPerPhone                uint64  `json:"bytes_per_phone"`
	PeakBytes                    uint64  `json:"peak_bytes"`
}

// Report is what a swarm found.
type Report struct {
	Count       int     `json:"count"`
	Registered  int     `json:"registered"`
	Sealed      int     `json:"sealed"` // over TLS, to a server that proved its name
	Lost        int     `json:"lost"`   // not registered any more at the end of the stay
	Register    Times   `json:"register"`
	Seconds     float64 `json:"seconds"` // until all were registered
	Failed      []Cause `json:"failed"`
	Calls       Calls   `json:"calls"`
	Usage       Used    `json:"usage"`
	Interrupted bool    `json:"interrupted"`
}

// Failure returns why the swarm did not do all that it should, or nil.
func (r Report) Failure() error {
	bad := func(format string, args ...any) error {
		return &ringfence.Fault{Op: "swarm", Kind: ringfence.KindUnavailable, Text: fmt.Sprintf(format, args...), Hint: "the report says why"}
	}
	switch {
	case r.Interrupted:
		return &ringfence.Fault{Op: "swarm", Kind: ringfence.KindCancelled, Text: "the swarm was stopped before its end"}
	case r.Registered < r.Count:
		return bad("%d of %d phones did not register", r.Count-r.Registered, r.Count)
	case r.Lost > 0:
		return bad("%d of %d phones lost their registration", r.Lost, r.Count)
	case r.Calls.Heard < r.Calls.Wanted:
		return bad("%d of %d calls were not up, sealed and heard on both sides", r.Calls.Wanted-r.Calls.Heard, r.Calls.Wanted)
	}
	return nil
}

// maxCauses bounds the list of causes.
const maxCauses = 20

// plain is what an error says without what differs from one phone to the next, such as the port that it came from.
func plain(err error) string {
	if f, ok := errors.AsType[*phone.RejectedError](err); ok {
		return f.Error()
	}
	var parts []string
	for err != nil {
		switch e := err.(type) {
		case *ringfence.Fault:
			if e.Text != "" {
				parts = append(parts, e.Text)
			}
			err = e.Err
		case *net.OpError:
			parts = append(parts, e.Op)
			err = e.Err
		default:
			return strings.Join(append(parts, err.Error()), ": ")
		}
	}
	return strings.Join(parts, ": ")
}

// because counts an error among the causes.
func because(causes []Cause, err error) []Cause {
	c := Cause{Text: plain(err), Hint: ringfence.HintOf(err), Count: 1}
	for i := range causes {
		if causes[i].Text == c.Text {
			causes[i].Count++
			return causes
		}
	}
	if len(causes) == maxCauses {
		causes[maxCauses-1] = Cause{Text: "other causes", Count: causes[maxCauses-1].Count + 1}
		return causes
	}
	return append(causes, c)
}

func most(causes []Cause) []Cause {
	if causes == nil {
		return []Cause{}
	}
	slices.SortStableFunc(causes, func(a, b Cause) int { return cmp.Compare(b.Count, a.Count) })
	return causes
}

func times(all []time.Duration) Times {
	if len(all) == 0 {
		return Times{}
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return float64(all[min(len(all)-1, int(share*float64(len(all))))].Microseconds()) / 1000
	}
	return Times{Median: at(0.5), P95: at(0.95), Most: at(1)}
}

// registered fills in how the registrations went.
func (r *Report) registered(members []*member, lasted time.Duration, before, after Usage) {
	var took []time.Duration
	for _, m := range members {
		if m.err != nil {
			r.Failed = because(r.Failed, m.err)
			continue
		}
		r.Registered++
		took = append(took, m.took)
		if m.p.Proof().Verdict == ringfence.Sealed {
			r.Sealed++
		}
	}
	r.Failed, r.Register, r.Seconds = most(r.Failed), times(took), lasted.Seconds()
	if r.Registered > 0 {
		r.Usage.CPUMillisecondsPerPhone = float64(after.CPU-before.CPU) / float64(time.Millisecond) / float64(r.Registered)
		if after.Memory > before.Memory {
			r.Usage.BytesPerPhone = (after.Memory - before.Memory) / uint64(r.Registered)
		}
	}
}

// heard reports whether a call hears a tone within 1 %.
func heard(c *phone.Call, hz float64) bool {
	got := c.Audio().HeardHz
	return got > hz*0.99 && got < hz*1.01
}

// call fills in how a call went, while it is up.
func (r *Report) call(p *pair) {
	c := &r.Calls
	if p.err != nil {
		c.Failed = because(c.Failed, p.err)
		return
	}
	c.Up++
	c.took = append(c.took, p.took)
	sealed := true
	for _, leg := range []*phone.Call{p.out, p.in} {
		proof := leg.Proof()
		sealed = sealed && proof.Verdict == ringfence.Sealed && proof.Media != nil
		if m := proof.Media; m != nil && m.PacketsIn > 0 {
			c.Lost += m.Lost
			if c.LeastMOS == 0 || m.MOS < c.LeastMOS {
				c.LeastMOS = m.MOS
			}
		}
	}
	if sealed {
		c.Sealed++
	}
	for _, side := range []struct {
		ok   bool
		text string
	}{{sealed, "a leg was not sealed"}, {p.caller, "the caller did not hear the callee's tone"}, {p.callee, "the callee did not hear the caller's tone"}} {
		if !side.ok {
			c.Failed = because(c.Failed, errors.New(side.text))
		}
	}
	if sealed && p.caller && p.callee {
		c.Heard++
	}
}

// settle ends the count; missing calls had no phones.
func (c *Calls) settle(missing int) {
	for range missing {
		c.Failed = because(c.Failed, errors.New("there were not enough phones that registered"))
	}
	c.Failed, c.Setup = most(c.Failed), times(c.took)
}
