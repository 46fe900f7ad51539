// Package carrier says whether what this host sends goes through a tunnel of its own, such as a VPN, and counts the datagrams and segments that leave it, which tells what carries the tunnel.
package carrier
