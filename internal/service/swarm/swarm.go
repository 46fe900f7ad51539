package swarm

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
)

// Member is one phone, and what others dial to reach it.
type Member struct {
	Config phone.Config // without Auto and Audio
	Number string
}

// Plan is what a swarm does.
type Plan struct {
	Members  []Member
	AtOnce   int           // how many register at a time; 0 means 32
	Calls    int           // simultaneous calls between two members each
	Rate     float64       // calls begun a second; 0 means 20
	Talk     time.Duration // how long all calls are up together, or without calls, how long the phones stay; at least 2 s with calls
	Patience time.Duration // for one phone to register, and one call to be answered; 0 means 30 s
	// Progress, if set, hears how many of how many have registered, have called, have been judged.
	Progress func(done, total int, what string)
}

// Run has the members register, call and leave. It returns an error only if the plan cannot be carried out; what fails of it stands in the report.
func Run(ctx context.Context, stack *phone.Stack, p Plan) (*Report, error) {
	if p.Calls*2 > len(p.Members) {
		return nil, &ringfence.Fault{Op: "swarm", Kind: ringfence.KindInvalid, Text: "a call takes two phones, and there are not as many", Hint: "ask for fewer calls, or for more phones"}
	}
	p.AtOnce, p.Rate, p.Patience = cmp.Or(p.AtOnce, 32), cmp.Or(p.Rate, 20), cmp.Or(p.Patience, 30*time.Second)
	if p.Progress == nil {
		p.Progress = func(int, int, string) {}
	}
	if p.Calls > 0 {
		p.Talk = max(p.Talk, 2*time.Second)
	}
	s := &swarm{plan: p, stack: stack, phones: make([]*phone.Phone, len(p.Members)), answered: make([]chan *phone.Call, len(p.Members)), failures: map[string]int{}}
	defer s.leave()
	s.report = Report{Phones: len(p.Members)}
	s.register(ctx)
	if err := ctx.Err(); err != nil {
		return s.finish(), err
	}
	if p.Calls > 0 {
		s.talk(ctx)
	} else {
		pause(ctx, p.Talk)
	}
	return s.finish(), ctx.Err()
}

type swarm struct {
	plan     Plan
	stack    *phone.Stack
	phones   []*phone.Phone     // nil: it did not register
	answered []chan *phone.Call // what a member has answered

	mu       sync.Mutex
	report   Report
	times    []time.Duration
	setups   []time.Duration
	scores   []float64
	failures map[string]int
}

// tone is what a member says, in Hz: near members say others.
func tone(member int) float64 { return 400 + 23*float64(member%64) }

// fail counts why something did not come about.
func (s *swarm) fail(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[what+": "+err.Error()]++
}

// each does something for a number of members, some at a time.
func (s *swarm) each(ctx context.Context, n, atOnce int, do func(i int)) {
	var wg sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for i := range n {
		select {
		case <-ctx.Done():
			wg.Wait()
			return
		case room <- struct{}{}:
		}
		wg.Go(func() {
			defer func() { <-room }()
			do(i)
		})
	}
	wg.Wait()
}

