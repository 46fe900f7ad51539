// Package hep sends a copy of every SIP message to a capture server such as Homer, by HEP version 3.
//
// A message is masked by the room redact before it is queued: keys and credentials never leave, and never wait in memory either.
package hep
