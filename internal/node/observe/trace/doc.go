// Package trace sends each finished call as an OpenTelemetry trace: the call is the root span, each leg a span below it.
//
// It is the only room that knows OpenTelemetry. Nothing is traced while a call is up: the spans are made from the record of the
// call when it has ended, on a goroutine of their own.
package trace
