// Package syslog writes log records as RFC 5424 to a collector, over TLS (RFC 5425) or to this host's own socket.
//
// Who logs never waits: records are queued by the room outbox, and the collector is told how many were lost while it was away.
package syslog
