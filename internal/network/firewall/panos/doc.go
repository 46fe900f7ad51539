// Package panos writes a policy as set commands of PAN-OS, and reads such commands back as sets of packets: address and service objects with their groups, and security rules by zones, in order.
//
// Rules decide by what packets say, not by what they carry: a rule for any application is read, and so is one for ping, which is a message of ICMP; of any other application it is said that it cannot be known. Nothing of it was judged by a device.
package panos
