// Package entry is one rule of a packet filter in the words that network devices share: protocols, addresses and ports, with the names that vendors give to them, and what a rule means as sets of packets.
//
// It has what the readers and writers of the formats beside it would otherwise each have for themselves; none of it is about one vendor.
package entry
