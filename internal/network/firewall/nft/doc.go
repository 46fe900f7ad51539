// Package nft writes a policy as an nftables ruleset, and reads what the kernel says of its own (`nft -j list ruleset`) back as sets of packets.
//
// The reader goes through the rules twice, with the first packets of connections and with those of connections that are up: whether a rule for a state has a packet depends on that. Packets with extension headers of
// IPv6 before the protocol, and fragments, are taken as if they had none. What the reader does not understand is named, and the ruleset is then not known.
package nft
