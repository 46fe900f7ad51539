// Package firewall is what a firewall says, whoever made it: chains of rules that accept or drop sets of packets, in order, and what of it was not understood; and what a rendering lost.
package firewall
