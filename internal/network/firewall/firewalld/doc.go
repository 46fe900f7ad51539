// Package firewalld writes a policy as zones, policies and sets of addresses for /etc/firewalld, and says what their rich rules cannot say.
//
// What firewalld makes of them is read as any other rules of nftables, by [ringfence/internal/network/firewall/nft].
package firewalld