func (s *swarm) register(ctx context.Context) {
	began, done := time.Now(), 0
	s.each(ctx, len(s.plan.Members), s.plan.AtOnce, func(i int) {
		c := s.plan.Members[i].Config
		s.answered[i] = make(chan *phone.Call, 1)
		c.Auto = func(ctx context.Context, call *phone.Call) {
			if err := call.Answer(ctx, phone.CallOptions{Audio: phone.Tone(tone(i))}); err != nil {
				s.fail("answer", err)
				return
			}
			select {
			case s.answered[i] <- call:
			default: // somebody else's call
			}
		}
		wait, cancel := context.WithTimeout(ctx, s.plan.Patience)
		defer cancel()
		start := time.Now()
		ph, err := s.stack.Open(wait, c)
		took := time.Since(start)
		if err != nil {
			s.fail("registration", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.phones[i] = ph; err == nil {
			s.report.Registered++
			s.times = append(s.times, took)
		}
		done++
		s.plan.Progress(done, len(s.plan.Members), "phones registered")
	})
	s.report.Seconds = seconds(time.Since(began))
}

// talk begins all calls, waits until each is up or has failed, lets those that are up talk, and judges them.
func (s *swarm) talk(ctx context.Context) {
	s.report.Calls.Asked = s.plan.Calls
	gap := time.NewTicker(time.Duration(float64(time.Second) / s.plan.Rate))
	defer gap.Stop()
	all := make([]pair, s.plan.Calls)
	var wg sync.WaitGroup
	done := 0
	for i := range all {
		if i > 0 {
			select {
			case <-gap.C:
			case <-ctx.Done():
			}
		}
		wg.Go(func() {
			all[i] = s.call(ctx, 2*i, 2*i+1)
			s.mu.Lock()
			defer s.mu.Unlock()
			done++
			s.plan.Progress(done, len(all), "calls begun")
		})
	}
	wg.Wait()
	pause(ctx, s.plan.Talk)
	for _, c := range all {
		if c.out != nil {
			s.judge(c)
		}
	}
	for _, c := range all {
		if c.out != nil {
			c.out.Hangup()
		}
	}
	for _, c := range all {
		if c.out != nil {
			wait, cancel := context.WithTimeout(ctx, s.plan.Patience)
			_ = c.in.WaitEnded(wait)
			cancel()
		}
	}
}

// pair is a call at both its ends; none if it is not up.
type pair struct {
	out, in  *phone.Call
	from, to int
}

func (s *swarm) call(ctx context.Context, from, to int) pair {
	if s.phones[from] == nil || s.phones[to] == nil {
		s.fail("call", &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "one of both phones is not registered"})
		return pair{}
	}
	ctx, cancel := context.WithTimeout(ctx, s.plan.Patience)
	defer cancel()
	start := time.Now()
	out, err := s.phones[from].Call(ctx, s.plan.Members[to].Number, phone.CallOptions{Audio: phone.Tone(tone(from))})
	if err == nil {
		err = out.WaitAnswered(ctx)
	}
	took := time.Since(start)
	if err == nil {
		select {
		case in := <-s.answered[to]:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.report.Calls.Up++
			s.setups = append(s.setups, took)
			return pair{out, in, from, to}
		case <-ctx.Done():
			err = &ringfence.Fault{Kind: ringfence.KindTimeout, Text: "somebody else answered"}
		}
	}
	if out != nil {
		out.Hangup()
	}
	s.fail("call", err)
	return pair{}
}

// judge looks at both ends of a call that should be up.
func (s *swarm) judge(c pair) {
	sealed, heard := true, true
	for _, end := range []struct {
		call *phone.Call
		want float64
	}{{c.out, tone(c.to)}, {c.in, tone(c.from)}} {
		if state, err := end.call.State(); state == phone.Ended {
			s.fail("call", cmp.Or(err, error(&ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "it ended by itself"})))
			heard = false
			continue
		}
		proof, audio := end.call.Proof(), end.call.Audio()
		sealed = sealed && proof.Verdict == ringfence.Sealed
		if math.Abs(audio.HeardHz-end.want) > end.want/100 {
			s.fail("audio", &ringfence.Fault{Kind: ringfence.KindUnavailable, Text: "another tone was heard than the one that was said, or none"})
			heard = false
		}
		if m := proof.Media; m != nil {
			s.mu.Lock()
			s.report.Calls.Packets += m.PacketsIn
			s.report.Calls.Lost += m.Lost
			s.scores = append(s.scores, m.MOS)
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sealed {
		s.report.Calls.Sealed++
	}
	if heard {
		s.report.Calls.Heard++
	}
}

// finish makes the report of what was measured.
func (s *swarm) finish() *Report {
	for _, p := range s.phones {
		if p != nil && p.Registered() {
			s.report.Stayed++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.report
	r.Register, r.Calls.Setup = spreadOf(s.times), spreadOf(s.setups)
	slices.Sort(s.scores)
	if n := len(s.scores); n > 0 {
		r.Calls.MOS = &Scores{Lowest: s.scores[0], Median: s.scores[n/2]}
	}
	r.Failures = []Failure{}
	for reason, n := range s.failures {
		r.Failures = append(r.Failures, Failure{reason, n})
	}
	slices.SortFunc(r.Failures, func(a, b Failure) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Reason, b.Reason)) })
	r.OK = r.Registered == r.Phones && r.Stayed == r.Phones && r.Calls.Heard == r.Calls.Asked && r.Calls.Sealed == r.Calls.Asked
	return r
}

func (s *swarm) leave() {
	s.each(context.Background(), len(s.phones), 4*s.plan.AtOnce, func(i int) {
		if p := s.phones[i]; p != nil {
			_ = p.Close()
		}
	})
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
