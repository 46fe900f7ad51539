// Package reflector is the far end of a readiness test: it opens the ports that a prober asks for and answers that prober, and nobody else.
//
// A prober proves that it has the shared key on a control channel over TCP, which also shows that it is where it says it is. Datagrams are answered to that address only, at most as long as
// they came and each number once, so that a copied datagram with a forged sender reaches nobody. Ports close when the channel does.
package reflector
