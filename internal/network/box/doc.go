// Package box does exact arithmetic with sets of packets: a [Box] is a product of intervals, a [List] is a union of boxes, and what two sets differ in is a list again, with a packet to show for it.
//
// Nothing is approximated: addresses are whole numbers of 128 bits, and a set that would fall into too many pieces is an error, never a guess.
package box
