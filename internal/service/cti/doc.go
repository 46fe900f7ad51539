// Package cti is the interface by which other systems follow the calls of users, as seed document 004 has it: a client connects with mutual TLS, is known by a name of its certificate (ClientIdentity), opens a channel, subscribes to
// users one by one, and gets their events.
//
// The messages are XML of the namespace http://schema.broadsoft.com/xsi, with the elements that public clients of such events know. How the original puts them onto a TLS connection is not public; here each message is
// preceded by its length in four bytes, as docs/guides/cti.md shows, and compatibility with clients of the original is not claimed.
package cti
