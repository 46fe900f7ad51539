// Package iosacl writes a policy as the configuration of a router that speaks Cisco IOS, and reads such a configuration back as sets of packets: access lists of both families on interfaces, object groups, and zones whose policies name such lists.
//
// What is written is a zone-based firewall whose classes are extended access lists. It is exact where lists on interfaces are not: a pair of zones knows where a packet comes in and where it leaves, and its state lets back
// what belongs to a connection and nothing else. `established` lets in whatever says that it belongs to one, and nothing of UDP; reflexive lists know no errors of ICMP, and no object groups in some releases.
// Nothing of it was judged by a device.
package iosacl
