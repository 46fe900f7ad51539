// Package sip turns bytes into SIP messages and back, and nothing else.
//
// A [Message] is one buffer plus the offsets of its start line, header fields and body (RFC 3261 section 7). Parsing
// copies nothing and, with a reused Message, allocates nothing; typed accessors such as [Message.TopVia] read the buffer
// on demand and return slices of it. [Limits] are checked before any work is done on hostile input. [Message.Validate]
// adds the checks of RFC 3261 section 8.2 that need more than the grammar, and keeps the offsets of what every layer asks for next. A [Writer]
// builds messages by appending.
package sip
