// Package dhcp asks a network's DHCP servers what a desk phone wants to know: its address, and where its profile is (RFC 2131, RFC 8415).
//
// Nobody proves who answers such a question. So an answer is read with limits, what is ill-formed in it is passed over and named, every server that answers is named as well, and
// what an option says of the profile is an address of HTTPS and no more: it can neither read the phone's parameters nor reach below TLS.
package dhcp
