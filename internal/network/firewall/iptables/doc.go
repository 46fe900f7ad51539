// Package iptables writes a policy for iptables-restore, ip6tables-restore and ipset, and reads what iptables-save, ip6tables-save and `ipset save` say back as sets of packets.
//
// Rules of both kinds of iptables are read, those of nf_tables and the older ones, and those that people write for iptables-restore. As in [ringfence/internal/network/firewall/nft], the reader goes through them twice, with
// the first packets of connections and with those of connections that are up; packets have no extension headers, and none is a fragment. What is not understood is named, and the ruleset is then not known.
package iptables
