package transaction

import "time"

// Timers are the base values of RFC 3261 section 17.1.1.1. The zero value is [DefaultTimers].
type Timers struct {
	T1 time.Duration // round-trip estimate
	T2 time.Duration // longest interval between retransmissions of a non-INVITE request or an INVITE response
	T4 time.Duration // how long a message may stay in the network
}

// DefaultTimers are the values of RFC 3261: 500 ms, 4 s and 5 s.
func DefaultTimers() Timers {
	return Timers{T1: 500 * time.Millisecond, T2: 4 * time.Second, T4: 5 * time.Second}
}
