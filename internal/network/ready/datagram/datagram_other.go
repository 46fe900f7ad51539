//go:build !linux

package datagram

import "net/netip"

func (c *Conn) attend() {}

// Whole does nothing here: how to forbid fragments has no portable form.
func (c *Conn) Whole() {}

// Hops does nothing here: who refused a datagram has no portable form either.
func (c *Conn) Hops(int) {}

func markOf([]byte) uint8 { return NoMark }

func withMark(netip.Addr, uint8) []byte { return nil }

// Refusals returns nothing here: who refused a datagram has no portable form.
func (c *Conn) Refusals() []Refusal { return nil }
