// Package ufw writes a policy as the rules files of ufw: user.rules and user6.rules with one rule for each pair of networks, as ufw itself writes them, and before.rules and before6.rules for what ufw has no words for.
//
// What ufw makes of them is read as any other rules of iptables, by [ringfence/internal/network/firewall/iptables].
package ufw
