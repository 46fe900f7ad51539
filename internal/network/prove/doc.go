// Package prove compares what a firewall lets through with what a site needs, packet for packet: what is missing, what is too wide, which rules do nothing, and for each a packet that shows it.
//
// The comparison is exact. What was not understood of a firewall, or not resolved of the needs, makes the verdict unknown, whatever else was found.
package prove
