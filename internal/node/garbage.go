package node

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// heapSlack is how much garbage may gather before it is collected, however little is alive. A node with few phones has a heap of
// some megabytes; collecting whenever that doubles would be many times a second under load, and cost a tenth of the processor.
const heapSlack = 128 << 20

// collector keeps the runtime's target at what is alive plus heapSlack, or twice what is alive if that is more. It adjusts itself
// after each collection, told by a cleanup of an object that each collection frees.
type collector struct {
	stopped atomic.Bool
	before  int // the percentage to go back to
}

// TuneGarbage lets a program that is one node trade up to 128 MiB of memory for fewer collections, until stop is called. It does
// nothing if the environment sets GOGC: who did knows better.
func TuneGarbage() (stop func()) {
	c := &collector{before: debug.SetGCPercent(100)}
	if c.before != 100 {
		debug.SetGCPercent(c.before)
		return func() {}
	}
	c.adjust()
	return c.stop
}

func (c *collector) adjust() {
	if c.stopped.Load() {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := 100
	if n := live[0].Value.Uint64(); n < heapSlack {
		percent = int(heapSlack * 100 / max(n, 1<<20))
	}
	debug.SetGCPercent(percent)
	runtime.AddCleanup(&[16]byte{}, func(c *collector) { c.adjust() }, c)
}

func (c *collector) stop() {
	c.stopped.Store(true)
	debug.SetGCPercent(c.before)
}
