// Package exceptions lists what is in the clear by a named exception, and ends it when the exception is over.
//
// Who may be in the clear is decided where a registration or a call begins. Here is the other half: every few seconds a [Warden] looks at the
// calls, registrations and connections that are there, and ends those in the clear whose device has no exception in force. It goes by
// what is there and not by a list of what was, so that nothing outlives an exception that was ended early, or during a restart.
package exceptions
