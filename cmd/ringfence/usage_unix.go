//go:build unix

package main

import (
	"syscall"
	"time"

	"ringfence/internal/service/swarm"
)

// processUsage returns what this process has used so far.
func processUsage() swarm.Usage {
	var u swarm.Usage
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	u.Memory, u.Peak = heldMemory()
	return u
}
