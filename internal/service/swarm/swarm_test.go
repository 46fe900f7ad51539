package swarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
	"ringfence/internal/testkit/onehost"
)

// at makes phones of a site, which answer digest challenges; those from bad on have another password.
func at(s *onehost.Site, n, bad int) Config {
	for i := range n {
		user := ringfence.UserID(fmt.Sprintf("desk-%02d", i))
		s.User(user, ringfence.Number(fmt.Sprint(200+i)))
		s.Password(user, ringfence.DeviceID(user), "secret", ringfence.AuthDigestSHA256)
	}
	return Config{Opener: s.Opener(), Count: n, Rate: 200, Talk: least, Number: func(i int) string { return fmt.Sprint(200 + i) }, Phone: func(i int) phone.Config {
		c := s.Client()
		c.User, c.Password = fmt.Sprintf("desk-%02d", i), "secret"
		if i >= bad {
			c.Password = "guess"
		}
		c.AuthUser = c.User
		return c
	}}
}

// TestSwarm registers phones at a node, and has pairs of them speak.
func TestSwarm(t *testing.T) {
	s := onehost.Open(t, onehost.Options{Within: 2 * time.Minute})
	c := at(s, 10, 10)
	c.Calls, c.Stay = 4, 1500*time.Millisecond
	var mu sync.Mutex
	var phases []string
	used := time.Duration(0)
	c.Usage = func() Usage {
		used += time.Second
		return Usage{CPU: used, Memory: uint64(used/time.Second) << 20, Peak: 1 << 30}
	}
	c.Progress = func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		if p.Done > p.Total || p.Failed > p.Done {
			t.Errorf("%+v", p)
		}
	}
	r, err := Run(s.Ctx, c)
	if err != nil || r.Failure() != nil {
		t.Fatalf("%v %v: %+v", err, r.Failure(), r)
	}
	if r.Registered != 10 || r.Sealed != 10 || r.Lost != 0 || r.Calls.Up != 4 || r.Calls.Sealed != 4 || r.Calls.Heard != 4 || r.Calls.LeastMOS < 4 || r.Register.Median <= 0 || r.Register.Most < r.Register.P95 || r.Calls.Setup.Median <= 0 || len(r.Failed)+len(r.Calls.Failed) != 0 {
		t.Errorf("%+v", r)
	}
	if u := r.Usage; u.CPUMillisecondsPerPhone != 100 || u.BytesPerPhone != 1<<20/10 || u.PeakBytes != 1<<30 || u.CPUMillisecondsPerCallSecond <= 0 || u.CPUMicrosecondsPerIdleSecond <= 0 || u.CPUSeconds < 2 {
		t.Errorf("%+v", u)
	}
	if got := strings.Join(phases, " "); got != "registering calling talking staying leaving" {
		t.Error(got)
	}
}

// TestSwarmThatFails has phones with a wrong password among them, calls that somebody else answers, and one that is stopped.
func TestSwarmThatFails(t *testing.T) {
	s := onehost.Open(t, onehost.Options{Within: 2 * time.Minute})
	c := at(s, 6, 5)
	c.Calls, c.Patience = 3, 5*time.Second
	c.Number = func(i int) string { return map[bool]string{true: "999", false: fmt.Sprint(200 + i)}[i == 3] }
	r, err := Run(s.Ctx, c)
	if err != nil || ringfence.KindOf(r.Failure()) != ringfence.KindUnavailable {
		t.Fatalf("%v %v", err, r.Failure())
	}
	if r.Registered != 5 || len(r.Failed) != 1 || r.Failed[0].Count != 1 || !strings.Contains(r.Failed[0].Text, "401") && !strings.Contains(r.Failed[0].Text, "refused") {
		t.Errorf("%+v", r)
	}
	if r.Calls.Up != 1 || r.Calls.Heard != 1 || len(r.Calls.Failed) != 2 {
		t.Errorf("%+v", r.Calls)
	}
	ctx, cancel := context.WithCancel(s.Ctx)
	c.Progress = func(p Progress) {
		if p.Phase == "talking" {
			cancel()
		}
	}
	if r, err := Run(ctx, c); err != nil || !r.Interrupted || ringfence.KindOf(r.Failure()) != ringfence.KindCancelled {
		t.Errorf("%v %+v", err, r)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []Config{{}, {Count: 3, Calls: 2}, {Count: 1, Calls: -1}, {Count: 1, Rate: -1}, {Count: 200_000}, {Count: 2, Talk: time.Second}} {
		if r, err := Run(t.Context(), c); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%+v: %+v %v", c, r, err)
		}
	}
	lost := func(port int) error {
		return &ringfence.Fault{Op: "phone.connect", Text: "the connection was lost", Err: &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: port}, Err: errors.New("i/o timeout")}}
	}
	if c := because(because(nil, lost(1)), lost(2)); len(c) != 1 || c[0].Text != "the connection was lost: read: i/o timeout" || c[0].Count != 2 {
		t.Errorf("%+v", c)
	}
	var causes []Cause
	for i := range 2 * maxCauses {
		causes = because(causes, errors.New(fmt.Sprint(i)))
	}
	if len(causes) != maxCauses || causes[maxCauses-1].Count != maxCauses+1 {
		t.Errorf("%d causes, the last %+v", len(causes), causes[len(causes)-1])
	}
}
