package swarm

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
)

// Usage is what this process has used so far.
type Usage struct {
	CPU    time.Duration
	Memory uint64 // bytes that it holds now
	Peak   uint64 // and the most it held
}

// Progress is how far a swarm is.
type Progress struct {
	Phase  string // registering, calling, talking or leaving
	Done   int
	Failed int
	Total  int
}

// Config describes a swarm. Opener, Count, Phone and Number are needed.
type Config struct {
	Opener   ringfence.Opener
	Count    int
	Phone    func(i int) phone.Config
	Number   func(i int) string // that others dial to reach a phone
	Rate     float64            // registrations and calls that are begun in a second; 0 means 100
	Calls    int                // pairs that speak at the same time
	Talk     time.Duration      // how long they do; 0 means 10 s
	Stay     time.Duration      // how long the phones stay registered besides
	Patience time.Duration      // with one registration or call; 0 means a minute
	Usage    func() Usage       // nil: it is not measured
	Progress func(Progress)
	Agent    string
}

// tone is what a phone says, in Hz. Those that are near to it say others, so that a call that was connected wrongly is not taken for a good one.
func tone(i int) float64 { return 400 + 23*float64(i%64) }

// least is how long a call is up before it is looked at: the ear needs a second and a half.
const least = 3 * time.Second

// Check reports what cannot be done.
func (c *Config) Check() error {
	bad := func(text, hint string) error {
		return &ringfence.Fault{Op: "swarm", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
	}
	switch {
	case c.Count < 1 || c.Count > 100_000:
		return bad("a swarm has between 1 and 100,000 phones", "")
	case c.Calls < 0 || 2*c.Calls > c.Count:
		return bad("each call takes two phones of the swarm", "ask for half as many calls as phones, or fewer")
	case c.Rate < 0 || math.IsNaN(c.Rate) || c.Rate > 100_000:
		return bad("the rate is in phones a second, up to 100,000", "")
	case c.Talk != 0 && c.Talk < least:
		return bad("calls last for 3 s at least, so that the tones can be told", "")
	}
	return nil
}

// member is one phone.
type member struct {
	p      *phone.Phone
	hz     float64          // what it says
	answer chan *phone.Call // what it answered last
	took   time.Duration
	err    error
}

// swarm runs.
type swarm struct {
	Config
	stack   *phone.Stack
	members []*member
}

// Run runs a swarm from its first registration to its last good-bye. When ctx ends it stops, and says how far it came.
func Run(ctx context.Context, c Config) (Report, error) {
	if err := c.Check(); err != nil {
		return Report{}, err
	}
	if c.Rate == 0 {
		c.Rate = 100
	}
	if c.Talk == 0 {
		c.Talk = 10 * time.Second
	}
	if c.Patience <= 0 {
		c.Patience = time.Minute
	}
	if c.Usage == nil {
		c.Usage = func() Usage { return Usage{} }
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	s := &swarm{Config: c, stack: phone.NewStack(phone.StackConfig{Opener: c.Opener, Shards: runtime.GOMAXPROCS(0), UserAgent: c.Agent})}
	defer s.stack.Close()
	r := Report{Count: c.Count, Calls: Calls{Wanted: c.Calls}}
	before, start := c.Usage(), time.Now()
	s.register(ctx)
	registered := c.Usage()
	r.registered(s.members, time.Since(start), before, registered)
	if c.Calls > 0 && ctx.Err() == nil {
		s.talk(ctx, &r)
	}
	if c.Stay > 0 {
		s.stay(ctx, &r)
	}
	s.leave(ctx)
	after := c.Usage()
	r.Usage.CPUSeconds = (after.CPU - before.CPU).Seconds()
	r.Usage.PeakBytes = after.Peak
	r.Interrupted = ctx.Err() != nil
	return r, nil
}

// each does something for n things, begun at the rate of the swarm, and tells how far it is. It returns when all are done.
func (s *swarm) each(ctx context.Context, phase string, n int, do func(i int) error) {
	var done, failed atomic.Int64
	var wg sync.WaitGroup
	tell := func() {
		s.Progress(Progress{Phase: phase, Done: int(done.Load()), Failed: int(failed.Load()), Total: n})
	}
	stop := make(chan struct{})
	var teller sync.WaitGroup
	teller.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell()
			case <-stop:
				tell()
				return
			}
		}
	})
	start := time.Now()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for begun := 0; begun < n && ctx.Err() == nil; {
		for due := min(n, 1+int(time.Since(start).Seconds()*s.Rate)); begun < due; begun++ {
			i := begun
			wg.Go(func() {
				if err := do(i); err != nil {
					failed.Add(1)
				}
				done.Add(1)
			})
		}
		if begun < n {
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	}
	wg.Wait()
	close(stop)
	teller.Wait()
}

