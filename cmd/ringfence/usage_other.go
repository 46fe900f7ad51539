//go:build !unix

package main

import "ringfence/internal/service/swarm"

// processUsage returns nothing: this system does not say what a process has used in a way that is read here.
func processUsage() (u swarm.Usage) {
	u.Memory, u.Peak = heldMemory()
	return u
}
