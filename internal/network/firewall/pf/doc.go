// Package pf writes a policy as a pf.conf of OpenBSD and FreeBSD, and reads one back as sets of packets: the last rule that matches decides, unless one that matches is quick.
//
// A forwarded packet is judged twice, where it comes in and where it leaves, and must pass both times; what comes back has a state at both. Nothing of it was judged by a kernel of those systems.
package pf
