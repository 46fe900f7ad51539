// Package datagram sends and receives datagrams with what else the network did to them: the mark, and who refused them on the way.
package datagram
