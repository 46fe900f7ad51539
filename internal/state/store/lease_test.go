package store

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfence"
)

// checkLeases: a name belongs to one data directory at a time, by the database's clock, and to its latest process.
func checkLeases(t *testing.T, s *Store) {
	const stale = time.Minute
	one := Lease{Node: "n", Holder: "dir-1", Session: "a", Place: "host-1"}
	two := Lease{Node: "n", Holder: "dir-2", Session: "b", Place: "host-2"}
	again := Lease{Node: "n", Holder: "dir-1", Session: "c", Place: "host-1"}
	noErr(t, s.TakeLease(ctx(), one, stale))
	noErr(t, s.RenewLease(ctx(), one))
	err := s.TakeLease(ctx(), two, stale)
	wantKind(t, err, ringfence.KindConflict)
	if !strings.Contains(err.Error(), "another node called n uses this database: host-1, seen 0s ago") || !strings.Contains(ringfence.HintOf(err), "1m0s after it was last seen") {
		t.Errorf("the fault does not explain itself: %v (%s)", err, ringfence.HintOf(err))
	}
	noErr(t, s.TakeLease(ctx(), Lease{Node: "m", Holder: "dir-2", Session: "b", Place: "host-2"}, stale)) // another name

	// Its own directory may at once, and the process before it is told.
	noErr(t, s.TakeLease(ctx(), again, stale))
	wantKind(t, s.RenewLease(ctx(), one), ringfence.KindConflict)
	noErr(t, s.DropLease(ctx(), one)) // which is not its to give
	noErr(t, s.RenewLease(ctx(), again))

	// Another one may once nobody was seen for so long, and not a moment before.
	aged := func(by time.Duration) {
		t.Helper()
		_, err := s.exec(ctx(), "test", `UPDATE node_leases SET renewed = renewed - $1 WHERE node='n'`, by.Microseconds())
		noErr(t, err)
	}
	aged(stale - 10*time.Second)
	wantKind(t, s.TakeLease(ctx(), two, stale), ringfence.KindConflict)
	aged(11 * time.Second)
	noErr(t, s.RenewLease(ctx(), again)) // who was late and still has it keeps it
	aged(stale + time.Second)
	noErr(t, s.TakeLease(ctx(), two, stale))
	err = s.RenewLease(ctx(), again)
	wantKind(t, err, ringfence.KindConflict)
	if !strings.Contains(err.Error(), "belongs to host-2") {
		t.Errorf("the fault does not explain itself: %v", err)
	}

	// Who says where it is reached is found there for as long as it is seen.
	_, err = s.Reach(ctx(), "n", stale)
	wantKind(t, err, ringfence.KindNotFound)
	two.Reach = "192.0.2.2:5061"
	noErr(t, s.TakeLease(ctx(), two, stale))
	at, err := s.Reach(ctx(), "n", stale)
	noErr(t, err)
	same(t, at, two.Reach)
	aged(stale + time.Second)
	_, err = s.Reach(ctx(), "n", stale)
	wantKind(t, err, ringfence.KindNotFound)
	noErr(t, s.RenewLease(ctx(), two))

	// What is given back is free.
	noErr(t, s.DropLease(ctx(), two))
	wantKind(t, s.RenewLease(ctx(), two), ringfence.KindConflict)
	noErr(t, s.TakeLease(ctx(), one, stale))

	// Of several who start at once one gets it.
	noErr(t, s.DropLease(ctx(), one))
	var wg sync.WaitGroup
	var got atomic.Int32
	for _, name := range []string{"p", "q", "r", "s"} {
		wg.Go(func() {
			switch err := s.TakeLease(ctx(), Lease{Node: "n", Holder: name, Session: name, Place: name}, stale); {
			case err == nil:
				got.Add(1)
			case ringfence.KindOf(err) != ringfence.KindConflict:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	same(t, int(got.Load()), 1)
}