func (s *swarm) register(ctx context.Context) {
	s.members = make([]*member, s.Count)
	for i := range s.members {
		s.members[i] = &member{hz: tone(i), answer: make(chan *phone.Call, 1), err: &ringfence.Fault{Op: "swarm", Kind: ringfence.KindCancelled, Text: "it was not begun"}}
	}
	s.each(ctx, "registering", s.Count, func(i int) error {
		m := s.members[i]
		conf := s.Phone(i)
		conf.Auto = func(ctx context.Context, c *phone.Call) {
			if c.Answer(ctx, phone.CallOptions{Audio: phone.Tone(m.hz)}) == nil {
				select {
				case m.answer <- c:
				default:
				}
			}
		}
		ctx, cancel := context.WithTimeout(ctx, s.Patience)
		defer cancel()
		start := time.Now()
		if m.p, m.err = s.stack.Start(conf); m.err != nil {
			return m.err
		}
		var last phone.Registration
		m.err = m.p.WaitRegistration(ctx, func(r phone.Registration) bool { last = r; return r.State == phone.Registered || r.Err != nil })
		if m.err == nil && last.State != phone.Registered {
			m.err = last.Err
		}
		m.took = time.Since(start)
		return m.err
	})
}

// pair is a call of two phones of the swarm.
type pair struct {
	from, to *member
	number   string
	out, in  *phone.Call
	took     time.Duration // until it was answered
	err      error
	// What each side heard at some time.
	caller, callee bool
}

// look listens to both sides: what is told is what was heard for most of the last second and a half.
func (p *pair) look() {
	if p.err == nil {
		p.caller, p.callee = p.caller || heard(p.out, p.to.hz), p.callee || heard(p.in, p.from.hz)
	}
}

// talk sets the calls up, lets them speak together, and looks at each.
func (s *swarm) talk(ctx context.Context, r *Report) {
	pairs := s.pairs()
	if len(pairs) == 0 {
		r.Calls.settle(s.Calls)
		return
	}
	s.each(ctx, "calling", len(pairs), func(i int) error {
		pairs[i].err = pairs[i].begin(ctx, s.Patience)
		return pairs[i].err
	})
	before, start := s.Usage(), time.Now()
	s.hold(ctx, "talking", s.Talk, func() {
		for _, p := range pairs {
			p.look()
		}
	})
	lasted, used := time.Since(start), s.Usage()
	up := 0
	for _, p := range pairs {
		if p.err == nil {
			up++
		}
		r.call(p)
	}
	r.Calls.settle(s.Calls - len(pairs))
	if up > 0 && lasted > 0 {
		r.Usage.CPUMillisecondsPerCallSecond = float64(used.CPU-before.CPU) / float64(time.Millisecond) / lasted.Seconds() / float64(up)
	}
	for _, p := range pairs {
		if p.out != nil {
			p.out.Hangup()
		}
	}
}

// pairs are phones that registered, two by two.
func (s *swarm) pairs() []*pair {
	var out []*pair
	var first *member
	for i, m := range s.members {
		switch {
		case m.err != nil || len(out) == s.Calls:
		case first == nil:
			first = m
		default:
			out = append(out, &pair{from: first, to: m, number: s.Number(i)})
			first = nil
		}
	}
	return out
}

func (p *pair) begin(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	start := time.Now()
	var err error
	if p.out, err = p.from.p.Call(ctx, p.number, phone.CallOptions{Audio: phone.Tone(p.from.hz)}); err != nil {
		return err
	}
	if err := p.out.WaitAnswered(ctx); err != nil {
		return err
	}
	p.took = time.Since(start)
	select {
	case p.in = <-p.to.answer:
		return nil
	case <-ctx.Done():
		return &ringfence.Fault{Op: "swarm", Kind: ringfence.KindTimeout, Text: "somebody else answered than was called", Hint: "is the number that is dialled that of the phone?"}
	}
}

func (s *swarm) stay(ctx context.Context, r *Report) {
	before, start := s.Usage(), time.Now()
	s.hold(ctx, "staying", s.Stay, func() {})
	if lasted := time.Since(start); lasted > 0 && r.Registered > 0 {
		r.Usage.CPUMicrosecondsPerIdleSecond = float64(s.Usage().CPU-before.CPU) / float64(time.Microsecond) / lasted.Seconds() / float64(r.Registered)
	}
	lost := 0
	for _, m := range s.members {
		if m.err == nil && !m.p.Registered() {
			lost++
		}
	}
	r.Lost = lost
}

// hold waits, tells how far it is, and looks at each second and at the end.
func (s *swarm) hold(ctx context.Context, phase string, d time.Duration, look func()) {
	defer look()
	seconds := int(math.Ceil(d.Seconds()))
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for passed := 0; ; passed++ {
		s.Progress(Progress{Phase: phase, Done: min(passed, seconds), Total: seconds})
		select {
		case <-tick.C:
			look()
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// leave says good-bye for all phones, some at a time.
func (s *swarm) leave(ctx context.Context) {
	var wg sync.WaitGroup
	gate := make(chan struct{}, 64)
	for i, m := range s.members {
		if m.p == nil {
			continue
		}
		gate <- struct{}{}
		if i%100 == 0 {
			s.Progress(Progress{Phase: "leaving", Done: i, Total: s.Count})
		}
		wg.Go(func() {
			if ctx.Err() == nil { // else the stack ends them all at once
				_ = m.p.Close()
			}
			<-gate
		})
	}
	wg.Wait()
	s.Progress(Progress{Phase: "leaving", Done: s.Count, Total: s.Count})
}
