package node_test

import (
	"runtime"
	"runtime/debug"
	"testing"

	"ringfence/internal/node"
)

// With a small heap collections become rare, with a large one they are as usual, and afterwards all is as it was.
func TestGarbageIsCollectedLessOftenWhileTheHeapIsSmall(t *testing.T) {
	now := func() int {
		n := debug.SetGCPercent(100)
		debug.SetGCPercent(n)
		return n
	}
	before := now()
	stop := node.TuneGarbage()
	if before == 100 && now() <= 100 {
		t.Errorf("the target is %d%% with a small heap", now())
	}
	stop()
	if now() != before {
		t.Errorf("the target is %d%% afterwards, was %d%%", now(), before)
	}
	runtime.GC() // the cleanup that is left must change nothing any more
	runtime.GC()
	if now() != before {
		t.Errorf("the target is %d%% after a collection, was %d%%", now(), before)
	}
}
