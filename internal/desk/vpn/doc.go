// Package vpn opens a desk phone's tunnel into a site (AnyConnect), with openconnect as the engine, and knows where it stands.
//
// openconnect tells what the server assigned by the environment of a script. The script only writes it down: nothing that a server sends is run, and what is put on the link has been read with limits.
package vpn
