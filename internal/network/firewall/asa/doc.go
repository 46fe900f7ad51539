// Package asa writes a policy as the commands of a Cisco ASA, and reads the configuration of one back as sets of packets: access-list extended with its objects, access-group, and what interfaces and their levels let through by themselves.
//
// It takes the semantics of release 9: access lists have both families, any is both, and addresses are real ones, before any translation. Nothing of it was judged by a device.
package asa
