package quota

import (
	"fmt"
	"testing"
	"time"
)

// TestQuota counts, waits and forgets.
func TestQuota(t *testing.T) {
	now := time.Unix(1e9, 0)
	q := New(2, time.Minute, func() time.Time { return now })
	if q.Take("a")+q.Take("a")+q.Take("b") != 0 {
		t.Error("what is allowed is refused")
	}
	now = now.Add(20 * time.Second)
	if wait := q.Take("a"); wait != 40*time.Second {
		t.Errorf("wait %v", wait)
	}
	now = now.Add(-time.Hour) // a clock that was set back locks nobody out
	if q.Take("a") != 0 {
		t.Error("refused after the clock went back")
	}
	for i := range 2 * maxCounted {
		q.Take(fmt.Sprint(i))
	}
	if len(q.counts) > maxCounted+1 {
		t.Errorf("%d keys are counted", len(q.counts))
	}
	if q.Take("new") == 0 {
		t.Error("who comes when all is full has a count of its own")
	}
	now = now.Add(time.Minute)
	if q.Take("new") != 0 || len(q.counts) > 3 {
		t.Errorf("%d keys are counted a minute later", len(q.counts))
	}
	for remote, want := range map[string]string{"192.0.2.1:1": "192.0.2.1", "[2001:db8::1]:1": "2001:db8::/64", "[::ffff:192.0.2.1]:1": "192.0.2.1", "x": "x"} {
		if got := Source(remote); got != want {
			t.Errorf("%s: %s", remote, got)
		}
	}
}
