package node_test

import (
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/call/dialplan"
	"ringfence/internal/node/config"
	"ringfence/internal/service/phone"
)

// Groups whose calls overflow to each other, or to themselves, with nobody there: the caller is told, and the node goes on.
func TestGroupsInCircles(t *testing.T) {
	s := newSite(t, func(c *config.Config) {
		group := func(number, overflow string, strategy dialplan.Strategy) dialplan.Group {
			return dialplan.Group{Number: ringfence.Number(number), Name: number, Strategy: strategy, Members: []ringfence.UserID{"bob"}, Overflow: overflow}
		}
		c.Plan.Groups = []dialplan.Group{group("300", "301", dialplan.RingAll), group("301", "300", dialplan.Sequential), group("302", "302", dialplan.RoundRobin)}
	})
	s.User("alice", "101")
	s.User("bob", "102")
	alice := s.Phone("alice")
	for _, number := range []string{"300", "302"} {
		out, err := alice.Call(s.Ctx, number, phone.CallOptions{})
		s.OK(err)
		if err := out.WaitAnswered(s.Ctx); err == nil || !strings.Contains(err.Error(), "too often") {
			t.Errorf("%s: %v", number, err)
		}
	}
	s.Until("no call is left", func() bool { return s.Node.Calls.Count() == 0 })
}
