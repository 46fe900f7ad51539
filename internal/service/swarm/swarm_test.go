package swarm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/service/phone"
	"ringfence/internal/service/swarm"
	"ringfence/internal/testkit/onehost"
)

// TestRun has six phones register and call at a node: all is well; then one dials another's number, and one has a certificate of somebody else.
func TestRun(t *testing.T) {
	t.Parallel()
	s := onehost.Open(t, onehost.Options{})
	var members []swarm.Member
	for i := range 6 {
		user, number := ringfence.UserID(fmt.Sprintf("phone-%d", i)), fmt.Sprint(100+i)
		s.User(user, ringfence.Number(number))
		members = append(members, swarm.Member{Config: s.Known(s.Identity(user, ringfence.DeviceID(user))), Number: number})
	}
	run := func(p swarm.Plan) *swarm.Report {
		t.Helper()
		stack := phone.NewStack(phone.StackConfig{Opener: s.Opener()})
		defer stack.Close()
		r, err := swarm.Run(t.Context(), stack, p)
		s.OK(err)
		return r
	}
	var told []string
	r := run(swarm.Plan{Members: members, Calls: 2, Progress: func(done, total int, what string) { told = append(told, fmt.Sprintf("%d of %d %s", done, total, what)) }})
	if !r.OK || r.Registered != 6 || r.Stayed != 6 || r.Calls.Up != 2 || r.Calls.Heard != 2 || r.Calls.Sealed != 2 || len(r.Failures) > 0 || r.Register == nil || r.Calls.Setup.Max < r.Calls.Setup.Median {
		t.Errorf("%+v", r)
	}
	if m := r.Calls.MOS; m == nil || m.Lowest < 4 || r.Calls.Packets < 4*90 {
		t.Errorf("%+v, %d packets", m, r.Calls.Packets)
	}
	if !slices.Contains(told, "6 of 6 phones registered") || !slices.Contains(told, "2 of 2 calls begun") || len(told) != 8 {
		t.Error(told)
	}
	if all := s.Node.Registrar.All(); len(all) != 0 {
		t.Errorf("they have left, but %d are registered", len(all))
	}

	other := onehost.Open(t, onehost.Options{})
	other.User("phone-4", "104")
	stranger := other.Known(other.Identity("phone-4", "phone-4"))
	members[4].Config.TLS.Certificates = stranger.TLS.Certificates
	members[1].Number = "105"
	r = run(swarm.Plan{Members: members, Calls: 3, Patience: 3 * time.Second})
	if r.OK || r.Registered != 5 || r.Calls.Up != 1 || r.Calls.Heard != 1 || len(r.Failures) != 3 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"registration: ", "one of both phones is not registered", "somebody else answered"} {
		if !slices.ContainsFunc(r.Failures, func(f swarm.Failure) bool { return f.Count == 1 && strings.Contains(f.Reason, want) }) {
			t.Errorf("%q is not in %+v", want, r.Failures)
		}
	}
	if _, err := swarm.Run(t.Context(), nil, swarm.Plan{Members: members, Calls: 4}); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
}
